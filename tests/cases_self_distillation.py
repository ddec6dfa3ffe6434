"""DINO's family: DINO, iBOT's patches, DINOv2's codes, DINOv3's Gram anchoring."""

import functools

import jax.numpy as jnp
import numpy as np
from losscheck import BATCH, Case, Golden, unit

from ssljax import losses

VIEWS, SEEN, CLUSTERS, PATCHES = 3, 2, 7, 5
TEMPS = {'student_temp': 0.5, 'teacher_temp': 0.3}


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def numpy_sinkhorn(scores, eps, iters=3):
  q = np.exp(scores / eps)
  for _ in range(iters):
    q /= q.sum(0) * q.shape[1]
    q /= q.sum(1, keepdims=True) * q.shape[0]
  return q * q.shape[0]


def cross_entropy(q, logits):
  return -(q * np.log(softmax(logits))).sum(-1)


def codes(teacher, center):
  if center is not None:
    return softmax((teacher - center) / TEMPS['teacher_temp'])
  flat = teacher.reshape(-1, teacher.shape[-1])
  return numpy_sinkhorn(flat, TEMPS['teacher_temp']).reshape(teacher.shape)


def numpy_dino(student, teacher, center=None, weight=(1.0, 1.0, 1.0)):
  q, found = codes(teacher, center), []
  for a in range(teacher.shape[1]):
    for v in range(student.shape[1]):
      if a != v:
        each = cross_entropy(q[:, a], student[:, v] / TEMPS['student_temp'])
        found.append(weight[v] * each.mean())
  return np.mean(found)


def numpy_patch(student, teacher, mask, center=None):
  total = 0.0
  if center is None:
    q = np.zeros(teacher.shape)
    q[mask] = numpy_sinkhorn(teacher[mask], TEMPS['teacher_temp'])
  else:
    q = codes(teacher, center)
  for i in range(len(student)):
    if mask[i].any():
      each = cross_entropy(q[i], student[i] / TEMPS['student_temp'])
      total += each[mask[i]].mean()
  return total / len(student)


def numpy_gram(student, target):
  total = 0.0
  for s, t in zip(unit(student), unit(target), strict=True):
    total += ((s @ s.T - t @ t.T) ** 2).mean()
  return total / len(student)


def draw(*shapes, seed=0):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def wanted(teacher, center):
  """The student's logits at which it says what the teacher does."""
  return np.float32(TEMPS['student_temp'] * np.log(codes(teacher, center)))


DINO = draw((BATCH, VIEWS, CLUSTERS), (BATCH, SEEN, CLUSTERS), (CLUSTERS,))
# What the teacher sees is alike in both views: only then can the student say all of it.
DINO[1][:, 1] = DINO[1][:, 0]
PATCH = draw((BATCH, PATCHES, CLUSTERS), (BATCH, PATCHES, CLUSTERS), (CLUSTERS,), seed=1)
MASK = np.random.default_rng(2).random((BATCH, PATCHES)) < 0.4
MASK[0] = False
GRAM = draw((BATCH, PATCHES, 12), (BATCH, PATCHES, 6), seed=3)


WEIGHT = np.array([1.0, 1.0, 0.5], np.float32)


def dino_agrees(t, center=DINO[2]):
  student, teacher, *_ = DINO
  end = np.repeat(wanted(teacher, center)[:, :1], VIEWS, axis=1)
  return [np.float32((1 - t) * student + t * end), teacher, *([] if center is None else [center])]


def patch_agrees(t, center=PATCH[2]):
  student, teacher, *_ = PATCH
  end = np.zeros_like(student)
  if center is None:
    q = numpy_sinkhorn(teacher[MASK], TEMPS['teacher_temp'])
    end[MASK] = TEMPS['student_temp'] * np.log(q)
  else:
    end = wanted(teacher, center)
  moved = np.float32((1 - t) * student + t * end)
  return [moved, teacher, MASK, *([] if center is None else [center])]


def gram_agrees(t):
  student, target = GRAM
  padded = np.pad(target, ((0, 0), (0, 0), (0, 6)))
  return [np.float32((1 - t) * student + t * padded), target]


dino = functools.partial(losses.dino, **TEMPS)
patch = functools.partial(losses.ibot_patch, **TEMPS)
CASES = {
  'dino': Case(
    dino, numpy_dino, (*DINO,), 1, dino_agrees, permutes=False, axis_name=(True, True, False)
  ),
  'dino, weighted': Case(
    functools.partial(dino, weight=WEIGHT), functools.partial(numpy_dino, weight=WEIGHT), (*DINO,),
    1, dino_agrees, permutes=False, axis_name=(True, True, False),
  ),
  'dino, sinkhorn': Case(
    dino, numpy_dino, (*DINO[:2],), 1, functools.partial(dino_agrees, center=None)
  ),
  'ibot_patch': Case(
    patch, numpy_patch, (*PATCH[:2], MASK, PATCH[2]), 1, patch_agrees, permutes=False,
    axis_name=(True, True, True, False),
  ),
  'ibot_patch, sinkhorn': Case(
    patch, numpy_patch, (*PATCH[:2], MASK), 1, functools.partial(patch_agrees, center=None)
  ),
  'gram': Case(losses.gram, numpy_gram, (*GRAM,), 1, gram_agrees),
}  # fmt: skip


def dino_golden(case):
  given, hp, out = case['in'], case['hp'], case['out']
  count, width = given['teacher'].shape[0] // 2, given['student'].shape[1]

  def loss(student, teacher, center):
    # The authors' views are one after the other in one axis.
    s, t = (x.reshape(-1, count, width).swapaxes(0, 1) for x in (student, teacher))
    temps = dict(student_temp=hp['student_temp'].item())
    value = losses.dino(s, t, center, teacher_temp=out['teacher_temp_used'].item(), **temps)
    momentum = hp['center_momentum'].item()
    return value, losses.update_center(center, t, momentum=momentum)

  return Golden(
    loss, [given['student'], given['teacher'], given['state_center'][0]], out['loss'],
    [case['grad']['student']], aux=out['state_center'][0],
  )  # fmt: skip


def ibot_golden(case):
  given, hp, out = case['in'], case['hp'], case['out']
  seen = hp['n_global'].item()
  count = given['teacher_cls'].shape[0] // seen
  local = [given['student_local_cls']] if hp['n_local'] else []

  def views(x):
    return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)

  def loss(cls, patches, *rest):
    *local, teacher_cls, teacher_patches, mask, center, patch_center = rest
    student = views(jnp.concatenate([cls, *local]))
    temp = hp['student_temp'].item()
    one = losses.dino(
      student, views(teacher_cls), center, student_temp=temp,
      teacher_temp=hp['teacher_temp'].item(),
    )  # fmt: skip
    other = losses.ibot_patch(
      patches, teacher_patches, mask.reshape(patches.shape[:2]) > 0, patch_center,
      student_temp=temp, teacher_temp=hp['teacher_patch_temp'].item(),
    )  # fmt: skip
    state = (
      losses.update_center(center, teacher_cls, momentum=hp['center_momentum'].item()),
      losses.update_center(patch_center, teacher_patches, momentum=hp['center_momentum2'].item()),
    )
    return hp['lambda1'].item() * one + hp['lambda2'].item() * other, state

  return Golden(
    loss,
    [
      given['student_cls'], given['student_patch'], *local, given['teacher_cls'],
      given['teacher_patch'], given['mask'].astype(np.int32), given['state_center'][0],
      given['state_center2'][0, 0],
    ],
    out['loss'],
    [case['grad'][name] for name in ('student_cls', 'student_patch')]
    + ([case['grad']['student_local_cls']] if local else []),
    aux=(out['state_center'][0], out['state_center2'][0, 0]),
  )  # fmt: skip


def dinov2_options(hp):
  names = ('student_temp', 'teacher_temp')
  return {name: hp[name].item() for name in names} | {'iters': hp['n_iterations'].item()}


def dinov2_dino_golden(case):
  given, hp, out = case['in'], case['hp'], case['out']
  options, centred = dinov2_options(hp), str(hp['mode']) == 'centering'
  pairs = len(given['student']) * len(given['teacher'])

  def loss(student, teacher, center):
    s, t = student.swapaxes(0, 1), teacher.swapaxes(0, 1)
    used = center if centred else None
    value = pairs * losses.dino(s, t, used, skip_same=False, **options)
    probs = losses.teacher_codes(
      t, used, temp=options['teacher_temp'], iters=options['iters']
    ).swapaxes(0, 1)
    moved = losses.update_center(center, t, momentum=hp['center_momentum'].item())
    return value, (probs, moved if centred else center)

  center = given['state_center'][0]
  return Golden(
    loss, [given['student'], given['teacher'], center], out['loss'], [case['grad']['student']],
    aux=(out['teacher_probs'], out['state_center'][0] if centred else center),
  )  # fmt: skip


def dinov2_patch_golden(case):
  given, hp, out = case['in'], case['hp'], case['out']
  options, centred = dinov2_options(hp), str(hp['mode']) == 'centering'
  mask, center = given['mask'], given['state_center'].reshape(-1)
  rows, columns = np.nonzero(mask)

  def loss(student, teacher, center):
    used = center if centred else None
    value = losses.ibot_patch(student, teacher, mask, used, **options)
    probs = losses.teacher_codes(
      teacher, used, temp=options['teacher_temp'], iters=options['iters'], where=mask
    )[rows, columns]
    moved = losses.update_center(center, teacher, where=mask, momentum=hp['center_momentum'].item())
    return value, (probs, moved if centred else center)

  return Golden(
    loss, [given['student_patch'], given['teacher_patch'], center], out['loss'],
    [case['grad']['student_patch']],
    aux=(out['teacher_probs_masked'], out['state_center'].reshape(-1) if centred else center),
  )  # fmt: skip


def gram_golden(case):
  given, hp = case['in'], case['hp']
  loss = functools.partial(
    losses.gram,
    normalize=bool(hp['apply_norm']),
    per_image=bool(hp['img_level']),
    drop_negative=bool(hp['remove_neg']),
    drop_target_negative=bool(hp['remove_only_teacher_neg']),
  )
  arrays = [given['output_feats'], given['target_feats']]
  return Golden(loss, arrays, case['out']['loss'], [case['grad']['output_feats']])


GOLDENS = {
  'dino': dino_golden,
  'ibot': ibot_golden,
  'dinov2_dino': dinov2_dino_golden,
  'dinov2_ibot_patch': dinov2_patch_golden,
  'dinov3_gram': gram_golden,
}
