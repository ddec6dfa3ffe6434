"""NT-Xent without its positive pair in the denominator."""

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp

from ssljax.losses._contrastive import check_positive, gather, view_logits
from ssljax.losses._redundancy import batch_mean


def dcl(z1, z2, *, temperature=0.1, chunk_size=None, axis_name=None):
  """DCL, decoupled contrastive loss: NT-Xent whose denominator has the 2B - 2 negatives alone.

  With u the 2B embeddings of both views at length one, i and i' the views of one element:
    mean over i of  -u_i . u_i' / T + log( sum_{j not i, i'} exp(u_i . u_j / T) )

  It has no lower bound of 0. Constant embeddings score ln(2B - 2).

  Args:
    z1: [B, D], embeddings of the first view, of any length; z2: [B, D], of the second. B is at
      least 2.
    temperature: T; may be traced and has a gradient.
    chunk_size: None holds the [2B, 2B] matrix, a number a part of it, as in `nt_xent`.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: `z1` and `z2` are not two arrays of one shape [B, D]; temperature or chunk_size is
      not positive.

  Reference: DCL (https://arxiv.org/abs/2110.06848), Section 3.1, equation 6, as a mean over the 2B
  rows where the paper has a sum. Equals `DCLLoss` of lightly in the version where the negatives of
  both views share one logarithm, as they do in the paper.
  """
  positive, negative = view_logits(z1, z2, temperature, chunk_size, axis_name)
  loss = negative.mean(1) - positive
  return batch_mean(loss.sum(), loss, axis_name)


def dclw(z1, z2, *, temperature=0.1, sigma=0.5, chunk_size=None, axis_name=None):
  """DCLW: `dcl` that pulls harder at the pairs whose views are far apart.

  The positive term u_i . u_i' / T of each pair is multiplied by
    w_i = 2 - exp(u_i . u_i' / sigma) / mean over the batch of exp(u_j . u_j' / sigma)

  from a von Mises-Fisher density. The weights get no gradient; their mean is 1. Constant embeddings
  score ln(2B - 2), as in `dcl`.

  Args:
    z1, z2, temperature, chunk_size, axis_name: as in `dcl`.
    sigma: width of the density, 0.5 in the paper.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: as in `dcl`, or sigma is not positive.

  Reference: DCL (https://arxiv.org/abs/2110.06848), Section 3.2. Equals `DCLWLoss` of lightly; the
  code that it was inspired by has the sum where the paper has the mean, and so weights near 2.
  """
  check_positive(sigma=sigma)
  positive, negative = view_logits(z1, z2, temperature, chunk_size, axis_name)
  scores = lax.stop_gradient(positive * temperature) / sigma
  scores_of_all, _ = gather(scores, axis_name)
  weights = 2 - jnp.exp(scores - logsumexp(scores_of_all)) * len(scores_of_all)
  loss = negative.mean(1) - weights * positive
  return batch_mean(loss.sum(), loss, axis_name)
