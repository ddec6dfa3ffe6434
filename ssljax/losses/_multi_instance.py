"""Images as bags of patches, of which a few tell the class: cross-level multi-instance distillation
(CMD)."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.losses._contrastive import check_positive
from ssljax.losses._redundancy import batch_mean
from ssljax.losses._self_distillation import soft_cross_entropy, teacher_codes, view_pairs
from ssljax.ops import as_float, check_shape, dots, l2_normalize


def cmd_regions(
  student, features, importance, teacher, teacher_features, center, *, student_temp=0.1,
  teacher_temp=0.07, skip_same=True, axis_name=None,
):  # fmt: skip
  """Patches of the student say what the most similar patches of the teacher's view say.

  With m_av(i) the patch of the teacher's view a whose features have the largest cosine with those
  of patch i of the student's view v, and q, p as in `dino`:
    mean over the batch and over pairs a, v of
      sum_i importance_vi (-sum_k q_a,m(i),k log p_vik),  without v = a

  Codes, matches and importance get no gradient: else all importance would go to patches that are
  easy to predict. Collapse is prevented as in `dino`, by centring and the teacher's low
  temperature.

  Args:
    student: [B, V, L, K], logits of patches; features: [B, V, L, D], what they are matched by.
    importance: [B, V, L], weights that sum to 1; None for 1 / L.
    teacher: [B, A, M, K]; teacher_features: [B, A, M, D].
    center: [K], of `update_center`.
    student_temp, teacher_temp: as of `dino`.
    skip_same: whether v = a is left out; False where student and teacher see other views.
    axis_name: of `pmap` or `shard_map`, if the arrays but the center are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, there is no pair of views, or a temperature is not positive.

  Reference: CMD (https://arxiv.org/abs/2401.08860), intra-level distillation. With importance None
  it equals the region term of the authors' `DDINOLoss`, which is EsViT's
  (https://arxiv.org/abs/2106.09785, equation 4).
  """
  check_shape('student', student, ('B', 'V', 'L', 'K'))
  batch, views, length, width = student.shape
  check_shape('features', features, (batch, views, length, 'D'))
  check_shape('teacher', teacher, (batch, 'A', 'M', width))
  check_shape('teacher_features', teacher_features, (*teacher.shape[:3], features.shape[3]))
  if importance is None:
    importance = jnp.full(student.shape[:3], 1 / length)
  check_shape('importance', importance, student.shape[:3])
  check_positive(student_temp=student_temp, teacher_temp=teacher_temp)
  pairs = view_pairs(teacher.shape[1], views, skip_same)
  mine, theirs = (
    l2_normalize(as_float(lax.stop_gradient(x))) for x in (features, teacher_features)
  )
  weights, logits = lax.stop_gradient(as_float(importance)), as_float(student) / student_temp
  codes, terms = teacher_codes(teacher, center, temp=teacher_temp), 0.0
  for a in range(len(pairs)):  # one at a time: all codes [B, A, V, L, K] need not be there together
    match = dots('bvld,bmd->bvlm', mine, theirs[:, a]).argmax(-1)
    q = jnp.take_along_axis(codes[:, a, None], match[..., None], axis=2)
    each = jnp.sum(weights * soft_cross_entropy(q, logits), -1)
    terms += jnp.where(pairs[a], each, 0).sum(1)
  terms /= pairs.sum()
  return batch_mean(terms.sum(), terms, axis_name)


def cmd_bags(student, patches, importance, *, temp=0.1, axis_name=None):
  """The whole image says what its bag of patches says.

  With p_v = softmax(student_v / temp), b_v = sum_i importance_vi softmax(patch_vi / temp), the bag:
    mean over the batch and its views of  sum_k b_vk log(b_vk / p_vk)

  All three get a gradient: it is by this term that importance is learned. Any answer that is the
  same for all is a minimum, 0; the loss stands beside one that prevents it.

  Args:
    student: [B, V, K], logits of class tokens; patches: [B, V, L, K], logits of patches.
    importance: [B, V, L], weights that sum to 1.
    temp: of both.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; temp is not positive.

  Reference: CMD (https://arxiv.org/abs/2401.08860), inter-level distillation. The authors' code
  adds up patches without weights and passes values that are no probabilities to `kl_div`; this is
  the divergence of the distributions.
  """
  check_shape('student', student, ('B', 'V', 'K'))
  check_shape('patches', patches, (*student.shape[:2], 'L', student.shape[2]))
  check_shape('importance', importance, patches.shape[:3])
  check_positive(temp=temp)
  p = jax.nn.softmax(as_float(patches) / temp)
  bag = dots('bvl,bvlk->bvk', as_float(importance), p)
  log_bag = jnp.log(jnp.maximum(bag, jnp.finfo(bag.dtype).tiny))
  each = jnp.sum(bag * (log_bag - jax.nn.log_softmax(as_float(student) / temp)), -1)
  terms = each.mean(1)
  return batch_mean(terms.sum(), terms, axis_name)
