"""k-means by Lloyd's iterations, in blocks of rows."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.ops._check import as_float, check_shape
from ssljax.ops._normalize import l2_normalize


def kmeans(x, k, *, rng=None, init=None, iters=10, spherical=False, chunk_size=256):
  """Lloyd's k-means: `iters` times rows join their nearest centroid, which moves to their mean.

    a_i = argmin_j |x_i - c_j|^2,  c_j = mean of the x_i with a_i = j
    spherical:  a_i = argmax_j x_i . c_j,  c_j = that mean at length one

  An empty cluster keeps its centroid; of equally near centroids the first is taken. All iterations
  are made, converged or not. The assignment is to the centroids that are returned, as in
  DeepCluster v2 and in scikit-learn: one more assignment than there are updates. `iters=0` with
  `init` only assigns.

  Args:
    x: [N, D]. If spherical, a row counts in the mean by its length: normalise rows that should
      count the same. On a mesh the rows may be split over devices.
    k: K, the number of clusters, at most N unless `init` is given.
    rng: draws K distinct rows to start from, where `init` is None.
    init: [K, D], centroids to start from; made to length one if spherical.
    iters: updates of the centroids.
    spherical: compare by dot products, and keep centroids at length one.
    chunk_size: rows compared at a time: [K, chunk_size] products are held.

  Returns:
    centroids: [K, D], float32 at least.
    assignment: int32 [N].

  Raises:
    InputError: a shape does not fit; neither `rng` nor `init` is given; k, iters or chunk_size is
      out of range.

  References: Lloyd 1982; spherical as in `cluster_memory` of DeepCluster v2
  (https://arxiv.org/abs/2006.09882), Appendix D.
  """
  check_shape('x', x, ('N', 'D'))
  rows, width = x.shape
  if init is not None:
    check_shape('init', init, (k, width))
  elif rng is None:
    raise InputError('kmeans has neither rng nor init, wanted one of them')
  elif not 1 <= k <= rows:
    raise InputError(f'k is {k}, wanted 1 to {rows}, the number of rows')
  for name, value, least in (('iters', iters, 0), ('chunk_size', chunk_size, 1)):
    if value < least:
      raise InputError(f'{name} is {value}, wanted at least {least}')
  if init is None:
    init = jnp.asarray(x)[jax.random.choice(rng, rows, (k,), replace=False)]
  return _lloyd(as_float(x), as_float(init), iters=iters, spherical=spherical, chunk=chunk_size)


@functools.partial(jax.jit, static_argnames=('iters', 'spherical', 'chunk'))
def _lloyd(x, centroids, *, iters, spherical, chunk):
  k, rows = len(centroids), len(x)
  count = -(-rows // chunk)
  size = -(-rows // count)
  # Block b is rows b, b + count, ...: on a mesh every device has a share of each block.
  padded = jnp.pad(x, ((0, count * size - rows), (0, 0)))
  blocks = padded.reshape(size, count, -1)
  # Distances do not change when all moves, and lose fewer digits around the origin.
  origin = 0.0 if spherical else jnp.mean(x, axis=0)
  # In the type of the scores: a minimum of integers is slower on CPU. Exact up to 2^24 clusters.
  ids = jnp.arange(k, dtype=x.dtype)[:, None]

  def assign(centroids):
    # |x - c|^2 is |x|^2, which all centroids share, less twice x . c - |c|^2 / 2: one product, if
    # the rows have a last feature of 1. XLA would spend another pass over the scores on the term.
    c = centroids - origin
    if not spherical:
      c = jnp.concatenate([c, -jnp.sum(c * c, axis=1, keepdims=True) / 2], axis=1)

    def block(b):
      q = lax.dynamic_index_in_dim(blocks, b, axis=1, keepdims=False) - origin
      if not spherical:
        q = jnp.concatenate([q, jnp.ones_like(q[:, :1])], axis=1)
      # Centroids by rows: reductions over the leading axis are vectorised on CPU. And the argmax
      # is two plain ones: XLA's own is not. The barrier keeps it from an array of equal maxima.
      s = jnp.matmul(c, q.T, precision=lax.Precision.HIGHEST)
      best = lax.optimization_barrier(jnp.max(s, axis=0))
      return jnp.min(jnp.where(s == best, ids, k - 1), axis=0)

    return lax.map(block, jnp.arange(count)).astype(jnp.int32).T.reshape(-1)[:rows]

  def update(_, centroids):
    assignment = assign(centroids)
    total = jax.ops.segment_sum(x, assignment, k)
    members = jax.ops.segment_sum(jnp.ones(rows, x.dtype), assignment, k)[:, None]
    moved = total / jnp.maximum(members, 1)
    return jnp.where(members > 0, l2_normalize(moved) if spherical else moved, centroids)

  centroids = l2_normalize(centroids) if spherical else centroids
  centroids = lax.fori_loop(0, iters, update, centroids)
  return centroids, assign(centroids)
