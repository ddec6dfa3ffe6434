"""MOST: a patch on an object is like few others, close together; group such patches into objects.

    for each patch p its map m_p = max(0, f_p . f_q) over patches q, averaged over k x k, k = 1..5
    p is foreground if at half the k or more the entropy of the map's values, in bits, is less than
      1 + log2(rows of the map)
    foreground patches not farther than `reach` from each other (steps by sides) are one pool
    of each pool: s, of lowest degree; S, those with f_s . f_p > 0
    object = connected part, around s, of the patches q with sum_{p in S} f_p . f_q > 0

Rambhatla et al. 2023, "MOST: multiple object localization with self-supervised transformers for
object discovery", section 3. Follows the authors' code: entropy is that of how often each very
value occurs, so it falls as more of the map is zero; averages are torch's adaptive ones; boxes that
are small or cover the image are dropped.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csgraph

from ssljax.discovery import _grid

PAPER = (
  'Rambhatla et al. 2023, MOST: multiple object localization with self-supervised transformers'
)
FAMILY = 'discovery'
MODALITY = 'image'
KERNELS = (1, 2, 3, 4, 5)


class Found(NamedTuple):
  """boxes: int [n, 4], one for each object, as x, y of the first pixel and of the first one beyond.
  masks: bool [n, rows, columns]. foreground: bool [rows, columns], the patches taken for objects.
  pool: int [rows, columns], to which pool each of them belongs, -1 for the others."""

  boxes: np.ndarray
  masks: np.ndarray
  foreground: np.ndarray
  pool: np.ndarray


def discover(
  features,
  grid,
  *,
  patch_size: int,
  image_size=None,
  kernels=KERNELS,
  reach: int = 2,
  min_side: int = 16,
  max_area: float = 0.9,
) -> Found:
  """All objects of an image, as many as there are pools whose box is kept.

  Args:
    features: [N, D], of patches in raster order; in the paper keys of DINO's last block.
    grid: (rows, columns) of patches, N of them together.
    patch_size: side of a patch in pixels.
    image_size: (height, width), if less than the whole patches: boxes are clipped to it.
    kernels: over how many patches a side maps are averaged.
    reach: up to how many steps apart two foreground patches are joined.
    min_side: boxes not wider and higher than this many pixels are dropped; the authors' 16 is one
      patch of theirs, so give the patch size for smaller ones.
    max_area: boxes that are not smaller than this share of the image are dropped.

  Returns:
    What was found, pools in the order of their first patch. Features that are all the same make
    every patch foreground and one box, of the whole image, which is dropped.

  Raises:
    InputError: features that do not fit the grid or are not finite.
  """
  x = _grid.check(features, grid)
  similarity = x @ x.T
  positive = similarity > 0
  degree = positive.sum(1) - positive.diagonal()
  maps = np.where(positive, similarity, 0).reshape(-1, *grid)
  kernels = sorted({min(k, *grid) for k in kernels})
  votes = sum(
    entropy(average(maps, k).reshape(len(maps), -1)) < 1 + np.log2(grid[0] - k + 1) for k in kernels
  )
  chosen = np.flatnonzero(2 * votes >= len(kernels))
  pool = np.full(len(x), -1)
  pool[chosen] = _pools(np.stack(np.unravel_index(chosen, grid), 1), reach)
  masks, boxes = [], []
  height, width = image_size or np.multiply(grid, patch_size)
  for members in (chosen[pool[chosen] == i] for i in range(pool.max() + 1)):
    seed = members[np.argmin(degree[members])]
    company = members[positive[seed, members]]
    mask = _grid.part_of(seed, (similarity[company].sum(0) > 0).reshape(grid))
    if not mask.any():
      continue
    box = _grid.box_around(mask, patch_size, image_size)
    sides = box[2:] - box[:2]
    if sides.min() > min_side and sides.prod() < max_area * height * width:
      masks.append(mask)
      boxes.append(box)
  return Found(
    np.array(boxes, int).reshape(-1, 4),
    np.array(masks, bool).reshape(-1, *grid),
    (pool >= 0).reshape(grid),
    pool.reshape(grid),
  )


def average(maps, k: int) -> np.ndarray:
  """[n, h, w] -> [n, h - k + 1, w - k + 1], torch's adaptive average over windows.

  Cell i of m is the mean over the rows floor(i h / m) to ceil((i + 1) h / m) - 1.
  """
  rows, columns = (_windows(size, size - k + 1) for size in maps.shape[1:])
  return np.einsum('yh,nhw,xw->nyx', rows, maps, columns, optimize=True)


def _windows(size, count):
  i, place = np.arange(count)[:, None], np.arange(size)
  inside = (place >= i * size // count) & (place < -(-(i + 1) * size // count))
  return inside / inside.sum(1, keepdims=True)


def entropy(values) -> np.ndarray:
  """[n, m] -> [n]: entropy in bits of how often each very number occurs in a row."""
  values = np.sort(values, axis=1)
  new = np.pad(values[:, 1:] != values[:, :-1], ((0, 0), (1, 0)), constant_values=True)
  run = np.cumsum(new.ravel()) - 1
  share = np.bincount(run)[run].reshape(values.shape) / values.shape[1]
  return -np.log2(share).mean(1)


def _pools(places, reach):
  """A number for each of the places [n, 2]: the same for those that a chain of steps joins."""
  if not len(places):
    return np.zeros(0, int)
  apart = np.abs(places[:, None] - places).sum(-1)
  return csgraph.connected_components(apart <= reach, directed=False)[1]
