"""Clusters against classes, and the protocol kmeans-v1."""

import itertools
import json

import jax
import numpy as np
import pytest

from ssljax.errors import InputError
from ssljax.evaluators import clustering, describe, kmeans_v1, run_protocols
from ssljax.report import words


def numpy_scores(assignment, labels):
  """By trying every matching and counting every pair."""
  clusters, classes = sorted(set(assignment)), sorted(set(labels))
  padded = classes + [-1] * max(0, len(clusters) - len(classes))
  accuracy = max(
    np.mean(np.array([dict(zip(clusters, names, strict=True))[a] for a in assignment]) == labels)
    for names in itertools.permutations(padded, len(clusters))
  )
  n = len(labels)
  p = np.array([[np.mean((assignment == a) & (labels == c)) for c in classes] for a in clusters])
  pa, pc = p.sum(1), p.sum(0)
  outer = pa[:, None] * pc
  mutual = (p[p > 0] * np.log(p[p > 0] / outer[p > 0])).sum()
  entropy = -(pa * np.log(pa)).sum() - (pc * np.log(pc)).sum()
  pairs = list(itertools.combinations(range(n), 2))
  same_a = np.array([assignment[i] == assignment[j] for i, j in pairs])
  same_c = np.array([labels[i] == labels[j] for i, j in pairs])
  expected = same_a.sum() * same_c.sum() / len(pairs)
  ari = ((same_a & same_c).sum() - expected) / ((same_a.sum() + same_c.sum()) / 2 - expected)
  return {'accuracy': accuracy, 'nmi': 2 * mutual / entropy, 'ari': ari}


@pytest.mark.parametrize('clusters,classes', [(3, 3), (5, 3), (3, 5)])
def test_scores_are_the_definitions(clusters, classes):
  rng = np.random.default_rng(clusters)
  labels = rng.integers(0, classes, 40)
  assignment = np.where(rng.random(40) < 0.5, labels % clusters, rng.integers(0, clusters, 40))
  seen, wanted = clustering.scores(assignment, labels), numpy_scores(assignment, labels)
  assert list(seen) == ['accuracy', 'nmi', 'ari']
  for name, value in wanted.items():
    assert seen[name] == pytest.approx(value, abs=1e-12), name


def test_names_of_clusters_do_not_matter():
  labels = np.array([0, 0, 1, 1, 2, 2, 2])
  assert set(clustering.scores((labels + 1) % 3, labels).values()) == {1.0}
  # Everything in one cluster: the largest class is matched, and nothing is told.
  assert clustering.scores(np.zeros(7, int), labels) == {'accuracy': 3 / 7, 'nmi': 0, 'ari': 0}


def blobs(spread, n=240, classes=4, seed=0):
  rng = np.random.default_rng(seed)
  labels = np.arange(n) % classes
  x = rng.normal(size=(classes, 6))[labels] + spread * rng.normal(size=(n, 6))
  return x.astype(np.float32), labels


def test_kmeans_v1_finds_classes_that_are_clusters():
  x, labels = blobs(0.05)
  # Lengths say nothing: rows are normalised.
  x = x * np.random.default_rng(1).uniform(0.1, 10, (len(x), 1)).astype(np.float32)
  assert kmeans_v1(x[:3], labels[:3], x, labels, num_classes=4) == {
    'accuracy': 1.0,
    'nmi': 1.0,
    'ari': 1.0,
  }
  with jax.transfer_guard('disallow'):
    mixed, labels = blobs(1.0)
    seen = kmeans_v1(mixed[:3], labels[:3], mixed, labels, num_classes=4)
  assert 0.3 < seen['accuracy'] < 0.95


def test_kmeans_v1_takes_the_best_of_its_starts():
  from sklearn.cluster import KMeans

  x, labels = blobs(0.6, n=400, classes=8)
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  fit = clustering._best_of_starts(jax.device_put(x), np.uint32(0), k=8)
  means = np.stack([unit[np.asarray(fit) == j].mean(0) for j in range(8)])
  spread = ((unit - means[np.asarray(fit)]) ** 2).sum()
  best = KMeans(8, n_init=50, random_state=0).fit(unit).inertia_
  single = [
    KMeans(8, n_init=1, init='random', random_state=i).fit(unit).inertia_ for i in range(10)
  ]
  assert best * 0.999 <= spread < np.median(single)


def test_the_protocol_gives_three_numbers_by_name():
  x, labels = blobs(0.8)
  features = {'train': x[:9], 'train_label': labels[:9], 'test': x, 'test_label': labels}
  wanted = kmeans_v1(x[:9], labels[:9], x, labels, num_classes=4, seed=3)
  seen = run_protocols(features, ['knn-v1', 'kmeans-v1'], 4, seed=3)
  assert list(seen) == ['knn-v1', 'kmeans-v1', 'kmeans-v1-nmi', 'kmeans-v1-ari']
  names = {'kmeans-v1': 'accuracy', 'kmeans-v1-nmi': 'nmi', 'kmeans-v1-ari': 'ari'}
  assert {name: seen[name] for name in names} == {n: wanted[m] for n, m in names.items()}
  assert run_protocols(features, ['kmeans-v1-ari'], 4, seed=3) == {'kmeans-v1-ari': wanted['ari']}


def test_each_number_is_described():
  for name, word in {'kmeans-v1': 'matching', 'kmeans-v1-nmi': 'mutual'}.items():
    assert json.loads(json.dumps(describe(name))) == describe(name)
    assert word in describe(name)['metric'] and describe(name)['labels_per_class'] == 0
  assert words.protocol('kmeans-v1-nmi') == 'k-means NMI'
  assert words.protocol('kmeans-v1') == 'k-means'


@pytest.mark.parametrize(
  'name,sentence',
  [
    ('kmeans-v1-100', 'no labels'),
    ('kmeans-v1-f1', 'nearest'),
    ('knn-v1-nmi', "nearest: 'knn-v1'"),
  ],
)
def test_names_that_mean_nothing_are_refused(name, sentence):
  with pytest.raises(InputError, match=sentence):
    describe(name)


@pytest.mark.parametrize(
  'assignment,labels,sentence',
  [
    ([0, 1], [0, 1, 1], '2 and 3 rows seen'),
    ([0.0, 1.0], [0, 1], 'assignment: float64'),
    ([0, 1], [0, -1], 'labels: int64'),
    (np.zeros(0, int), np.zeros(0, int), r'shape \(0,\) seen'),
  ],
)
def test_arrays_that_do_not_fit_are_refused(assignment, labels, sentence):
  with pytest.raises(InputError, match=sentence):
    clustering.scores(assignment, labels)
