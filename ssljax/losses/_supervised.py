"""Contrastive losses that know the classes."""

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp

from ssljax.errors import InputError
from ssljax.losses._contrastive import check_positive, gather
from ssljax.losses._logsumexp import EXCLUDED, map_rows
from ssljax.ops import as_float, check_shape, dots


def supcon(
  features, labels, *, temperature=0.1, base_temperature=0.07, contrast_mode='all',
  log_of_sum=False, chunk_size=None, axis_name=None,
):  # fmt: skip
  """SupCon: each view finds all other views of its class among all other views of the batch.

  With z the B V embeddings as they are given, P(i) the other views of i's label, its own included:
    T / T_base  mean over i of  -1/|P(i)| sum_{p in P(i)} log( exp(z_i . z_p / T)
                                                               / sum_{a != i} exp(z_i . z_a / T) )

  An anchor without a positive costs nothing. Constant embeddings score T / T_base ln(B V - 1),
  chance level.

  Args:
    features: [B, V, D], V views of B examples, at length one: nothing is normalised here.
    labels: int [B].
    temperature: T; 0.1 in the paper, 0.07 the default of the authors' code.
    base_temperature: T_base, in the authors' code only; equal to T it gives the paper's loss.
    contrast_mode: 'all', or 'one': the first views alone look for others.
    log_of_sum: puts the sum over P(i) inside the logarithm, without its 1/|P(i)|, as solo-learn
      does; the paper's L_in, which it finds worse, is this plus the mean of ln |P(i)|.
    chunk_size: views handled at a time, holding [chunk_size, B V] instead of [B V, B V].
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, contrast_mode is neither, or a number is not positive.

  Reference: SupCon (https://arxiv.org/abs/2004.11362), Section 3.2.2, equation 2. Equals the
  authors' `SupConLoss`.
  """
  check_shape('features', features, ('B', 'V', 'D'))
  check_shape('labels', labels, (len(features),))
  check_positive(temperature=temperature, base_temperature=base_temperature, chunk_size=chunk_size)
  if contrast_mode not in ('all', 'one'):
    raise InputError(f"contrast_mode is {contrast_mode!r}, wanted 'all' or 'one'")
  batch, views, width = features.shape
  z = as_float(features) * lax.rsqrt(jnp.asarray(temperature, as_float(features).dtype))
  keys, first = gather(z, axis_name)
  key_labels = jnp.repeat(gather(labels, axis_name)[0], views)
  keys, key_ids = keys.reshape(-1, width), jnp.arange(len(key_labels))
  anchors = 1 if contrast_mode == 'one' else views
  ids = (first + jnp.arange(batch))[:, None] * views + jnp.arange(anchors)

  def block(rows):
    z, ids, labels = rows
    s = dots('id,jd->ij', z, keys)
    other = ids[:, None] != key_ids
    same = other & (labels[:, None] == key_labels)
    if log_of_sum:
      positive = logsumexp(jnp.where(same, s, EXCLUDED), axis=1)
    else:
      positive = jnp.where(same, s, 0).sum(1) / jnp.maximum(same.sum(1), 1)
    all_others = logsumexp(jnp.where(other, s, EXCLUDED), axis=1)
    return jnp.where(same.any(1), all_others - positive, 0)

  rows = z[:, :anchors].reshape(-1, width), ids.reshape(-1), jnp.repeat(labels, anchors)
  loss = jnp.mean(map_rows(block, rows, chunk_size)) * temperature / base_temperature
  return loss if axis_name is None else lax.pmean(loss, axis_name)
