"""How well boxes and masks meet those of the objects that are there."""

import numpy as np

from ssljax.errors import InputError


def box_iou(a, b) -> np.ndarray:
  """Intersection over union of boxes a [n, 4] and b [m, 4] -> [n, m].

  A box is x, y of its first point and of its last, or the first beyond: its width is x2 - x1. An
  empty box has 0 with all.
  """
  a, b = (_boxes(x, name)[:, None] for x, name in ((a, 'a'), (b, 'b')))
  b = b.transpose(1, 0, 2)
  sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
  common = np.clip(sides, 0, None).prod(-1)
  areas = [np.clip(x[..., 2:] - x[..., :2], 0, None).prod(-1) for x in (a, b)]
  union = sum(areas) - common
  return np.where(union > 0, common / np.where(union > 0, union, 1), 0.0)


def _boxes(x, name):
  x = np.asarray(x, np.float64)
  if x.ndim != 2 or x.shape[1] != 4:
    raise InputError(f'{name} has shape {list(x.shape)}, wanted boxes [n, 4]')
  return x


def corloc(predicted, truth, *, threshold: float = 0.5) -> float:
  """Correct localisation: the share of images with a predicted box that meets a true one.

  A box meets another if their IoU is at least `threshold`.

  Args:
    predicted: boxes [n_i, 4] of each image, any number of them, 0 too.
    truth: boxes [m_i, 4] of each image, at least one.

  Raises:
    InputError: no images, not as many of both, an image without a true box.

  Vo et al. 2020; LOST, section 4.1.
  """
  found = [iou.max(initial=0) >= threshold for iou in _each(predicted, truth)]
  return float(np.mean(found))


def box_recall(predicted, truth, *, threshold: float = 0.5) -> float:
  """The share of all true boxes that a predicted box of their image meets; as `corloc`."""
  found = [iou.max(0, initial=0) >= threshold for iou in _each(predicted, truth)]
  return float(np.concatenate(found).mean())


def _each(predicted, truth):
  predicted, truth = list(predicted), list(truth)
  if len(predicted) != len(truth) or not truth:
    raise InputError(
      f'predicted and truth: boxes of {len(predicted)} and {len(truth)} images seen, the '
      'same number of each wanted, at least one'
    )
  for i, boxes in enumerate(truth):
    if not len(boxes):
      raise InputError(f'truth: no box in image {i} seen, at least one wanted')
  return [box_iou(p, t) for p, t in zip(predicted, truth, strict=True)]


def mask_iou(predicted, truth) -> float:
  """mIoU of foreground: the mean over images of |P and T| / |P or T|.

  Args:
    predicted, truth: bool [N, H, W]. Where both are empty the image counts as 1.
  """
  predicted, truth = np.asarray(predicted, bool), np.asarray(truth, bool)
  if predicted.shape != truth.shape or truth.ndim != 3 or not len(truth):
    raise InputError(
      f'predicted and truth: shapes {list(predicted.shape)} and {list(truth.shape)} seen, one '
      '[N, H, W] wanted'
    )
  union = (predicted | truth).sum((1, 2))
  return float(np.where(union, (predicted & truth).sum((1, 2)) / np.maximum(union, 1), 1.0).mean())
