"""Self-distillation: a student's softmax follows that of its teacher, over prototypes."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp

from ssljax.errors import InputError
from ssljax.losses._contrastive import check_positive
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots, l2_normalize, sinkhorn


def dino(
  student, teacher, center=None, *, student_temp=0.1, teacher_temp=0.04, skip_same=True,
  weight=None, iters=3, axis_name=None,
):  # fmt: skip
  """DINO: each view of the student predicts what the teacher makes of every other view.

  With q_a the teacher's codes of view a (`teacher_codes`) and p_v = softmax(student_v / T_s):
    mean over the batch and over pairs a, v of  -w_v sum_k q_ak log p_vk,  without v = a

  The codes get no gradient. One prototype for everything is a minimum, and so is the uniform
  answer, ln K: centring prevents the first and the teacher's low temperature the second.

  Args:
    student: [B, V, K], logits; the first A views are those that the teacher sees.
    teacher: [B, A, K], logits of the teacher.
    center: [K], of `update_center`; None takes Sinkhorn's codes instead, as DINOv2 does.
    student_temp, teacher_temp: T_s and T_t.
    skip_same: whether v = a is left out; False where student and teacher see other views.
    weight: w [V], what the terms of each of the student's views count for; None for 1 (DINOv3 has
      0.5 for small crops in the end).
    iters: of Sinkhorn.
    axis_name: of `pmap` or `shard_map`, if student and teacher are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, there is no pair of views, a temperature is not positive, or
      iters is less than 1.

  Reference: DINO (https://arxiv.org/abs/2104.14294), Section 3.1, equations 2 and 3. Equals
  `DINOLoss` of the authors' code, and of DINOv2's the sum over pairs divided by their number, as
  its training code divides it.
  """
  check_shape('student', student, ('B', 'V', 'K'))
  check_shape('teacher', teacher, (len(student), 'A', student.shape[2]))
  check_positive(student_temp=student_temp, teacher_temp=teacher_temp)
  pairs = view_pairs(teacher.shape[1], student.shape[1], skip_same)
  codes = teacher_codes(teacher, center, temp=teacher_temp, iters=iters, axis_name=axis_name)
  logits = as_float(student) / student_temp
  # Codes sum to 1: -sum q log softmax(x) = logsumexp(x) - q . x.
  each = logsumexp(logits, axis=-1)[:, None] - dots('bak,bvk->bav', codes, logits)
  if weight is not None:
    check_shape('weight', weight, student.shape[1:2])
    each = each * weight
  terms = jnp.where(pairs, each, 0).sum((1, 2)) / pairs.sum()
  return batch_mean(terms.sum(), terms, axis_name)


def ibot_patch(
  student, teacher, mask, center=None, *, student_temp=0.1, teacher_temp=0.04, iters=3,
  axis_name=None,
):  # fmt: skip
  """iBOT: the student, from whom patches are hidden, predicts the teacher's view of them.

  With q and p as in `dino`, for each patch, and m the mask:
    mean over images of  sum_i m_i (-sum_k q_ik log p_ik) / max(sum_i m_i, 1)

  Images without a hidden patch count as 0. The codes get no gradient; collapse is prevented as in
  `dino`.

  Args:
    student, teacher: [N, L, K], logits of the patches of the same views.
    mask: bool [N, L], True where a patch was hidden from the student.
    center: [K], of `update_center`; None takes Sinkhorn's codes of the hidden patches instead.
    student_temp, teacher_temp, iters, axis_name: as of `dino`.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, a temperature is not positive, or iters is less than 1.

  Reference: iBOT (https://arxiv.org/abs/2111.07832), Section 3.2, equation 2. Equals the patch term
  of the authors' `iBOTLoss`, and `iBOTPatchLoss` of DINOv2.
  """
  check_shape('student', student, ('N', 'L', 'K'))
  check_shape('teacher', teacher, student.shape)
  check_shape('mask', mask, student.shape[:2])
  check_positive(student_temp=student_temp, teacher_temp=teacher_temp)
  codes = teacher_codes(
    teacher, center, temp=teacher_temp, where=mask, iters=iters, axis_name=axis_name
  )
  logits = as_float(student) / student_temp
  # A code that is not finite would spoil the gradient even where the mask is False.
  codes = jnp.where(mask[..., None], codes, 0)
  terms = jnp.where(mask, soft_cross_entropy(codes, logits), 0).sum(1) / jnp.maximum(mask.sum(1), 1)
  return batch_mean(terms.sum(), terms, axis_name)


def view_pairs(seen, views, skip_same):
  """[A, V], which views of teacher and student meet: all, or without v = a."""
  if views * seen - (min(views, seen) if skip_same else 0) < 1:
    raise InputError(f'student has {views} views and teacher {seen}, wanted another than its own')
  same = jnp.arange(seen)[:, None] == jnp.arange(views)
  return ~same if skip_same else jnp.ones_like(same)


def soft_cross_entropy(q, logits):
  """-sum_k q_k log softmax(logits)_k over the last axis, where q sums to 1."""
  return logsumexp(logits, axis=-1) - jnp.sum(q * logits, axis=-1)


def teacher_codes(teacher, center=None, *, temp=0.04, where=None, iters=3, axis_name=None):
  """What a student learns to predict: softmax((teacher - center) / temp), without a gradient.

  Args:
    teacher: [..., K], logits.
    center: [K]; None for Sinkhorn's codes, with eps = temp, of all rows together.
    temp: the teacher's temperature.
    where: bool [...], the rows that count in Sinkhorn's; None for all.
    iters, axis_name: of `ops.sinkhorn`.

  Returns:
    [..., K], rows summing to 1.

  Raises:
    InputError: a shape does not fit, temp is not positive, or iters is less than 1.

  References: DINO (https://arxiv.org/abs/2104.14294), Section 3.1, for those with a center;
  `sinkhorn_knopp_teacher` of DINOv2's code for the others.
  """
  check_positive(temp=temp)
  teacher = lax.stop_gradient(as_float(teacher))
  if center is not None:
    check_shape('center', center, teacher.shape[-1:])
    return jax.nn.softmax((teacher - lax.stop_gradient(center)) / temp)
  flat = teacher.reshape(-1, teacher.shape[-1])
  where = None if where is None else where.reshape(-1)
  codes = sinkhorn(flat, eps=temp, iters=iters, where=where, axis_name=axis_name)
  return codes.reshape(teacher.shape)


def update_center(center, teacher, *, momentum=0.9, where=None, axis_name=None):
  """The centre after a step: momentum * center + (1 - momentum) * mean of the teacher's logits.

  Args:
    center: [K].
    teacher: [..., K], logits of all views; where: bool [...], the rows that count, None for all.
    momentum: 0.9 in DINO.
    axis_name: of `pmap` or `shard_map`, if teacher is one device's share.

  Returns:
    [K], without a gradient; where no row counts, the center as it was.

  Raises:
    InputError: center does not fit teacher.

  Reference: DINO (https://arxiv.org/abs/2104.14294), Section 3.1, equation 4.
  """
  check_shape('center', center, teacher.shape[-1:])
  rows = lax.stop_gradient(as_float(teacher)).reshape(-1, teacher.shape[-1])
  kept = jnp.ones(len(rows)) if where is None else where.reshape(-1).astype(rows.dtype)
  total, count = dots('n,nk->k', kept, rows), kept.sum()
  if axis_name is not None:
    total, count = lax.psum((total, count), axis_name)
  mean = total / jnp.maximum(count, 1)
  return jnp.where(count > 0, momentum * center + (1 - momentum) * mean, center)


def gram(
  student, target, *, normalize=True, per_image=True, drop_negative=False,
  drop_target_negative=False, axis_name=None,
):  # fmt: skip
  """Gram anchoring of DINOv3: patches are to be as alike as an earlier teacher finds them.

  With x' = x at length one, the mean over images and pairs of their patches i, j of
    (student_i' . student_j' - target_i' . target_j')^2

  The target gets no gradient. Only similarities are held, so features may turn. Constant features
  score the mean squared difference of the target's similarities from 1; collapse is prevented by
  the losses beside it.

  Args:
    student: [N, L, D], patch features; target: [N, L, E], of the Gram teacher at the same places.
    normalize: whether features are taken at length one.
    per_image: False compares the patches of all images with each other, [NL, NL].
    drop_negative: whether negative similarities count as 0, in both; drop_target_negative: in the
      target alone.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's shares (see
      `ssljax.losses`); per_image only.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; axis_name without per_image.

  Reference: DINOv3 (https://arxiv.org/abs/2508.10104), Section 4.2, equation 3, whose squared norm
  is a mean over entries in the authors' `GramLoss`, which this equals.
  """
  check_shape('student', student, ('N', 'L', 'D'))
  check_shape('target', target, (*student.shape[:2], 'E'))
  if axis_name is not None and not per_image:
    raise InputError('per_image is False with axis_name given, wanted True: images are compared')

  def similarities(x):
    x = l2_normalize(as_float(x)) if normalize else as_float(x)
    x = x if per_image else x.reshape(1, -1, x.shape[-1])
    return dots('nid,njd->nij', x, x)

  seen, wanted = similarities(student), lax.stop_gradient(similarities(target))
  if drop_negative:
    seen = jnp.maximum(seen, 0)
  if drop_negative or drop_target_negative:
    wanted = jnp.maximum(wanted, 0)
  terms = jnp.mean((seen - wanted) ** 2, axis=(1, 2))
  return batch_mean(terms.sum(), terms, axis_name)
