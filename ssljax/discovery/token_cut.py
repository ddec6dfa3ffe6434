"""TokenCut: cut the graph of patches in two where the fewest likenesses are lost.

    w_pq = 1 if cos(f_p, f_q) > tau else eps,  D = diag(sum_q w_pq)
    (D - W) y = lambda D y, y of the second smallest lambda
    foreground = the side of mean(y) on which |y| is largest; s that patch
    object = the part of the foreground that is connected to s

Wang et al. 2022, "Self-supervised transformers for unsupervised object discovery using normalized
cut", section 3.2. Follows the authors' code, which keeps the part around s, as the paper does.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg

from ssljax.discovery import _grid

PAPER = (
  'Wang et al. 2022, Self-supervised transformers for unsupervised object discovery (TokenCut)'
)
FAMILY = 'spectral'
MODALITY = 'image'


class Found(NamedTuple):
  """boxes: int [1, 4], or [0, 4] if nothing was found, as x, y of the first pixel and of the first
  one beyond. mask: bool [rows, columns], the object; foreground: bool, all on its side of the cut.
  seed: a patch, in raster order. eigenvector [rows, columns] with y' D y = 1, positive at the seed,
  and its eigenvalue: how much of the likenesses the cut loses, 0 to 2."""

  boxes: np.ndarray
  mask: np.ndarray
  foreground: np.ndarray
  seed: int
  eigenvector: np.ndarray
  eigenvalue: float


def discover(
  features, grid, *, patch_size: int, image_size=None, tau: float = 0.2, eps: float = 1e-5
) -> Found:
  """One object of an image.

  Args:
    features: [N, D], of patches in raster order; in the paper keys of DINO's last block.
    grid: (rows, columns) of patches, N of them together.
    patch_size: side of a patch in pixels.
    image_size: (height, width), if less than the whole patches: boxes are clipped to it.
    tau: from which cosine on patches are alike.
    eps: what joins those that are not.

  Returns:
    What was found: nothing where all pairs of patches are alike, or none, so that no cut is better
    than another. A patch of zeros is like no other, nor like itself.

  Raises:
    InputError: features that do not fit the grid or are not finite.
  """
  x = _grid.check(features, grid)
  length = np.linalg.norm(x, axis=1, keepdims=True)
  x = x / np.where(length > 0, length, 1)
  alike = x @ x.T > tau
  others = alike[~np.eye(len(x), dtype=bool)]
  if not others.any() or others.all():
    nothing = np.zeros(grid, bool)
    return Found(_grid.no_boxes(), nothing, nothing, 0, np.zeros(grid), 0.0)
  weight = np.where(alike, 1.0, eps)
  degree = np.diag(weight.sum(1))
  (value,), vectors = linalg.eigh(degree - weight, degree, subset_by_index=[1, 1])
  y = vectors[:, 0]
  seed = int(np.argmax(np.abs(y)))
  if y[seed] < y.mean():
    y = -y
  foreground = (y > y.mean()).reshape(grid)
  mask = _grid.part_of(seed, foreground)
  boxes = _grid.box_around(mask, patch_size, image_size)[None]
  return Found(boxes, mask, foreground, seed, y.reshape(grid), float(value))
