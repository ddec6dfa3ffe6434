"""Exact nearest neighbours by dot product, in blocks."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.ops._check import as_float, check_shape


def nearest(queries, keys, k, *, chunk_size=256, key_chunk_size=16384, exclude=None):
  """The k keys with the largest dot product with each query, best first.

  Exact; of equal scores the key with the smaller id comes first. Normalise both for cosine
  similarity. For Euclidean distance give queries [q, 1] and keys [x, -|x|^2 / 2].

  Args:
    queries: [M, D]; on a mesh their rows may be split over devices.
    keys: [N, D].
    k: how many, from 1 to N (N - 1 with `exclude`).
    chunk_size: queries compared at a time.
    key_chunk_size: keys compared at a time: [chunk_size, key_chunk_size] products are held.
    exclude: int [M], for each query the id of a key it may not have (itself, for neighbours within
      one set).

  Returns:
    scores: [M, k], dot products in float32 at least.
    ids: int32 [M, k], rows of `keys`.

  Raises:
    InputError: a shape does not fit; k or a chunk size is out of range.
  """
  check_shape('queries', queries, ('M', 'D'))
  check_shape('keys', keys, ('N', queries.shape[1]))
  most = len(keys) - (exclude is not None)
  if not 1 <= k <= most:
    raise InputError(f'k is {k}, wanted 1 to {most}, the number of keys a query may have')
  for name, value in (('chunk_size', chunk_size), ('key_chunk_size', key_chunk_size)):
    if value < 1:
      raise InputError(f'{name} is {value}, wanted at least 1')
  if exclude is None:
    exclude = jnp.full(len(queries), -1, jnp.int32)
  check_shape('exclude', exclude, (len(queries),))
  return _search(
    as_float(queries), as_float(keys), exclude, k=k, chunk=chunk_size, key_chunk=key_chunk_size
  )


@functools.partial(jax.jit, static_argnames=('k', 'chunk', 'key_chunk'))
def _search(queries, keys, exclude, *, k, chunk, key_chunk):
  n, width = keys.shape
  tiles = -(-n // key_chunk)
  tile = -(-n // tiles)
  # Selecting costs tile / run for the runs and k * run for what is in them.
  run = max(4, round((tile / k) ** 0.5))
  runs = -(-tile // run)
  tile = runs * run
  keys = jnp.pad(keys, ((0, tiles * tile - n), (0, 0))).reshape(tiles, tile, width)
  keys = lax.optimization_barrier(keys.swapaxes(1, 2))

  def visit(best, block, q, banned):
    (best_s, best_ids), (columns, start) = best, block
    s = jnp.matmul(q, columns, precision=lax.Precision.HIGHEST)
    ids = start + jnp.arange(tile, dtype=jnp.int32)
    if k < runs:
      # The k runs of keys with the largest maxima hold the k largest scores: of any other run, all
      # scores come behind those k maxima. In the order of ids, so that ties stay in order.
      masked = _mask(s, ids, banned, n).reshape(len(q), runs, run)
      _, chosen = lax.top_k(jnp.max(masked, axis=2), k)
      chosen = jnp.sort(chosen, axis=1)[..., None]
      s = jnp.take_along_axis(s.reshape(masked.shape), chosen, axis=1, mode='clip')
      s = s.reshape(len(q), -1)
      ids = (start + run * chosen + jnp.arange(run, dtype=jnp.int32)).reshape(s.shape)
    ids = jnp.broadcast_to(ids, s.shape)
    # The best so far have smaller ids and come first: top_k gives ties to the lower position.
    s = jnp.concatenate([best_s, _mask(s, ids, banned, n)], axis=1)
    s, at = lax.top_k(s, k)
    ids = jnp.concatenate([best_ids, ids], axis=1)
    return (s, jnp.take_along_axis(ids, at, axis=1, mode='clip')), None

  def search(rows):
    q, banned = rows
    # Like q, so that under shard_map they differ between devices as what the scan makes does.
    none = (
      jnp.full_like(q, -jnp.inf, shape=(len(q), k)),
      jnp.full_like(q, 0, jnp.int32, shape=(len(q), k)),
    )
    starts = tile * jnp.arange(tiles, dtype=jnp.int32)
    step = functools.partial(visit, q=q, banned=banned[:, None])
    return lax.scan(step, none, (keys, starts))[0]

  m = len(queries)
  count = -(-m // chunk)
  size = -(-m // count)

  # Block b is rows b, b + count, ...: on a mesh every device has a share of each block.
  def split(x):
    x = jnp.pad(x, [(0, count * size - m)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(size, count, *x.shape[1:]).swapaxes(0, 1)

  found = lax.map(search, (split(queries), split(exclude)))
  return jax.tree.map(lambda y: y.swapaxes(0, 1).reshape(-1, k)[:m], found)


def _mask(s, ids, banned, n):
  return jnp.where((ids < n) & (ids != banned), s, -jnp.inf)
