"""The multi-scale loss of AMDIM."""

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from ssljax.losses._contrastive import check_positive, gather
from ssljax.losses._logsumexp import EXCLUDED, map_rows
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots


def amdim(r1, r5, t5, t7, *, clip=20.0, regularization=0.05, chunk_size=None, axis_name=None):
  """AMDIM: features of one view find those of the other, across scales.

  For sources s [B, R] of one view and targets t [B, n, R] of the other, with the score
  S = s_i . t_jl / sqrt(R) and C = clip tanh(S / clip):
    nce(s, t) = mean over i, l of  -log( exp(C_iil) / (exp(C_iil) + sum_{j != i, l'} exp(C_ijl')) )
  and the loss is the mean over both directions of
    nce(r1, t5) + nce(r1, t7) + nce(r5, t5) + regularization * (the same three means of S^2)

  Places of one image are no negatives for each other. Constant embeddings score
  log(1 + (B - 1) n) in each term, chance level.

  Args:
    r1: [B, 2, R], the global features of both views.
    r5: [B, 2, R], at one place of the coarse map, drawn for each.
    t5: [B, 2, n5, R], at all its places.
    t7: [B, 2, n7, R], at all places of the finer map.
    clip: c of the paper.
    regularization: lambda of the paper, 4e-2 there and 5e-2 in the authors' code.
    chunk_size: examples whose scores are held at a time, computed again for the gradient.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; clip or chunk_size is not positive.

  Reference: AMDIM (https://arxiv.org/abs/1906.00910), Sections 3.2 to 3.4. Equals the sum of the
  four outputs of the authors' `NCE_MI_MULTI`.
  """
  check_shape('r1', r1, ('B', 2, 'R'))
  check_shape('r5', r5, r1.shape)
  for name, x in (('t5', t5), ('t7', t7)):
    check_shape(name, x, (*r1.shape[:2], 'n', r1.shape[2]))
  check_positive(clip=clip, chunk_size=chunk_size)
  r1, r5, t5, t7 = (as_float(x) for x in (r1, r5, t5, t7))
  (t5, first), (t7, _) = gather(t5, axis_name), gather(t7, axis_name)
  ids = first + jnp.arange(len(r1))

  def row_losses(rows):
    r1, r5, ids = rows
    total = 0.0
    for source, target in ((r1, t5), (r1, t7), (r5, t5)):
      for view in range(2):
        scores = _scores(source[:, view], target[:, 1 - view])
        clipped = clip * jnp.tanh(scores / clip)
        total += _nce(clipped, ids) + regularization * jnp.square(scores).mean((1, 2))
    return total / 2

  loss = map_rows(row_losses, (r1, r5, ids), chunk_size)
  return batch_mean(loss.sum(), loss, axis_name)


def _scores(source, target):
  """[b, R] and [B, n, R] -> [b, B, n]."""
  scores = dots('br,jlr->bjl', source, target)
  return scores / source.shape[-1] ** 0.5


def _nce(scores, ids):
  own = ids[:, None] == jnp.arange(scores.shape[1])
  negative = logsumexp(jnp.where(own[:, :, None], EXCLUDED, scores), axis=(1, 2))
  positive = jnp.take_along_axis(scores, ids[:, None, None], axis=1)[:, 0]
  return jax.nn.softplus(negative[:, None] - positive).mean(1)
