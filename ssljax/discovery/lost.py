"""LOST: the patch that is like the fewest others lies on an object; grow the object from there.

    a_pq = f_p . f_q,  degree d_p = number of q != p with a_pq > 0
    seed s = argmin_p d_p
    S = those of the k patches of lowest degree with a_sp > 0
    object = connected part, around s, of the patches q with sum_{p in S} a_pq > 0

Simeoni et al. 2021, "Localizing objects with self-supervised transformers and no labels", section
3.2. Follows the authors' code: similarities are plain dot products, and positive ones count, as
against `>= 0` in the paper.
"""

from typing import NamedTuple

import numpy as np

from ssljax.discovery import _grid

PAPER = 'Simeoni et al. 2021, Localizing objects with self-supervised transformers and no labels'
FAMILY = 'discovery'
MODALITY = 'image'


class Found(NamedTuple):
  """boxes: int [1, 4], or [0, 4] if nothing was found, as x, y of the first pixel and of the first
  one beyond. mask: bool [rows, columns] of patches. seed: a patch, in raster order. degree: int
  [N]."""

  boxes: np.ndarray
  mask: np.ndarray
  seed: int
  degree: np.ndarray


def discover(features, grid, *, patch_size: int, image_size=None, k_patches: int = 100) -> Found:
  """One object of an image.

  Args:
    features: [N, D], of patches in raster order; in the paper keys of DINO's last block.
    grid: (rows, columns) of patches, N of them together.
    patch_size: side of a patch in pixels.
    image_size: (height, width), if less than the whole patches: boxes are clipped to it.
    k_patches: among how many patches of lowest degree the seed looks for company.

  Returns:
    What was found. The lowest degree that comes first is the seed. Nothing is found where the seed
    has no positive similarity even to itself, which is where it is zero. Features that are all the
    same make the whole image one object.

  Raises:
    InputError: features that do not fit the grid or are not finite.
  """
  x = _grid.check(features, grid)
  similarity = x @ x.T
  positive = similarity > 0
  degree = positive.sum(1) - positive.diagonal()
  order = np.argsort(degree, kind='stable')
  seed = int(order[0])
  near = order[:k_patches]
  company = near[positive[seed, near]]
  mask = _grid.part_of(seed, (similarity[company].sum(0) > 0).reshape(grid))
  found = mask.any()
  boxes = _grid.box_around(mask, patch_size, image_size)[None] if found else _grid.no_boxes()
  return Found(boxes, mask, seed, degree)
