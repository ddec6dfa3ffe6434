"""Probes against NumPy and scikit-learn, label-free numbers against the authors', the doctor
against runs that are well and runs that are ill."""

import json
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.errors import InputError
from ssljax.evaluators import (
  PROTOCOLS,
  alignment,
  alpha_req,
  describe,
  diagnose,
  feature_std,
  knn_v1,
  lidar,
  linear,
  linear_v1,
  rankme,
  run_protocols,
  singular_values,
  uniformity,
)


def blobs(n, m, d, classes, seed=0, spread=2.0):
  """Gaussian classes that overlap, on a shared offset and with unequal scales."""
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(classes, d))
  y = np.arange(n + m) % classes
  x = (centres[y] + spread * rng.normal(size=(n + m, d))) * np.logspace(-1, 1, d) + 3
  x = x.astype(np.float32)
  return x[:n], y[:n], x[n:], y[n:]


def features_of(data):
  return dict(zip(('train', 'train_label', 'test', 'test_label'), data, strict=True))


# Nearest neighbours


def knn_reference(train_x, train_y, test_x, num_classes, k, temperature):
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
  similarity = unit(test_x.astype(np.float64)) @ unit(train_x.astype(np.float64)).T
  predicted = []
  for row in similarity:
    nearest = np.argsort(-row, kind='stable')[:k]
    votes = np.zeros(num_classes)
    np.add.at(votes, train_y[nearest], np.exp(row[nearest] / temperature))
    predicted.append(votes.argmax())
  return np.array(predicted)


@pytest.mark.parametrize('k,temperature', [(1, 0.07), (20, 0.07), (20, 5.0), (200, 0.5)])
def test_knn_is_the_weighted_vote(k, temperature):
  train_x, train_y, test_x, _ = blobs(500, 130, 8, 7)
  expected = knn_reference(train_x, train_y, test_x, 7, k, temperature)
  options = {'num_classes': 7, 'k': k, 'temperature': temperature}
  # The predictions as test labels: accuracy 1 only if every one agrees.
  assert knn_v1(train_x, train_y, test_x, expected, **options) == 1
  blocks = {'chunk': 37, 'train_chunk': 64}
  assert knn_v1(train_x, train_y, test_x, expected, **options, **blocks) == 1


def test_knn_agrees_with_scikit_learn():
  from sklearn.neighbors import KNeighborsClassifier

  train_x, train_y, test_x, test_y = blobs(400, 200, 6, 5, spread=0.5)
  theirs = KNeighborsClassifier(
    20, metric='cosine', weights=lambda distance: np.exp((1 - distance) / 0.07)
  ).fit(train_x, train_y)
  ours = knn_v1(train_x, train_y, test_x, test_y, num_classes=5)
  assert ours == pytest.approx(theirs.score(test_x, test_y), abs=1e-9)
  assert 0.3 < ours < 0.95


def test_knn_ties_go_to_the_earlier_row_and_the_smaller_label():
  same = np.ones((6, 3), np.float32)
  test = np.ones((2, 3), np.float32)
  labels = np.array([3, 2, 2, 1, 1, 0])
  for train_chunk in (6, 2):
    options = {'num_classes': 4, 'train_chunk': train_chunk}
    assert knn_v1(same, labels, test, np.array([3, 3]), k=1, **options) == 1
    assert knn_v1(same, labels, test, np.array([1, 1]), k=5, **options) == 1
    assert knn_v1(same, labels, test, np.array([2, 1]), k=3, **options) == 0.5


def test_knn_uses_all_rows_when_there_are_fewer_than_k(caplog):
  train_x, train_y, test_x, _ = blobs(9, 30, 4, 3)
  expected = knn_reference(train_x, train_y, test_x, 3, 9, 0.07)
  with caplog.at_level(logging.WARNING):
    assert knn_v1(train_x, train_y, test_x, expected, num_classes=3) == 1
  assert 'k=20' in caplog.text and '9 training rows' in caplog.text


# Linear probe


def test_linear_solver_finds_scikit_learns_optimum():
  from sklearn.linear_model import LogisticRegression

  x, y, _, _ = blobs(300, 0, 10, 4)
  x, _ = linear._standardise(x.astype(np.float64), x)
  x, n = x.astype(np.float64), len(x)
  used = np.random.default_rng(1).random(n) < 0.8
  for l2 in (1.0, 1e-3):
    theirs = LogisticRegression(C=1 / (l2 * used.sum()), tol=1e-10, max_iter=5000)
    theirs.fit(x[used], y[used])
    with jax.enable_x64(True):
      start = (jnp.zeros((4, 10)), jnp.zeros(4))
      (w, b), slope = linear._fit(x, y, used.astype(float), l2, 1e-8, start)
      w, b = np.asarray(w), np.asarray(b)
      assert slope <= 1e-8
    np.testing.assert_allclose(w - w.mean(0), theirs.coef_ - theirs.coef_.mean(0), atol=2e-6)
    np.testing.assert_allclose(
      b - b.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=2e-6
    )


def test_linear_probe_is_the_documented_protocol():
  from sklearn.linear_model import LogisticRegression

  train_x, train_y, test_x, test_y = blobs(600, 400, 24, 5, spread=3.0)
  result = linear_v1(train_x, train_y, test_x, test_y, num_classes=5, seed=3)
  mean, std = train_x.mean(0), train_x.std(0)
  held_out = linear.stratified_split(train_y, 0.2, 3)
  assert [np.sum(held_out & (train_y == c)) for c in range(5)] == [24] * 5
  x, t = (train_x - mean) / std, (test_x - mean) / std

  def score(l2, fit_rows, x_at, y_at):
    model = LogisticRegression(C=1 / (l2 * fit_rows.sum()), tol=1e-8, max_iter=5000)
    return model.fit(x[fit_rows], train_y[fit_rows]).score(x_at, y_at)

  validation = [score(l2, ~held_out, x[held_out], train_y[held_out]) for l2 in linear.L2_GRID]
  # The sweep stops early, so one validation row may differ.
  assert result['validation_accuracy'] == pytest.approx(max(validation), abs=1 / 120 + 1e-9)
  everything = np.ones(600, bool)
  expected = score(result['l2'], everything, t, test_y)
  assert result['accuracy'] == pytest.approx(expected, abs=1 / 400 + 1e-9)
  assert 0.4 < result['accuracy'] < 0.97


def test_linear_probe_chooses_the_penalty_by_validation():
  rng = np.random.default_rng(0)
  y = np.arange(1200) % 2
  x = (rng.normal(size=(1200, 300)) + 0.1 * y[:, None]).astype(np.float32)
  data = (x[:200], y[:200], x[200:], y[200:])
  chosen = linear_v1(*data, num_classes=2)
  weak = linear_v1(*data, num_classes=2, l2_grid=(1e-4,))
  assert chosen['l2'] > 1e-3 and weak['l2'] == 1e-4
  assert chosen['validation_accuracy'] > weak['validation_accuracy']
  assert chosen['accuracy'] > weak['accuracy']


def test_linear_probe_with_few_labels_sees_only_those():
  train_x, train_y, test_x, test_y = blobs(400, 100, 8, 4)
  few = linear_v1(train_x, train_y, test_x, test_y, num_classes=4, labels_per_class=10, seed=1)
  rows = linear.draw_per_class(train_y, 10, 1)
  assert np.bincount(train_y[rows]).tolist() == [10] * 4
  assert not np.array_equal(rows, linear.draw_per_class(train_y, 10, 2))
  others = np.setdiff1d(np.arange(400), rows)
  spoiled = train_x.copy()
  spoiled[others] = 1e3
  again = linear_v1(spoiled, train_y, test_x, test_y, num_classes=4, labels_per_class=10, seed=1)
  assert again == few
  assert few == linear_v1(train_x[rows], train_y[rows], test_x, test_y, num_classes=4, seed=1)


def test_linear_probe_ignores_constant_features_and_scale():
  train_x, train_y, test_x, test_y = blobs(200, 100, 6, 3)
  plain = linear_v1(train_x, train_y, test_x, test_y, num_classes=3)
  widen = lambda x, value: np.c_[x * 256, np.full(len(x), value, np.float32)]  # noqa: E731
  wide = linear_v1(widen(train_x, 0.1), train_y, widen(test_x, 7), test_y, num_classes=3)
  assert wide == plain


# What both are asked


@pytest.mark.parametrize('probe', [knn_v1, linear_v1])
def test_probes_take_low_precision_device_arrays_under_the_transfer_guard(probe):
  data = [jax.device_put(a) for a in blobs(60, 40, 4, 2)]
  half = [a.astype(jnp.bfloat16) if a.dtype == jnp.float32 else a for a in data]
  exact = [np.asarray(a, np.float32) if a.dtype == jnp.bfloat16 else np.asarray(a) for a in half]
  with jax.transfer_guard('disallow'):
    result = probe(*half, num_classes=2)
  assert result == probe(*exact, num_classes=2)
  probe(*(a.astype(np.float16) if a.dtype == np.float32 else a for a in exact), num_classes=2)


@pytest.mark.parametrize('name', ['knn-v1', 'linear-v1'])
@pytest.mark.parametrize('classes', [1, 4])
def test_one_class_is_always_right(name, classes):
  x = np.random.default_rng(0).normal(size=(12, 3))
  data = features_of((x, np.zeros(12, int), x, np.zeros(12, int)))
  assert run_protocols(data, [name], classes) == {name: 1.0}


@pytest.mark.parametrize('name', ['knn-v1', 'linear-v1'])
@pytest.mark.parametrize(
  'key,change,message',
  [
    ('train', lambda x: np.where(np.arange(20)[:, None] == 3, np.nan, x), 'train.*row 3'),
    ('test', lambda x: x / np.float32(0), 'test features: 20 of 20 rows have NaN'),
    ('test', lambda x: x[:, :2], 'width 2 seen, 4 wanted'),
    ('train', lambda x: x[:, 0], r'shape \(20,\) seen, \[N, D\] wanted'),
    ('test', lambda x: x[:0], r'shape \(0, 4\) seen'),
    ('train_label', lambda y: y[:-1], r'integers of shape \(20,\) wanted'),
    ('train_label', lambda y: y * 1.0, 'float64 of shape'),
    ('test_label', lambda y: y - 1, r'-1 to 1 seen, 0 to 2 wanted'),
    ('test_label', lambda y: y + 3, '3 to 5 seen'),
  ],
)
@pytest.mark.filterwarnings('ignore:divide by zero')
def test_arrays_that_cannot_be_used_are_refused(name, key, change, message):
  data = features_of(blobs(20, 20, 4, 3))
  data[key] = change(data[key])
  with pytest.raises(InputError, match=message):
    run_protocols(data, [name], 3)


def test_too_few_labels_are_refused():
  data = features_of(blobs(20, 9, 4, 3))
  with pytest.raises(InputError, match='class 2 has 6 labels, 7 wanted'):
    run_protocols(data, ['linear-v1-7'], 3)
  with pytest.raises(InputError, match='labels_per_class: 1 seen, at least 2'):
    run_protocols(data, ['linear-v1-1'], 3)
  single = features_of(blobs(3, 9, 4, 3))
  with pytest.raises(InputError, match='one row of each class'):
    run_protocols(single, ['linear-v1'], 3)


# Protocols


def test_protocols_are_the_functions_they_name():
  data = blobs(90, 60, 5, 3)
  names = ['knn-v1', 'linear-v1', 'linear-v1-10', 'knn-v1-10']
  scores = run_protocols(features_of(data), names, 3, seed=4)
  rows = linear.draw_per_class(data[1], 10, 4)
  few = (data[0][rows], data[1][rows], *data[2:])
  assert list(scores) == names
  assert scores['knn-v1'] == knn_v1(*data, num_classes=3)
  assert scores['linear-v1'] == linear_v1(*data, num_classes=3, seed=4)['accuracy']
  assert scores['linear-v1-10'] == linear_v1(*few, num_classes=3, seed=4)['accuracy']
  assert scores['knn-v1-10'] == knn_v1(*few, num_classes=3)


def test_describe_holds_the_whole_definition():
  for name in PROTOCOLS:
    assert json.loads(json.dumps(describe(name))) == describe(name)
  assert (describe('knn-v1')['k'], describe('knn-v1')['temperature']) == (20, 0.07)
  assert describe('knn-v1')['labels_per_class'] == 'all'
  few = describe('linear-v1-100')
  assert few['labels_per_class'] == 100 and few['l2_grid'] == list(linear.L2_GRID)


@pytest.mark.parametrize('name', ['knn-v2', 'linear', 'liner-v1', 'linear-v1-0', 'linear-v1-x', ''])
def test_unknown_protocols_name_the_nearest(name):
  nearest = 'knn-v1' if name.startswith('knn') else 'linear-v1'
  with pytest.raises(InputError, match=f'{name!r} seen.*nearest: {nearest!r}' if name else 'seen'):
    describe(name)


def test_missing_features_are_named():
  with pytest.raises(InputError, match='test_label missing'):
    run_protocols({'train': 0, 'train_label': 0, 'test': 0}, ['knn-v1'], 2)


# Label-free numbers


def test_rankme_equals_the_authors(golden):
  with jax.enable_x64(True):
    for case in golden('rankme'):
      x = case['in']['x']
      value = rankme(x, float(case['hp']['eps']))
      np.testing.assert_allclose(value, case['out']['value'], rtol=1e-10)
      np.testing.assert_allclose(singular_values(x), case['out']['singular_values'], rtol=1e-10)


def test_lidar_equals_the_authors(golden):
  with jax.enable_x64(True):
    for case in golden('lidar'):
      x, hp = case['in']['x'], case['hp']
      n, q = int(hp['n_classes']), int(hp['samples_per_class'])
      views = x[: n * q].reshape(n, q, -1)
      value = lidar(views, float(hp['delta']), float(hp['epsilon']))
      np.testing.assert_allclose(value, case['out']['value'], rtol=1e-8)
      np.testing.assert_allclose(jax.jit(lidar)(views.astype(np.float32)), lidar(views), rtol=1e-3)


def test_label_free_numbers_equal_their_formulas():
  rng = np.random.default_rng(0)
  views = rng.normal(size=(30, 3, 7)) + 0.5
  x = views.reshape(90, 7)
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  with jax.enable_x64(True):
    s = np.linalg.svd(x, compute_uv=False)
    p = s / s.sum() + 1e-7
    np.testing.assert_allclose(rankme(x), np.exp(-(p * np.log(p)).sum()), rtol=1e-10)

    centre = views.mean(1)
    sb = np.cov(centre.T)
    sw = sum(np.cov(v.T, ddof=1) for v in views) / 30 + 1e-4 * np.eye(7)
    l = np.linalg.eigvals(np.linalg.solve(sw, sb)).real  # noqa: E741
    p = (l + 1e-8) / (l + 1e-8).sum()
    np.testing.assert_allclose(lidar(views), np.exp(-(p * np.log(p)).sum()), rtol=1e-8)

    squared = ((unit[:, None] - unit[None]) ** 2).sum(-1)
    pairs = squared[np.triu_indices(90, 1)]
    for chunk in (1024, 32, 7):
      np.testing.assert_allclose(
        uniformity(x, 3.0, chunk), np.log(np.exp(-3 * pairs).mean()), rtol=1e-10
      )
    grid = squared.reshape(30, 3, 30, 3)
    for alpha in (2.0, 1.0):
      own = [
        grid[i, v, i, w] ** (alpha / 2) for i in range(30) for v, w in ((0, 1), (0, 2), (1, 2))
      ]
      np.testing.assert_allclose(alignment(views, alpha), np.mean(own), rtol=1e-10)
    np.testing.assert_allclose(feature_std(x), unit.std(0).mean(), rtol=1e-10)


def test_alpha_req_finds_the_exponent():
  rng = np.random.default_rng(0)
  q, _ = np.linalg.qr(rng.normal(size=(400, 150)))
  q, _ = np.linalg.qr(q - q.mean(0))
  basis, _ = np.linalg.qr(rng.normal(size=(150, 150)))
  rank = np.arange(1, 151)
  eigenvalues = rank**-1.3
  eigenvalues[:3] = 50
  eigenvalues[100:] = 1e-5
  with jax.enable_x64(True):
    x = q * np.sqrt(eigenvalues) @ basis + 5
    np.testing.assert_allclose(alpha_req(x), 1.3, rtol=1e-6)
    eigenvalues *= np.exp(0.3 * rng.normal(size=150))
    eigenvalues = np.sort(eigenvalues)[::-1]
    x = q * np.sqrt(eigenvalues) @ basis + 5
    slope, _ = np.polyfit(
      np.log(rank[9:40]), np.log(eigenvalues[9:40]), 1, w=1 / np.sqrt(rank[9:40])
    )
    np.testing.assert_allclose(alpha_req(x, 10, 40), -slope, rtol=1e-6)
  assert math.isnan(alpha_req(x[:5]))
  assert math.isnan(alpha_req(np.ones((40, 20))))


def test_label_free_numbers_tell_collapse_from_spread():
  rng = np.random.default_rng(0)
  spread = rng.normal(size=(2000, 64)).astype(np.float32)
  point = np.broadcast_to(spread[:1], spread.shape)
  assert rankme(spread) > 60 and rankme(point) == pytest.approx(1, abs=1e-3)
  assert feature_std(spread) == pytest.approx(1 / 8, rel=0.01) and feature_std(point) < 1e-6
  assert uniformity(point) == pytest.approx(0, abs=1e-5) and uniformity(spread) < -3.8
  assert rankme(0 * spread) == pytest.approx(1, abs=1e-3) and feature_std(0 * spread) == 0
  pairs = np.stack([spread, spread + 0.1], 1)
  assert alignment(np.stack([spread, spread], 1)) == 0 < alignment(pairs)
  for function in (rankme, uniformity, feature_std, alpha_req):
    low = function(jnp.asarray(spread[:200], jnp.bfloat16))
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, function(spread[:200]), rtol=0.02)


def test_label_free_shapes_are_checked():
  with pytest.raises(ValueError, match=r'x: shape \(3,\) seen, \[N, D\] wanted'):
    rankme(np.ones(3))
  with pytest.raises(ValueError, match='at least 2 inputs of 2 views'):
    lidar(np.ones((4, 1, 3)))
  with pytest.raises(ValueError, match='at least 2 rows'):
    uniformity(np.ones((1, 3)))
  with pytest.raises(ValueError, match='at least 2 views'):
    alignment(np.ones((4, 1, 3)))


# Doctor


def healthy(steps=1000, every=10):
  rng = np.random.default_rng(0)
  history = []
  for step in range(every, steps + 1, every):
    line = {'step': step, 'loss': 4.5 + 1.7 * math.exp(-step / 200) + 0.05 * rng.normal()}
    line |= {'chance_loss': 6.236, 'grad_norm': 0.5 + 20 * math.exp(-step / 50)}
    line |= {'data_wait_fraction': 0.9 if step < 30 else 0.02 + 0.02 * rng.random()}
    line |= {'feature_std': 0.03, 'embedding_dim': 512, 'rankme': 80.0}
    history.append(line)
    if step % 500 == 0:
      history.append({'step': step, 'knn-v1/learned': 0.4 + step / 5000, 'knn-v1/random': 0.31})
  return history


def changed(key, value, after=0):
  """The healthy run with `key` given by value(step) after a step."""
  return [
    line | {key: value(line['step'])} if key in line and line['step'] > after else line
    for line in healthy()
  ]


def test_doctor_is_silent_on_healthy_runs():
  assert diagnose([], total_steps=100) == []
  for length in (1, 2, 5, 20, 60, 102):
    assert diagnose(healthy()[:length], total_steps=1000) == []
  assert diagnose([{'step': 1, 'loss': 3.0}], total_steps=1) == []
  negative = changed('loss', lambda s: -1 + math.exp(-s / 100))
  assert diagnose(negative, total_steps=1000) == []
  small = changed('loss', lambda s: 1e-4 + 10 * math.exp(-s / 20))
  assert diagnose(small, total_steps=1000) == []
  spikes = changed('grad_norm', lambda s: 1e4 if s % 250 == 0 else 0.5)
  assert diagnose(spikes, total_steps=1000) == []


@pytest.mark.parametrize(
  'history,words',
  [
    (changed('feature_std', lambda s: 1e-4, 500), ('Collapsed', 'step 1000', '0.0001', '0.044')),
    (changed('rankme', lambda s: 1.02), ('Collapsed', 'rank', '1.02')),
    (changed('loss', lambda s: 6.23), ('Stuck', '6.23,', '6.236', 'learning rate')),
    (changed('loss', lambda s: 5 * 1.02 ** (s - 500), 500), ('Exploding', 'loss', 'step 1000')),
    (changed('grad_norm', lambda s: 1e3, 900), ('Exploding', 'grad_norm', '1000 at step 1000')),
    (changed('loss', lambda s: math.nan, 730), ('Not a number', 'loss', 'nan at step 740', '4.')),
    (changed('grad_norm', lambda s: math.inf, 0), ('Not a number', 'inf at step 10')),
    (changed('data_wait_fraction', lambda s: 0.35), ('Data-bound', '35%', 'workers')),
    (changed('knn-v1/learned', lambda s: 0.30), ('No better than random', '30.0% against 31.0%')),
    (changed('knn-v1/learned', lambda s: 0.311), ('No better than random', 'knn-v1')),
  ],
)
def test_doctor_names_the_illness_and_only_it(history, words):
  warnings = diagnose(history, total_steps=1000)
  assert len(warnings) == 1
  assert all(word in warnings[0] for word in words), warnings[0]


def test_doctor_waits_until_it_can_tell():
  early = [line for line in changed('loss', lambda s: 6.236) if line['step'] <= 190]
  assert diagnose(early, total_steps=1000) == []
  early = [line for line in changed('feature_std', lambda s: 1e-5) if line['step'] <= 90]
  assert diagnose(early, total_steps=1000) == []
  early = [line for line in changed('knn-v1/learned', lambda s: 0.2) if line['step'] <= 500]
  assert diagnose(early, total_steps=2000) == []


def test_doctor_finds_several_illnesses_worst_first():
  history = [line | {'loss': math.nan, 'feature_std': 0.0} for line in healthy() if 'loss' in line]
  kinds = [w.split(':')[0] for w in diagnose(history, total_steps=1000)]
  assert kinds == ['Not a number', 'Collapsed']
