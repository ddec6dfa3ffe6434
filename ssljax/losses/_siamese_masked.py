"""Siamese networks of which one sees a part: anchors are told apart by prototypes (MSN), and a
second class token tells what patches say (UDI)."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.losses._contrastive import check_positive
from ssljax.losses._redundancy import batch_mean
from ssljax.losses._self_distillation import dino, soft_cross_entropy, teacher_codes, view_pairs
from ssljax.ops import as_float, check_shape, dots, l2_normalize, sinkhorn


def msn(
  anchors, targets, prototypes, *, tau=0.1, sharpen=0.25, sinkhorn_iters=3, memax_weight=1.0,
  entropy_weight=0.0, axis_name=None,
):  # fmt: skip
  """MSN: masked views predict which prototypes the whole view is like; all are to be used.

  With p_v = softmax(cos(anchor_v, prototypes) / tau), m the mean of all p, H the entropy:
    mean over the batch and its views v of  -sum_k q_k log p_vk
      + memax_weight (log K - H(m)) + entropy_weight mean H(p_v)

  where q are the targets, see `msn_targets`; no gradient passes through them, neither to the
  teacher nor to the prototypes. One prototype for everything minimises the first term; H(m) is 0
  then, and the second term as large as it can be, log K.

  Args:
    anchors: [B, V, D]; targets: [B, D], of the teacher; prototypes: [K, D]. Any length: all are
      taken at length one.
    tau: temperature of the anchors; sharpen: T, the targets have tau * T.
    sinkhorn_iters: of `msn_targets`, 0 for none.
    memax_weight, entropy_weight: see above.
    axis_name: of `pmap` or `shard_map`, if anchors and targets are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, sinkhorn_iters is negative, or tau or sharpen is not positive.

  Reference: MSN (https://arxiv.org/abs/2204.07141), Section 3, equation 1. Equals `init_msn_loss`
  of the authors' code with the identity for labels of prototypes, and weights added up as in its
  training code; there sinkhorn_iters is 3 and entropy_weight 0.
  """
  check_shape('anchors', anchors, ('B', 'V', 'D'))
  check_shape('prototypes', prototypes, ('K', anchors.shape[2]))
  check_shape('targets', targets, (len(anchors), anchors.shape[2]))
  q = msn_targets(
    targets, prototypes, tau=tau, sharpen=sharpen, sinkhorn_iters=sinkhorn_iters,
    axis_name=axis_name,
  )  # fmt: skip
  log_p = jax.nn.log_softmax(_cosines('bvd,kd->bvk', anchors, prototypes) / tau)
  p = jnp.exp(log_p)
  each = -jnp.sum(q[:, None] * log_p, -1) - entropy_weight * jnp.sum(p * log_p, -1)
  mean = jnp.mean(p, (0, 1))
  if axis_name is not None:
    mean = lax.pmean(mean, axis_name)
  # A prototype that nothing is like has log 0 and counts as 0.
  least = jnp.finfo(mean.dtype).tiny
  memax = jnp.log(float(len(prototypes))) + jnp.sum(mean * jnp.log(jnp.maximum(mean, least)))
  terms = jnp.mean(each, 1)
  return batch_mean(terms.sum(), terms, axis_name) + memax_weight * memax


def msn_targets(
  targets, prototypes, *, tau=0.1, sharpen=0.25, sinkhorn_iters=3, axis_name=None
):  # fmt: skip
  """What MSN's anchors learn to predict: softmax(cos(target, prototypes) / (tau sharpen)).

  Args:
    targets: [B, D]; prototypes: [K, D].
    tau, sharpen: as of `msn`; sharpen may be traced.
    sinkhorn_iters: rounds by which the batch is then spread evenly over the prototypes, 0 for none.
      They begin from these probabilities, not from the scores as in SwAV.
    axis_name: of `pmap` or `shard_map`, if the targets are one device's share.

  Returns:
    [B, K], rows summing to 1, without a gradient.

  Raises:
    InputError: a shape does not fit, sinkhorn_iters is negative, or tau or sharpen is not positive.

  Reference: MSN (https://arxiv.org/abs/2204.07141), Section 3; the targets in `init_msn_loss` of
  the authors' code.
  """
  check_shape('targets', targets, ('B', 'D'))
  check_shape('prototypes', prototypes, ('K', targets.shape[1]))
  check_positive(tau=tau, sharpen=sharpen)
  if sinkhorn_iters < 0:
    raise InputError(f'sinkhorn_iters is {sinkhorn_iters}, wanted 0 or more')
  cosines = lax.stop_gradient(_cosines('bd,kd->bk', targets, prototypes))
  log_q = jax.nn.log_softmax(cosines / (tau * sharpen))
  if not sinkhorn_iters:
    return jnp.exp(log_q)
  return sinkhorn(log_q, eps=1.0, iters=sinkhorn_iters, axis_name=axis_name)


def _cosines(spec, a, b):
  return dots(spec, l2_normalize(as_float(a)), l2_normalize(as_float(b)))


def udi(
  student, plus, patches, teacher, context, teacher_patches, valid, centers, *, student_temp=0.1,
  teacher_temp=0.07, alpha=0.5, axis_name=None,
):  # fmt: skip
  """UDI: DINO's loss for the class token, for a second one that predicts patches too, for patches.

  With CE as in `dino`, pairs (a, v) of teacher's and student's views without v = a, and m_av the
  teacher's logits of patches of a where v is, averaged:
    (mean CE(teacher_a, student_v) + mean CE(alpha m_av + (1 - alpha) teacher_a, plus_v)
     + mean over valid patches of CE(teacher_patch, patch)) / 3

  The targets get no gradient; they are centred and sharpened as in DINO, which is what prevents one
  prototype for everything and the uniform answer.

  Args:
    student, plus: [B, V, K], logits of the two class tokens; the first A views are the teacher's.
    patches: [B, S, K], of the student's patches, all views; valid: bool [B, S], those that the
      teacher's other view has too; teacher_patches: [B, S, K], the teacher's at those places.
    teacher: [B, A, K]; context: [B, A, V, K], m; what stands at v = a is not read.
    centers: [3, K], one for each of the three targets, of `update_center`.
    student_temp, teacher_temp: as of `dino`.
    alpha: share of patches in the second target.
    axis_name: of `pmap` or `shard_map`, if the arrays but the centers are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, there is no pair of views, or a temperature is not positive.

  Reference: UDI (https://arxiv.org/abs/2407.17671), Section 3. Equals `UDILoss` of the authors'
  code, which mixes logits where the paper mixes predictions.
  """
  check_shape('student', student, ('B', 'V', 'K'))
  batch, views, width = student.shape
  check_shape('plus', plus, student.shape)
  check_shape('teacher', teacher, (batch, 'A', width))
  check_shape('context', context, (batch, teacher.shape[1], views, width))
  check_shape('patches', patches, (batch, 'S', width))
  check_shape('teacher_patches', teacher_patches, patches.shape)
  check_shape('valid', valid, patches.shape[:2])
  check_shape('centers', centers, (3, width))
  temps = dict(student_temp=student_temp, teacher_temp=teacher_temp, axis_name=axis_name)
  one = dino(student, teacher, centers[0], **temps)

  q = teacher_codes(udi_target(teacher, context, alpha=alpha), centers[1], temp=teacher_temp)
  pairs = view_pairs(teacher.shape[1], views, skip_same=True)
  each = soft_cross_entropy(q, as_float(plus)[:, None] / student_temp)
  terms = jnp.where(pairs, each, 0).sum((1, 2)) / pairs.sum()
  two = batch_mean(terms.sum(), terms, axis_name)

  q = teacher_codes(teacher_patches, centers[2], temp=teacher_temp)
  each = soft_cross_entropy(q, as_float(patches) / student_temp)
  total, count = jnp.where(valid, each, 0).sum(), valid.sum()
  if axis_name is not None:
    total, count = lax.psum((total, count), axis_name)
  return (one + two + total / jnp.maximum(count, 1)) / 3


def udi_target(teacher, context, *, alpha=0.5):
  """The target of UDI's second class token, as logits: alpha context + (1 - alpha) teacher.

  Args:
    teacher: [B, A, K], logits of the teacher's class token.
    context: [B, A, V, K], those of its patches where each view of the student is, averaged.
    alpha: share of the patches.

  Returns:
    [B, A, V, K].

  Reference: UDI (https://arxiv.org/abs/2407.17671), Section 3; `UDILoss` of the authors' code.
  """
  return alpha * as_float(context) + (1 - alpha) * as_float(teacher)[:, :, None]
