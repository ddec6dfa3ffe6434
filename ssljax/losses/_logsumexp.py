"""log(sum(exp(dot products))) over the rows of other elements, dense or in blocks."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp

from ssljax.ops import dots

# Finite, so that a row without any candidate has the gradient 0 and not NaN.
EXCLUDED = -1e30


def over_others(q, q_ids, k, k_ids, chunk_size=None, scores=None):
  """For each row i of q: log of the sum of exp(q_i . k_j) over the keys j with another id than i.

  Args:
    q: [N, D], with q_ids int [N].
    k: [M, D], with k_ids int [M].
    chunk_size: rows of q handled at a time; None for all at once.
    scores: (q, k) -> [N, M], what stands in place of the dot products.

  Returns:
    [N].
  """
  scores = scores or functools.partial(dots, 'id,jd->ij')

  def block(rows):
    q, ids = rows
    return logsumexp(jnp.where(ids[:, None] == k_ids, EXCLUDED, scores(q, k)), axis=1)

  return map_rows(block, (q, q_ids), chunk_size)


def map_rows(block, rows, chunk_size=None):
  """`block` of chunk_size rows at a time, computed again for the gradient.

  Args:
    block: a tree of arrays [n, ...] -> [n, ...], each row of which depends on that row alone.
    rows: the tree, of [N, ...].
    chunk_size: None for all at once.

  Returns:
    [N, ...].
  """
  if chunk_size is None:
    return block(rows)
  total = len(jax.tree.leaves(rows)[0])
  count, size = _blocks(total, chunk_size)

  # Block b is rows b, b + count, ...: on a mesh every device has a share of each block.
  def split(x):
    return _pad(x, count * size).reshape(size, count, *x.shape[1:]).swapaxes(0, 1)

  out = lax.map(jax.checkpoint(block, prevent_cse=False), jax.tree.map(split, rows))
  return out.swapaxes(0, 1).reshape(-1, *out.shape[2:])[:total]


def over_others_symmetric(u, chunk_size):
  """For each view v of each element i: log of the sum of exp(u_iv . u_jw) over all w and j != i.

  Args:
    u: [B, V, D].
    chunk_size: elements in a block; [B * V, chunk_size * V] products are held at a time.

  Returns:
    [B, V].
  """
  batch, views, width = u.shape
  count, size = _blocks(batch, chunk_size)
  rows = _pad(u, count * size).reshape(count, size * views, width)
  real = jnp.arange(count * size * views).reshape(count, -1) < batch * views
  element = jnp.arange(size * views) // views
  # What to add to products: a block with itself lacks its own elements, and all lack the padding.
  same = jnp.where(element[:, None] == element, EXCLUDED, 0.0).astype(u.dtype)
  padding = jnp.where(real, 0.0, EXCLUDED).astype(u.dtype)
  return _ring_logsumexp(rows, padding, same).reshape(-1, views)[:batch]


@jax.custom_vjp
def _ring_logsumexp(rows, padding, same):
  return _ring_forward(rows, padding, same)[0]


def _ring_forward(rows, padding, same):
  def visit(own, other, mask=0.0):
    s = _products(own, other) + mask
    return logsumexp(s, axis=2), logsumexp(s, axis=1)

  own = rows, padding
  start, _ = visit(own, own, same)
  out = _ring(visit, jnp.logaddexp, own, start, EXCLUDED)
  return out, (rows, padding, same, out)


def _ring_backward(residuals, g):
  rows, padding, same, out = residuals

  def visit(own, other, mask=0.0):
    s = _products(own[:2], other[:2]) + mask
    out_i, g_i, out_j, g_j = *own[2:], *other[2:]
    # Row i's gradient of its own sum, and its part in the sum of row j.
    w = g_i[:, :, None] * jnp.exp(s - out_i[:, :, None])
    w += g_j[:, None, :] * jnp.exp(s - out_j[:, None, :])
    return dots('bij,bjd->bid', w, other[0]), dots('bij,bid->bjd', w, own[0])

  own = rows, padding, out, g
  start, _ = visit(own, own, same)
  return _ring(visit, jnp.add, own, start, 0.0), None, None


_ring_logsumexp.defvjp(_ring_forward, _ring_backward)


def _ring(visit, merge, own, start, empty):
  """Merges `visit(own_i, own_j) -> (for i, for j)` over all pairs of unlike blocks into `start`.

  The blocks 0 .. n-1 stand around a ring. Step s visits the pairs (i, i + s) for all i together,
  up to s = n / 2 only: each visit serves both of its blocks. On a mesh a step moves one block to
  the next device, and all devices have the same work.
  """

  def turn(blocks):
    return jax.tree.map(lambda x: jnp.roll(x, -1, axis=0), blocks)

  def step(carry, _):
    for_own, for_other, other = carry
    for_other, other = turn((for_other, other))
    a, b = visit(own, other)
    return (merge(for_own, a), merge(for_other, b), other), None

  count = len(start)
  steps = (count - 1) // 2
  carry = start, jnp.full_like(start, empty), own
  (for_own, for_other, other), _ = lax.scan(step, carry, length=steps)
  total = merge(for_own, jnp.roll(for_other, steps, axis=0))
  if count % 2 == 0:  # at s = n / 2 both blocks of a pair visit each other
    total = merge(total, visit(own, turn(other))[0])
  return total


def _products(own, other):
  (u_i, padding_i), (u_j, padding_j) = own, other
  s = dots('bid,bjd->bij', u_i, u_j)
  return s + padding_i[:, :, None] + padding_j[:, None, :]


def _blocks(total, chunk_size):
  """How many blocks of at most chunk_size there are, and the smallest size with that many."""
  count = -(-total // chunk_size)
  return count, -(-total // count)


def _pad(x, total):
  return jnp.pad(x, [(0, total - len(x))] + [(0, 0)] * (x.ndim - 1))
