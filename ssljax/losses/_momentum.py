"""Losses that compare a student's embeddings with those of its moving average."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.losses._contrastive import check_positive, info_nce, unit
from ssljax.losses._logsumexp import map_rows
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots


def moco_v3(q1, q2, k1, k2, *, temperature=1.0, chunk_size=None, axis_name=None):
  """MoCo v3: each view's query finds the teacher's key of the other view among the batch's keys.

    2 T ( info_nce(q1, k2; T) + info_nce(q2, k1; T) )

  Keys get no gradient; there is no queue. The factor 2 T keeps the gradient's scale for any T.
  Constant embeddings score 4 T ln(B), chance level.

  Args:
    q1: [B, D], the student's predictions from the first view, of any length; q2: of the second.
    k1: [B, D], the teacher's projections of the first view, of any length; k2: of the second.
    temperature: T; 1 for ResNets, 0.2 for vision transformers.
    chunk_size: queries handled at a time, holding [chunk_size, B] instead of [B, B].
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: the four arrays are not of one shape [B, D]; temperature or chunk_size is not
      positive.

  Reference: MoCo v3 (https://arxiv.org/abs/2104.02057), Section 3 and algorithm 1. Equals the
  authors' `MoCo.contrastive_loss`, both directions added.
  """
  check_shape('q1', q1, ('B', 'D'))
  for name, array in (('q2', q2), ('k1', k1), ('k2', k2)):
    check_shape(name, array, q1.shape)
  k1, k2 = lax.stop_gradient((k1, k2))
  options = {'temperature': temperature, 'chunk_size': chunk_size, 'axis_name': axis_name}
  return 2 * temperature * (info_nce(q1, k2, **options) + info_nce(q2, k1, **options))


def ressl(
  q, k, queue, *, temperature=0.1, teacher_temperature=0.04, chunk_size=None, axis_name=None
):
  """ReSSL: a view is to be as similar to the images of a queue as the teacher finds another view.

  With u' = u at length one for q and k, and the queue's rows w_j as they are:
    mean over i of  -sum_j softmax_j(k_i' . w_j / T_teacher) log softmax_j(q_i' . w_j / T)

  Keys and queue get no gradient. Equal embeddings for all inputs give uniform distributions and
  ln(K), more than the sharper teacher's entropy when images differ.

  Args:
    q: [B, D], the student's embeddings, of any length; k: [B, D], the teacher's, of another, weakly
      changed view.
    queue: [K, D], the teacher's embeddings of earlier batches, normalised before they entered.
    temperature: T of the student.
    teacher_temperature: of the teacher, lower: its distribution is the sharper one.
    chunk_size: rows handled at a time, holding [chunk_size, K] instead of [B, K].
    axis_name: of `pmap` or `shard_map`, if q and k are one device's shares (see `ssljax.losses`);
      every device has the whole queue.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; a temperature or chunk_size is not positive.

  Reference: ReSSL (https://arxiv.org/abs/2107.09282), Section 3.2, equations 4 to 6. Equals the
  authors' `ressl.py` and `ressl_loss_func` of solo-learn; the image's own key is not in the queue.
  """
  check_shape('q', q, ('B', 'D'))
  check_shape('k', k, q.shape)
  check_shape('queue', queue, ('K', q.shape[1]))
  check_positive(
    temperature=temperature, teacher_temperature=teacher_temperature, chunk_size=chunk_size
  )
  q, k, w = as_float(q), *lax.stop_gradient((as_float(k), as_float(queue)))

  def logits(z, t):
    scaled = w * lax.rsqrt(jnp.asarray(t, z.dtype))
    return dots('bd,kd->bk', unit(z, t), scaled)

  def row_losses(rows):
    q, k = rows
    aim = jax.nn.softmax(logits(k, teacher_temperature))
    return -jnp.sum(aim * jax.nn.log_softmax(logits(q, temperature)), axis=1)

  loss = map_rows(row_losses, (q, k), chunk_size)
  return batch_mean(loss.sum(), loss, axis_name)
