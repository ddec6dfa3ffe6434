"""CMD: bags of patches."""

import functools

import numpy as np
from losscheck import BATCH, Case, unit

from ssljax import losses

VIEWS, SEEN, PATCHES, OTHERS, CLASSES, FEATURES = 3, 2, 4, 5, 9, 6
TEMPS = {'student_temp': 0.5, 'teacher_temp': 0.3}


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def matches(features, teacher_features, b, a, v):
  return (unit(features[b, v]) @ unit(teacher_features[b, a]).T).argmax(1)


def numpy_regions(student, features, importance, teacher, teacher_features, center):
  total = []
  for b in range(len(student)):
    for a in range(SEEN):
      for v in range(VIEWS):
        if a == v:
          continue
        match, found = matches(features, teacher_features, b, a, v), 0.0
        for i in range(PATCHES):
          q = softmax((teacher[b, a, match[i]] - center) / TEMPS['teacher_temp'])
          log_p = np.log(softmax(student[b, v, i] / TEMPS['student_temp']))
          weight = 1 / PATCHES if importance is None else importance[b, v, i]
          found -= weight * (q * log_p).sum()
        total.append(found)
  return np.mean(total)


def numpy_bags(student, patches, importance, *, temp=0.5):
  total = []
  for b in range(len(student)):
    for v in range(VIEWS):
      p = softmax(student[b, v] / temp)
      bag = sum(w * softmax(x / temp) for w, x in zip(importance[b, v], patches[b, v], strict=True))
      total.append((bag * np.log(bag / p)).sum())
  return np.mean(total)


def draw(*shapes, seed=0):
  generator = np.random.default_rng(seed)
  return [generator.normal(size=(BATCH, *shape)).astype(np.float32) for shape in shapes]


def region_arrays():
  student, features, scores, teacher, theirs = draw(
    (VIEWS, PATCHES, CLASSES), (VIEWS, PATCHES, FEATURES), (VIEWS, PATCHES),
    (SEEN, OTHERS, CLASSES), (SEEN, OTHERS, FEATURES),
  )  # fmt: skip
  return student, features, softmax(scores), teacher, theirs, draw((CLASSES,), seed=1)[0][0]


def regions_agree(t):
  student, features, importance, teacher, theirs, center = region_arrays()
  end = np.zeros_like(student)
  for b in range(BATCH):
    for v in range(VIEWS):
      wanted = []
      for a in set(range(SEEN)) - {v}:
        match = matches(features, theirs, b, a, v)
        wanted.append(softmax((teacher[b, a, match] - center) / TEMPS['teacher_temp']))
      end[b, v] = TEMPS['student_temp'] * np.log(np.mean(wanted, 0))
  return np.float32((1 - t) * student + t * end), features, importance, teacher, theirs, center


def bag_arrays():
  student, patches, scores = draw((VIEWS, CLASSES), (VIEWS, PATCHES, CLASSES), (VIEWS, PATCHES))
  return student, patches, softmax(scores)


def bags_agree(t):
  student, patches, importance = bag_arrays()
  bag = (importance[..., None] * softmax(patches / 0.5)).sum(2)
  return np.float32((1 - t) * student + t * 0.5 * np.log(bag)), patches, importance


def unweighted(student, features, teacher, teacher_features, center, **options):
  return losses.cmd_regions(
    student, features, None, teacher, teacher_features, center, **TEMPS, **options
  )


def numpy_unweighted(student, features, teacher, teacher_features, center):
  return numpy_regions(student, features, None, teacher, teacher_features, center)


def without_importance(arrays):
  return *arrays[:2], *arrays[3:]


CASES = {
  'cmd_regions': Case(
    functools.partial(losses.cmd_regions, **TEMPS), numpy_regions, region_arrays(), 1,
    regions_agree, permutes=False, axis_name=(*(True,) * 5, False),
  ),
  'cmd_regions, alike': Case(
    unweighted, numpy_unweighted, without_importance(region_arrays()), 1,
    lambda t: without_importance(regions_agree(t)), permutes=False,
    axis_name=(*(True,) * 4, False),
  ),
  'cmd_bags': Case(
    functools.partial(losses.cmd_bags, temp=0.5), numpy_bags, bag_arrays(), 2, bags_agree,
    prevented_by='the loss stands beside one that prevents it',
  ),
}  # fmt: skip
GOLDENS = {}
