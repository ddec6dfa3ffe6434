"""The contrastive losses whose theory is that of Arora et al."""

import math

import jax
import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots

FORMS = ('hinge', 'logistic')


def curl(z, positives, negatives, *, form='logistic', axis_name=None):
  """The unsupervised loss of Arora et al.: an anchor is nearer to its own block than to others.

  With p the mean of an anchor's block of positives and n_j that of each of its k blocks of
  negatives, and v_j = z . (p - n_j):
    mean over the batch of  l(v),
    'hinge'     l(v) = max(0, 1 + max_j -v_j)
    'logistic'  l(v) = log2(1 + sum_j exp(-v_j))

  Blocks of one are the paper's L_un, larger ones its CURL, with a tighter bound on the supervised
  loss. Constant embeddings have v = 0 and score 1, or log2(1 + k). Vectors are taken as they are:
  the theory wants them bounded, and long ones can have any margin.

  Args:
    z: [B, D], the anchors.
    positives: [B, b, D], b others of each anchor's latent class.
    negatives: [B, k, b', D], k blocks, each of one class drawn from all, perhaps the same.
    form: 'hinge' or 'logistic'.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, or `form` is neither of the two.

  Reference: Arora et al. (https://arxiv.org/abs/1902.09229), Definition 2.3, equation 6 (blocks)
  and Section 6.1 (k negatives).
  """
  check_shape('z', z, ('B', 'D'))
  check_shape('positives', positives, (len(z), 'b', z.shape[1]))
  check_shape('negatives', negatives, (len(z), 'k', 'b', z.shape[1]))
  z, positives, negatives = (as_float(x) for x in (z, positives, negatives))
  apart = positives.mean(1)[:, None] - negatives.mean(2)
  margins = dots('bd,bkd->bk', z, apart)
  loss = margin_loss(margins, form)
  return batch_mean(loss.sum(), loss, axis_name)


def margin_loss(margins, form):
  """l of `curl`: margins [..., k] -> [...]."""
  if form == 'hinge':
    return jnp.maximum(0, 1 + jnp.max(-margins, axis=-1))
  if form == 'logistic':
    zeros = jnp.zeros_like(margins[..., :1])
    return jax.nn.logsumexp(jnp.concatenate([zeros, -margins], axis=-1), axis=-1) / math.log(2)
  raise InputError(f'form is {form!r}, wanted one of {", ".join(FORMS)}')
