"""Losses with several right answers for each example."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.losses._contrastive import check_positive
from ssljax.losses._logsumexp import map_rows
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots, l2_normalize


def mls(
  z, features, queue, queue_features, *, topk=20, temperature=0.2, chunk_size=None, axis_name=None
):
  """The multi-label loss of MLS: an image has the labels of the images nearest to it.

  With x' = x at length one, y_ij = 1 for the `topk` rows j of queue_features with the largest
  product with features_i, 0 for the others, and p_ij = z_i' . queue_j / T:
    mean over i, j of  -y_ij log sigmoid(p_ij) - (1 - y_ij) log(1 - sigmoid(p_ij))

  Only z gets a gradient. Constant embeddings have the same answers for all and score more than
  embeddings near their own labels. The whole loss of MLS is `moco` + this / 2.

  Args:
    z: [B, D], projections of the query's view, of any length.
    features: [B, C], the encoder's features of the same view.
    queue: [K, D], projections of earlier keys, normalised before they entered.
    queue_features: [K, C], features of the same keys in the same order, normalised likewise.
    topk: how many labels an image has, 1 to K.
    temperature: T, the same as that of `moco` there.
    chunk_size: rows handled at a time, holding [chunk_size, K] instead of [B, K].
    axis_name: of `pmap` or `shard_map`, if z and features are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; topk is not in 1..K; temperature or chunk_size is not
      positive.

  Reference: MLS (https://arxiv.org/abs/2308.03286), Section 3.2, equations 7 to 9. The paper does
  not say whether z has length one in equation 8; here it has, as the query of its base, MoCo v2.
  """
  check_shape('z', z, ('B', 'D'))
  check_shape('features', features, (len(z), 'C'))
  check_shape('queue', queue, ('K', z.shape[1]))
  check_shape('queue_features', queue_features, (len(queue), features.shape[1]))
  check_positive(temperature=temperature, chunk_size=chunk_size)
  if not 1 <= topk <= len(queue):
    raise InputError(f'topk is {topk}, wanted 1 to {len(queue)}, the length of the queue')
  queue, queue_features = lax.stop_gradient((as_float(queue), as_float(queue_features)))

  def row_losses(rows):
    z, features = rows
    nearest = lax.top_k(dots('bd,kd->bk', features, queue_features), topk)[1]
    p = dots('bd,kd->bk', z, queue) / temperature
    # -log sigmoid(p) is softplus(p) - p, -log(1 - sigmoid(p)) is softplus(p).
    right = jnp.take_along_axis(p, nearest, axis=1).sum(1)
    return (jax.nn.softplus(p).sum(1) - right) / len(queue)

  rows = l2_normalize(as_float(z)), lax.stop_gradient(as_float(features))
  loss = map_rows(row_losses, rows, chunk_size)
  return batch_mean(loss.sum(), loss, axis_name)
