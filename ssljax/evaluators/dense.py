"""Segmentation from frozen features of patches: what is learned of every place, not of the whole.

Both protocols score patches by class, raise the scores to pixels and count pixels:

    scores [h, w, C] -> bilinear, [H, W, C] -> argmax -> mIoU over classes, accuracy over pixels
"""

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import ops
from ssljax.errors import InputError
from ssljax.evaluators import linear

IGNORE = 255  # of pixels that have no label
K = 30
TEMPERATURE = 0.02
MEMORY = 20_000  # patches that neighbours are looked for among
ROWS = 100_000  # patches that the linear layer is fitted on, at most


def patch_shares(masks, grid, num_classes: int) -> np.ndarray:
  """float32 [N, rows, columns, C]: of the labelled pixels of a patch, the share of each class.

  All zero where a patch has none. masks: int [N, H, W], H and W multiples of the grid.
  """
  n, height, width = masks.shape
  rows, columns = grid
  x = masks.reshape(n, rows, height // rows, columns, width // columns)
  counts = np.stack([(x == c).sum((2, 4)) for c in range(num_classes)], -1).astype(np.float32)
  return counts / np.maximum(counts.sum(-1, keepdims=True), 1)


def to_pixels(scores, size) -> np.ndarray:
  """The class of the largest score [N, h, w, C], raised to `size` (H, W): int32 [N, H, W].

  Bilinear between the centres of patches, constant beyond the outermost; ties go to the smaller
  class.
  """
  rows, columns = (_bilinear(o, s) for o, s in zip(scores.shape[1:3], size, strict=True))
  return np.asarray(jax.device_get(_argmax(jnp.asarray(scores), rows, columns)))


@jax.jit
def _argmax(scores, rows, columns):
  def one(x):
    raised = jnp.einsum('yh,hwc,xw->yxc', rows, x, columns, precision='highest')
    return jnp.argmax(raised, -1).astype(jnp.int32)

  return jax.lax.map(one, scores)


def _bilinear(old, new):
  at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
  return np.maximum(0, 1 - abs(at[:, None] - np.arange(old))).astype(np.float32)


def scores(predicted, masks, num_classes: int) -> dict[str, float]:
  """'miou' and 'accuracy' of predicted classes [N, H, W] of the labelled pixels of masks.

  mIoU is the mean over the classes that occur in the masks or the predictions of |P and T| /
  |P or T|, each counted over all images together.

  Raises InputError if no pixel has a label.
  """
  predicted, masks = np.asarray(predicted), np.asarray(masks)
  known = masks != IGNORE
  if not known.any():
    raise InputError('masks: no pixel with a label seen, at least one wanted')
  pairs = num_classes * masks[known].astype(np.int64) + predicted[known]
  table = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
  common, union = table.diagonal(), table.sum(0) + table.sum(1) - table.diagonal()
  there = union > 0
  return {
    'miou': float((common[there] / union[there]).mean()),
    'accuracy': float(common.sum() / table.sum()),
  }


def knn_seg_v1(
  train_x,
  train_masks,
  test_x,
  test_masks,
  *,
  num_classes: int,
  seed: int = 0,
  k: int = K,
  temperature: float = TEMPERATURE,
  memory: int = MEMORY,
) -> dict[str, float]:
  """Segmentation by retrieval: a patch takes the classes of the patches most like it.

  score_c = sum over the k nearest labelled training patches i of w_i * share_ic,
  w = softmax(cos(x, x_i) / temperature) over those k

  Args:
    train_x: [n, h, w, D] features of patches; train_masks: int [n, H, W] in [0, num_classes), or
      255 for pixels without a label, H a multiple of h and W of w.
    test_x: [m, h', w', D]; test_masks: [m, H', W'].
    num_classes: number of classes.
    seed: draws `memory` training patches where there are more.
    k, temperature: of the vote; where there are fewer patches than k, all vote.

  Returns:
    'miou', 'accuracy', see `scores`.

  Raises:
    InputError: arrays that do not fit together, values that are not finite, labels out of range.

  Balazevic et al. 2023, "Towards in-context scene understanding", section 3, whose k and
  temperature these are.
  """
  train, test = _arrays(train_x, train_masks, test_x, test_masks, num_classes)
  x, shares = _labelled(*train, num_classes, memory, seed)
  queries = ops.l2_normalize(test[0].reshape(-1, test[0].shape[-1]), eps=1e-24)
  near, ids = ops.nearest(queries, ops.l2_normalize(x, eps=1e-24), min(k, len(x)))
  weight = np.asarray(jax.nn.softmax(near / temperature, axis=1))
  ids = np.asarray(ids)
  found = np.zeros((len(ids), num_classes), np.float32)
  for i in range(ids.shape[1]):  # [M, k, C] would be large
    found += weight[:, i, None] * shares[ids[:, i]]
  return _judge(found, *test, num_classes)


def linear_seg_v1(
  train_x, train_masks, test_x, test_masks, *, num_classes: int, seed: int = 0
) -> dict[str, float]:
  """Segmentation by one linear layer on the features of each patch.

  minimise over W, b:  mean over patches -log softmax(W x + b)[y] + l2 / 2 |W|^2

  y is the most frequent class among the labelled pixels of a patch. Features are standardised by
  the training patches. Every l2 of the grid of `linear-v1` is fitted without a fifth of the
  training images, drawn by seed; the one with the best mIoU of patches there (ties: the strongest)
  is fitted again on all.

  Args: as of `knn_seg_v1`, with two training images at least; of more than 100,000 labelled
    training patches so many are drawn by seed.

  Returns:
    'miou', 'accuracy', see `scores`, and the 'l2' chosen.

  Raises:
    InputError: arrays that do not fit together, values that are not finite, labels out of range.
  """
  train, test = _arrays(train_x, train_masks, test_x, test_masks, num_classes)
  if len(train[0]) < 2:
    raise InputError('train_x: 1 image seen, at least 2 wanted (one validates)')
  image = np.broadcast_to(np.arange(len(train[0]))[:, None, None], train[0].shape[:3])
  x, shares, image = _labelled(*train, num_classes, ROWS, seed, image)
  y = shares.argmax(-1).astype(np.int32)
  held_out = max(1, round(linear.VALIDATION_FRACTION * len(train[0])))
  images = np.random.default_rng(seed).permutation(len(train[0]))
  validates = np.isin(image, images[:held_out])
  if validates.all() or not validates.any():
    raise InputError('train_masks: labelled pixels in one image seen, in several wanted')
  x, test_rows = linear._standardise(x, test[0].reshape(-1, test[0].shape[-1]))
  arrays = jax.device_put((x, y, (~validates).astype(np.float32), np.ones(len(y), np.float32)))
  params = jax.device_put(
    (np.zeros((num_classes, x.shape[1]), np.float32), np.zeros(num_classes, np.float32))
  )
  path = []
  for l2 in linear.L2_GRID:
    params, _ = linear._fit(*arrays[:3], *linear._scalars(l2, linear.SWEEP_TOLERANCE), params)
    guess = _logits(params, x[validates]).argmax(-1)
    path.append((scores(guess, y[validates], num_classes)['miou'], l2, params))
  _, l2, params = max(path, key=lambda entry: entry[0])
  params, _ = linear._fit(*arrays[:2], arrays[3], *linear._scalars(l2, linear.TOLERANCE), params)
  return _judge(_logits(params, test_rows), *test, num_classes) | {'l2': l2}


def _logits(params, x):
  w, b = jax.device_get(params)
  return x @ w.T + b


def _judge(found, x, masks, num_classes):
  maps = found.reshape(*x.shape[:3], num_classes)
  return scores(to_pixels(maps, masks.shape[1:]), masks, num_classes)


def _labelled(x, masks, num_classes, most, seed, *others):
  """Features, shares of classes and other arrays of the patches that have a label, at most `most`
  of them, drawn by seed."""
  shares = patch_shares(masks, x.shape[1:3], num_classes)
  rows = np.flatnonzero(shares.any(-1))
  if not len(rows):
    raise InputError('train_masks: no pixel with a label seen, at least one wanted')
  if len(rows) > most:
    rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
  flat = x.reshape(-1, x.shape[-1]), shares.reshape(-1, num_classes), *map(np.ravel, others)
  return tuple(array[rows] for array in flat)


def _arrays(train_x, train_masks, test_x, test_masks, num_classes):
  train = _split('train', train_x, train_masks, num_classes)
  test = _split('test', test_x, test_masks, num_classes)
  if train[0].shape[-1] != test[0].shape[-1]:
    raise InputError(
      f'test_x: width {test[0].shape[-1]} seen, {train[0].shape[-1]} wanted as in train_x'
    )
  return train, test


def _split(name, x, masks, num_classes):
  x, masks = np.asarray(jax.device_get(x), np.float32), np.asarray(masks)
  if x.ndim != 4 or 0 in x.shape:
    raise InputError(f'{name}_x: shape {x.shape} seen, [n, h, w, D] wanted, all positive')
  fits = masks.ndim == 3 and len(masks) == len(x) and 0 not in masks.shape
  if not fits or masks.shape[1] % x.shape[1] or masks.shape[2] % x.shape[2]:
    raise InputError(
      f'{name}_masks: shape {masks.shape} seen, [{len(x)}, H, W] wanted with H a multiple of '
      f'{x.shape[1]} and W of {x.shape[2]}, the patches'
    )
  good = (masks == IGNORE) | ((masks >= 0) & (masks < num_classes))
  if not np.issubdtype(masks.dtype, np.integer) or not good.all():
    raise InputError(
      f'{name}_masks: {masks.dtype} from {masks.min()} to {masks.max()} seen, integers from 0 to '
      f'{num_classes - 1} wanted, or {IGNORE} for none'
    )
  if not np.isfinite(x).all():
    raise InputError(f'{name}_x: NaN or infinite values seen, finite numbers wanted')
  return x, masks
