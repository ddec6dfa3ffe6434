"""Exact nearest neighbours and k-means, which work in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax import ops
from ssljax.errors import InputError


def draws(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sharded(x, *axes):
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  return jax.device_put(x, NamedSharding(mesh, P(*axes)))


# Nearest.


def numpy_nearest(queries, keys, k, exclude=None):
  scores = queries.astype(np.float64) @ keys.astype(np.float64).T
  if exclude is not None:
    scores[np.arange(len(queries)), exclude] = -np.inf
  ids = np.argsort(-scores, axis=1, kind='stable')[:, :k]
  return np.take_along_axis(scores, ids, 1), ids


@pytest.mark.parametrize('k', [1, 7, 60])
@pytest.mark.parametrize('blocks', [(256, 16384), (16, 64), (7, 301), (1, 100), (50, 1)])
def test_nearest_are_the_first_of_all_sorted(k, blocks):
  queries, keys = draws(50, 6), draws(601, 6, seed=1)
  scores, ids = ops.nearest(queries, keys, k, chunk_size=blocks[0], key_chunk_size=blocks[1])
  wanted_scores, wanted = numpy_nearest(queries, keys, k)
  np.testing.assert_array_equal(ids, wanted)
  np.testing.assert_allclose(scores, wanted_scores, rtol=1e-5, atol=1e-5)
  assert ids.dtype == jnp.int32 and scores.dtype == jnp.float32


@pytest.mark.parametrize('key_chunk_size', [16384, 100, 33])
def test_ties_of_nearest_go_to_the_smaller_id(key_chunk_size):
  # Whole numbers, few of them: every score is exact and is had by many keys.
  rng = np.random.default_rng(0)
  queries, keys = rng.integers(-1, 2, (40, 3)), rng.integers(-1, 2, (500, 3))
  _, ids = ops.nearest(queries, keys, 30, key_chunk_size=key_chunk_size, chunk_size=9)
  np.testing.assert_array_equal(ids, numpy_nearest(queries, keys, 30)[1])


def test_nearest_of_all_keys_and_all_but_one():
  x = -np.abs(draws(9, 4)) - 1  # scores that are negative or positive, never those of padding
  y = -x[:5]
  np.testing.assert_array_equal(ops.nearest(y, x, 9)[1], numpy_nearest(y, x, 9)[1])
  own = np.arange(9)
  _, ids = ops.nearest(x, x, 8, exclude=own)
  np.testing.assert_array_equal(ids, numpy_nearest(x, x, 8, exclude=own)[1])
  assert not (np.asarray(ids) == own[:, None]).any()


def test_nearest_by_euclidean_distance():
  x = draws(200, 5) + 3
  q = draws(20, 5, seed=2) + 3
  ones = np.ones((20, 1), np.float32)
  keys = np.concatenate([x, -(x**2).sum(1, keepdims=True) / 2], 1)
  _, ids = ops.nearest(np.concatenate([q, ones], 1), keys, 4)
  distance = ((q[:, None].astype(np.float64) - x) ** 2).sum(-1)
  np.testing.assert_array_equal(ids, np.argsort(distance, axis=1)[:, :4])


def test_nearest_on_eight_devices_is_that_on_one():
  queries, keys, own = draws(64, 6), draws(300, 6, seed=1), np.arange(64)
  wanted = ops.nearest(queries, keys, 5, chunk_size=16, key_chunk_size=100, exclude=own)
  seen = ops.nearest(
    sharded(queries, 'data'),
    sharded(keys),
    5,
    chunk_size=16,
    key_chunk_size=100,
    exclude=sharded(own, 'data'),
  )
  np.testing.assert_allclose(seen[0], wanted[0], rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(seen[1], wanted[1])
  assert not seen[1].sharding.is_fully_replicated


# k-means.


def numpy_kmeans(x, centroids, iters, spherical=False):
  x, centroids = x.astype(np.float64), centroids.astype(np.float64)

  def assign(c):
    if spherical:
      return (x @ c.T).argmax(1)
    return ((x[:, None] - c) ** 2).sum(-1).argmin(1)

  for _ in range(iters):
    found = assign(centroids)
    for j in range(len(centroids)):
      if (found == j).any():
        centroids[j] = x[found == j].mean(0)
        if spherical:
          centroids[j] /= np.linalg.norm(centroids[j])
  return centroids, assign(centroids)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize('chunk_size', [512, 33, 1])
@pytest.mark.parametrize('spherical', [False, True])
@pytest.mark.parametrize('iters', [0, 1, 6])
def test_kmeans_is_lloyds(iters, spherical, chunk_size):
  x = draws(200, 5) + 1
  start = unit(x[:9]) if spherical else x[:9]
  options = {'init': start, 'iters': iters, 'spherical': spherical, 'chunk_size': chunk_size}
  centroids, assignment = ops.kmeans(x, 9, **options)
  wanted, wanted_assignment = numpy_kmeans(x, start, iters, spherical)
  np.testing.assert_allclose(centroids, wanted, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(assignment, wanted_assignment)
  assert assignment.dtype == jnp.int32


def test_kmeans_keeps_empty_clusters_and_ties_go_to_the_first():
  x = draws(50, 3)
  far = np.full((1, 3), 100, np.float32)
  start = np.concatenate([x[:2], far, x[:1]])
  centroids, assignment = ops.kmeans(x, 4, init=start, iters=1)
  np.testing.assert_array_equal(centroids[2], far[0])
  # The fourth is the first again: it gets nothing, and stays.
  np.testing.assert_array_equal(centroids[3], x[0])
  np.testing.assert_array_equal(ops.kmeans(x, 4, init=start, iters=0)[1] < 2, True)


def test_kmeans_keeps_its_digits_far_from_the_origin():
  x = draws(300, 4) + 1000  # |x|^2 is some 4 million, whose last digit is 0.25
  wanted, wanted_assignment = numpy_kmeans(x, x[:6], 5)
  centroids, assignment = ops.kmeans(x, 6, init=x[:6], iters=5)
  np.testing.assert_array_equal(assignment, wanted_assignment)
  np.testing.assert_allclose(centroids, wanted, rtol=1e-6)


def test_kmeans_draws_distinct_rows():
  x = draws(12, 2)
  centroids, assignment = ops.kmeans(x, 12, rng=jax.random.key(0), iters=1)
  assert sorted(np.asarray(assignment)) == list(range(12))
  np.testing.assert_allclose(centroids[assignment], x, rtol=1e-6)
  other = ops.kmeans(x, 3, rng=jax.random.key(1), iters=0)[0]
  assert (np.asarray(other) != np.asarray(centroids[:3])).any()


def test_kmeans_agrees_with_scikit_learn():
  from sklearn.cluster import KMeans

  x = draws(400, 6)
  theirs = KMeans(8, init=x[:8], n_init=1, max_iter=300, tol=0, algorithm='lloyd').fit(x)
  centroids, assignment = jax.jit(lambda x: ops.kmeans(x, 8, init=x[:8], iters=100))(x)
  np.testing.assert_array_equal(assignment, theirs.labels_)
  np.testing.assert_allclose(centroids, theirs.cluster_centers_, atol=1e-5)


def test_kmeans_on_eight_devices_is_that_on_one():
  x = draws(328, 5)
  wanted = ops.kmeans(x, 7, init=x[:7], iters=5, chunk_size=40)
  seen = ops.kmeans(sharded(x, 'data'), 7, init=x[:7], iters=5, chunk_size=40)
  np.testing.assert_allclose(seen[0], wanted[0], rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(seen[1], wanted[1])


@pytest.mark.parametrize(
  'call,sentence',
  [
    (lambda x: ops.kmeans(x, 3), 'kmeans has neither rng nor init'),
    (lambda x: ops.kmeans(x, 9, rng=jax.random.key(0)), 'k is 9, wanted 1 to 8'),
    (lambda x: ops.kmeans(x, 2, init=x[:3]), r'init has shape \(3, 4\), wanted \(2, 4\)'),
    (lambda x: ops.kmeans(x, 2, init=x[:2], iters=-1), 'iters is -1, wanted at least 0'),
    (lambda x: ops.kmeans(x, 2, init=x[:2], chunk_size=0), 'chunk_size is 0'),
    (lambda x: ops.nearest(x, x[:, :2], 1), r'keys has shape \(8, 2\)'),
    (lambda x: ops.nearest(x, x, 9), 'k is 9, wanted 1 to 8'),
    (lambda x: ops.nearest(x, x, 8, exclude=np.arange(8)), 'k is 8, wanted 1 to 7'),
    (
      lambda x: ops.nearest(x, x, 1, exclude=np.arange(7)),
      r'exclude has shape \(7\), wanted \(8\)',
    ),
    (lambda x: ops.nearest(x, x, 1, key_chunk_size=0), 'key_chunk_size is 0'),
  ],
)
def test_what_cannot_be_is_refused(call, sentence):
  with pytest.raises(InputError, match=sentence):
    call(draws(8, 4))
