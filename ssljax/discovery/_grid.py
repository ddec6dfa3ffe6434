"""What the methods share: patches on a grid, connected parts of it, and boxes around them."""

import numpy as np
from scipy import ndimage

from ssljax.errors import InputError


def check(features, grid) -> np.ndarray:
  """The features [N, D] in float64, N = rows * columns of the grid.

  Raises InputError if they have another shape or are not finite.
  """
  x = np.asarray(features, np.float64)
  rows, columns = grid
  if x.ndim != 2 or len(x) != rows * columns or not x.size:
    raise InputError(
      f'features has shape {list(x.shape)}, wanted [{rows * columns}, D] for a grid of {rows} rows '
      f'and {columns} columns'
    )
  if not np.isfinite(x).all():
    raise InputError('features has NaN or infinite values, wanted finite numbers')
  return x


def part_of(seed: int, inside: np.ndarray) -> np.ndarray:
  """bool [rows, columns]: the part of `inside` that hangs together with the patch `seed`.

  Patches hang together by their sides, not by their corners. Without the seed nothing is left.
  """
  parts, _ = ndimage.label(inside)
  here = parts[np.unravel_index(seed, inside.shape)]
  return (parts == here) & inside


def box_around(mask: np.ndarray, patch_size: int, image_size=None) -> np.ndarray:
  """int [4]: x and y of the first pixel, and of the first one beyond, of the patches in a mask.

  image_size: (height, width) of the image where it was padded to whole patches.
  """
  rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
  height, width = image_size or np.multiply(mask.shape, patch_size)
  box = patch_size * np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
  return np.minimum(box, [width, height, width, height])


def no_boxes() -> np.ndarray:
  """int [0, 4]: of an image in which nothing is found."""
  return np.zeros((0, 4), int)
