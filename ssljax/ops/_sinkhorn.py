"""Soft assignments that use all clusters alike."""

import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.ops._check import as_float, check_shape
from ssljax.ops._dots import dots


def sinkhorn(scores, *, eps=0.05, iters=3, where=None, axis_name=None):
  """Codes near exp(scores / eps) that spread the batch evenly over the clusters.

  From Q = exp(scores / eps), `iters` times: every column (cluster) is scaled to the same sum, then
  every row (example) to the sum 1. Q is kept as its entries and two vectors of scales, so a round
  is two products of a matrix and a vector. The largest score is subtracted from each row and given
  back by the scales: the result is the same, and nothing overflows, whatever the scores.

  Args:
    scores: [B, K], similarity of example and prototype. No gradient is meant to pass: the caller
      stops it.
    eps: temperature; smaller is nearer to hard assignments.
    iters: rounds, at least 1.
    where: bool [B] or scalar, the rows that count; others get codes by the columns' scales but have
      no part in them. None means all.
    axis_name: of `pmap` or `shard_map`, if the scores are one device's share of the rows.

  Returns:
    [B, K], rows summing to 1, in float32 at least. The columns' sums approach B / K with the
    rounds. Where no row counts, zeros.

  Raises:
    InputError: `scores` is not [B, K], eps is not positive or iters less than 1.

  Reference: SwAV (https://arxiv.org/abs/2006.09882), Section 3.1 and appendix A. Equals
  `distributed_sinkhorn` of the authors' code, which subtracts nothing.
  """
  check_shape('scores', scores, ('B', 'K'))
  if iters < 1:
    raise InputError(f'iters is {iters}, wanted at least 1')
  if isinstance(eps, int | float) and eps <= 0:
    raise InputError(f'eps is {eps}, wanted more than 0')
  scores = as_float(scores)
  # Without the barrier XLA makes the maxima again, from all scores, where they are used.
  top = lax.optimization_barrier(jnp.max(scores, axis=1))
  highest = jnp.max(top)
  if axis_name is not None:
    highest = lax.pmax(highest, axis_name)
  # Divided by eps late: with three uses the quotient became an array of its own.
  q = jnp.exp((scores - top[:, None]) / eps)
  row = jnp.maximum(jnp.exp((top - highest) / eps), 1e-30)  # further below, rows weigh no less
  for _ in range(iters):
    counted = row if where is None else jnp.where(where, row, 0)
    column = dots('bk,b->k', q, counted)
    if axis_name is not None:
      column = lax.psum(column, axis_name)
    # A cluster whose every entry underflows stays empty.
    column = jnp.where(column > 0, 1 / jnp.where(column > 0, column, 1), 0)
    largest = jnp.max(column)  # only ratios matter, and these do not overflow
    column = column / jnp.where(largest > 0, largest, 1)
    row = 1 / jnp.maximum(dots('bk,k->b', q, column), jnp.finfo(q.dtype).tiny)
  return q * row[:, None] * column
