"""Losses between the places of two views."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp

from ssljax.losses._contrastive import check_positive, unit
from ssljax.losses._logsumexp import map_rows
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots, l2_normalize


def densecl(q, k, q_map, k_map, queue, *, temperature=0.2, chunk_size=None, axis_name=None):
  """The dense loss of DenseCL: each place of one view finds its match in the other.

  With x' = x at length one, and m(s) the place of the key's view whose encoder features are the
  most alike, argmax_t q_map_s' . k_map_t':
    mean over examples and places s of
      -log( e_s / (e_s + sum_j exp(q_s' . w_j / T)) ),  e_s = exp(q_s' . k_m(s)' / T)

  Only q gets a gradient. Constant embeddings score log(1 + K), chance level. The whole loss of
  DenseCL is (1 - lambda) `moco` + lambda times this, lambda 1/2.

  Args:
    q: [B, S, D], the dense head's outputs at the S places of the query's view, of any length; k:
      [B, S', D], of the key's view.
    q_map: [B, S, C], the encoder's features at the same places; k_map: [B, S', C].
    queue: [K, D], means over places of earlier keys, normalised before they entered.
    temperature: T.
    chunk_size: examples whose [S, K] products are held at a time, computed again for the gradient.
    axis_name: of `pmap` or `shard_map`, if all but the queue are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; temperature or chunk_size is not positive.

  Reference: DenseCL (https://arxiv.org/abs/2011.09157), Sections 3.2 and 3.3, equations 2 and 4.
  Equals `loss_contra_dense` of the authors' `DenseCL.forward_train`.
  """
  check_shape('q', q, ('B', 'S', 'D'))
  check_shape('k', k, (len(q), "S'", q.shape[2]))
  check_shape('q_map', q_map, (*q.shape[:2], 'C'))
  check_shape('k_map', k_map, (*k.shape[:2], q_map.shape[2]))
  check_shape('queue', queue, ('K', q.shape[2]))
  check_positive(temperature=temperature, chunk_size=chunk_size)
  q = unit(as_float(q), temperature)
  k = lax.stop_gradient(unit(as_float(k), temperature))
  w = lax.stop_gradient(as_float(queue)) * lax.rsqrt(jnp.asarray(temperature, q.dtype))
  matched = jnp.take_along_axis(k, match_places(q_map, k_map)[..., None], axis=1)

  def row_losses(rows):
    q, matched = rows
    negative = logsumexp(dots('bsd,kd->bsk', q, w), axis=2)
    return jax.nn.softplus(negative - jnp.sum(q * matched, axis=-1)).mean(1)

  loss = map_rows(row_losses, (q, matched), chunk_size)
  return batch_mean(loss.sum(), loss, axis_name)


def match_places(q_map, k_map):
  """For each place of one view the place of the other with the largest cosine: int32 [B, S].

  q_map: [B, S, C]; k_map: [B, S', C]. Of equal ones the first is taken.
  """
  q, k = (lax.stop_gradient(l2_normalize(as_float(x))) for x in (q_map, k_map))
  return jnp.argmax(dots('bsc,btc->bst', q, k), axis=2)
