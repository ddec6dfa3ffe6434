"""A page's layout: SelfDocSeg and the focal loss in it."""

import functools

import numpy as np
from losscheck import BATCH, WIDTH, Case, unit

from ssljax import losses

OBJECTS, GRID = 3, (5, 6)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def numpy_focal(logits, target, *, alpha=0.25, gamma=2.0):
  total = 0.0
  for x, t in zip(logits.ravel(), target.ravel(), strict=True):
    p, weight = (sigmoid(x), alpha) if t else (1 - sigmoid(x), 1 - alpha)
    total -= weight * (1 - p) ** gamma * np.log(p)
  return total / logits.size


def numpy_selfdocseg(p1, p2, layout, z1, z2, valid, mask, *, squash=True, **of_focal):
  found = []
  for b, m in zip(*np.nonzero(valid), strict=True):
    one, two = (unit(p1[b, m]) @ unit(z2[b, m]), unit(p2[b, m]) @ unit(z1[b, m]))
    found.append((one + two) / 2)
  layout = sigmoid(layout) if squash else layout
  return 0.7 * numpy_focal(layout, mask, **of_focal) - 0.9 * np.mean(found)


def arrays():
  generator = np.random.default_rng(0)
  p1, p2, z1, z2 = generator.normal(size=(4, BATCH, OBJECTS, WIDTH)).astype(np.float32)
  layout = generator.normal(size=(BATCH, *GRID)).astype(np.float32)
  mask = (generator.random((BATCH, *GRID)) < 0.4).astype(np.float32)
  valid = generator.random((BATCH, OBJECTS)) < 0.6
  valid[1] = False
  return p1, p2, layout, z1, z2, valid, mask


def agrees(t):
  p1, p2, layout, z1, z2, valid, mask = arrays()
  ends = z2, z1, 3 * (2 * mask - 1)
  moved = [np.float32((1 - t) * x + t * end) for x, end in zip((p1, p2, layout), ends, strict=True)]
  return *moved, z1, z2, valid, mask


def focal_agrees(t):
  *_, mask = arrays()
  return np.float32((1 - t) * arrays()[2] + t * 3 * (2 * mask - 1)), mask


def case(squash):
  weights = dict(layout_weight=0.7, similarity_weight=0.9, focal_alpha=0.4, focal_gamma=1.5)
  return Case(
    functools.partial(losses.selfdocseg, **weights, squash=squash),
    functools.partial(numpy_selfdocseg, squash=squash, alpha=0.4, gamma=1.5),
    arrays(), 3, agrees,
  )  # fmt: skip


CASES = {
  'focal': Case(losses.focal, numpy_focal, (arrays()[2], arrays()[6]), 1, focal_agrees),
  'selfdocseg': case(True),
  'selfdocseg, one sigmoid': case(False),
}
GOLDENS = {}
