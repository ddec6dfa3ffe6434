"""MSN and UDI: views that see a part, and what they are to say."""

import functools

import numpy as np
from losscheck import BATCH, WIDTH, Case, Golden, embeddings, unit

from ssljax import losses

VIEWS, PROTOTYPES = 3, 7
MSN = {'tau': 0.3, 'sharpen': 0.5, 'memax_weight': 0.7, 'entropy_weight': 0.2}


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def numpy_msn(anchors, targets, prototypes, *, sinkhorn_iters):
  """As the paper writes it: probabilities, sharpened by a power, view by view."""
  rows = unit(prototypes)
  q = softmax(unit(targets) @ rows.T / MSN['tau']) ** (1 / MSN['sharpen'])
  q /= q.sum(1, keepdims=True)
  for _ in range(sinkhorn_iters):
    q /= q.sum(0)
    q /= q.sum(1, keepdims=True)
  total, mean = 0.0, np.zeros(len(rows))
  for v in range(anchors.shape[1]):
    p = softmax(unit(anchors[:, v]) @ rows.T / MSN['tau'])
    total -= (q * np.log(p)).sum() + MSN['entropy_weight'] * (p * np.log(p)).sum()
    mean += p.mean(0) / anchors.shape[1]
  memax = np.log(len(rows)) + (mean * np.log(mean)).sum()
  return total / np.prod(anchors.shape[:2]) + MSN['memax_weight'] * memax


def msn_arrays():
  anchors = embeddings(1, batch=BATCH * VIEWS)[0].reshape(BATCH, VIEWS, WIDTH)
  return anchors, *embeddings(1, seed=1), *embeddings(1, seed=2, batch=PROTOTYPES)


def msn_agrees(t):
  anchors, targets, prototypes = msn_arrays()
  return np.float32((1 - t) * anchors + t * targets[:, None]), targets, prototypes


def msn_case(iters):
  return Case(
    functools.partial(losses.msn, sinkhorn_iters=iters, **MSN),
    functools.partial(numpy_msn, sinkhorn_iters=iters),
    msn_arrays(), 1, msn_agrees, permutes=False, axis_name=(True, True, False),
  )  # fmt: skip


CLASSES, SEEN, PLACES = 8, 2, 5
UDI = {'student_temp': 0.5, 'teacher_temp': 0.3, 'alpha': 0.4}


def udi_codes(logits, center):
  return softmax((logits - center) / UDI['teacher_temp'])


def numpy_udi(student, plus, patches, teacher, context, teacher_patches, valid, centers):
  def entropy(q, logits):
    return -(q * np.log(softmax(logits / UDI['student_temp']))).sum()

  one, two, three = [], [], []
  for b in range(len(student)):
    for a in range(SEEN):
      for v in range(VIEWS):
        if a != v:
          one.append(entropy(udi_codes(teacher[b, a], centers[0]), student[b, v]))
          mixed = UDI['alpha'] * context[b, a, v] + (1 - UDI['alpha']) * teacher[b, a]
          two.append(entropy(udi_codes(mixed, centers[1]), plus[b, v]))
    for i in np.flatnonzero(valid[b]):
      three.append(entropy(udi_codes(teacher_patches[b, i], centers[2]), patches[b, i]))
  return (np.mean(one) + np.mean(two) + np.mean(three)) / 3


def udi_arrays():
  generator = np.random.default_rng(5)

  def draw(*shape):
    return generator.normal(size=(*shape, CLASSES)).astype(np.float32)

  # What the teacher sees is alike in all pairs: only then can the student say all of it.
  teacher, context = draw(BATCH, 1).repeat(SEEN, 1), draw(BATCH, 1, 1)
  context = context.repeat(SEEN, 1).repeat(VIEWS, 2)
  valid = generator.random((BATCH, PLACES)) < 0.5
  valid[0] = False
  trained = draw(BATCH, VIEWS), draw(BATCH, VIEWS), draw(BATCH, PLACES)
  return *trained, teacher, context, draw(BATCH, PLACES), valid, draw(3)


def udi_agrees(t):
  *trained, teacher, context, teacher_patches, valid, centers = udi_arrays()
  mixed = UDI['alpha'] * context[:, 0] + (1 - UDI['alpha']) * teacher[:, :1]
  targets = teacher[:, :1].repeat(VIEWS, 1), mixed, teacher_patches
  ends = [
    UDI['student_temp'] * np.log(udi_codes(target, center))
    for target, center in zip(targets, centers, strict=True)
  ]
  moved = [np.float32((1 - t) * x + t * end) for x, end in zip(trained, ends, strict=True)]
  return *moved, teacher, context, teacher_patches, valid, centers


CASES = {
  'udi': Case(
    functools.partial(losses.udi, **UDI),
    numpy_udi,
    udi_arrays(),
    3,
    udi_agrees,
    permutes=False,
    axis_name=(*(True,) * 7, False),
  ),
  'msn': msn_case(0),
  'msn, sinkhorn': msn_case(3),
}


def msn_golden(case):
  given, hp, grad = case['in'], case['hp'], case['grad']
  assert np.array_equal(given['proto_labels'], np.eye(len(given['prototypes'])))
  views = hp['num_views'].item()
  loss = functools.partial(
    losses.msn,
    tau=hp['tau'].item(),
    sharpen=hp['sharpen_T'].item(),
    sinkhorn_iters=3 * bool(hp['use_sinkhorn']),
    memax_weight=hp['memax_weight'].item(),
    entropy_weight=float(hp['use_entropy']),
  )

  def batch_first(x):
    # The authors' views are one after the other in one axis.
    return x.reshape(views, -1, x.shape[-1]).swapaxes(0, 1)

  return Golden(
    loss,
    [batch_first(given['anchors']), given['targets'], given['prototypes']],
    case['out']['loss'],
    [batch_first(grad['anchors']), grad['targets'], grad['prototypes']],
  )


GOLDENS = {'msn': msn_golden}
