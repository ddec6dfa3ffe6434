"""What every probe asks of the arrays it is given."""

import jax
import numpy as np

from ssljax.errors import InputError


def probe_arrays(train_x, train_y, test_x, test_y, num_classes: int):
  """The same four arrays as float32 [n, D], int32 [n], float32 [m, D] and int32 [m] on the host.

  Raises:
    InputError: a wrong shape, no rows, values that are not finite, labels outside
      [0, num_classes) or widths or lengths that differ.
  """
  if num_classes < 1:
    raise InputError(f'num_classes: {num_classes} seen, at least 1 wanted')
  train_x, train_y = _split('train', train_x, train_y, num_classes)
  test_x, test_y = _split('test', test_x, test_y, num_classes)
  if train_x.shape[1] != test_x.shape[1]:
    raise InputError(
      f'test features: width {test_x.shape[1]} seen, {train_x.shape[1]} wanted as in train'
    )
  return train_x, train_y, test_x, test_y


def _split(name, x, y, num_classes):
  # device_get is the explicit transfer, which a transfer guard lets pass.
  x, y = jax.device_get((x, y))
  x, y = np.asarray(x, np.float32), np.asarray(y)
  if x.ndim != 2 or 0 in x.shape:
    raise InputError(f'{name} features: shape {x.shape} seen, [N, D] wanted with N and D positive')
  if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
    raise InputError(
      f'{name} labels: {y.dtype} of shape {y.shape} seen, integers of shape {x.shape[:1]} wanted'
    )
  if y.min() < 0 or y.max() >= num_classes:
    raise InputError(
      f'{name} labels: {y.min()} to {y.max()} seen, 0 to {num_classes - 1} wanted '
      f'for {num_classes} classes'
    )
  bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
  if bad.size:
    raise InputError(
      f'{name} features: {bad.size} of {len(x)} rows have NaN or infinite values '
      f'(first: row {bad[0]}), finite numbers wanted'
    )
  return x, y.astype(np.int32)


def draw_per_class(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
  """Sorted rows holding `per_class` examples of every class present, drawn by seed.

  Raises:
    InputError: a class has fewer examples than wanted.
  """
  rng = np.random.default_rng(seed)
  rows = []
  for c, count in zip(*np.unique(labels, return_counts=True), strict=True):
    if count < per_class:
      raise InputError(f'labels_per_class: class {c} has {count} labels, {per_class} wanted')
    rows.append(rng.choice(np.flatnonzero(labels == c), per_class, replace=False))
  return np.sort(np.concatenate(rows))


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
  """bool [n], true on the held-out rows: `fraction` of each class, rounded, never a whole class.

  A class of two or more gives at least one row; a class of one gives none.
  """
  rng = np.random.default_rng(seed)
  held_out = np.zeros(len(labels), bool)
  for c in np.unique(labels):
    rows = np.flatnonzero(labels == c)
    count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
    held_out[rng.choice(rows, count, replace=False)] = True
  return held_out
