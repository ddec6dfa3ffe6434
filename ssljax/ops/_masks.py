"""Masks of groups of patches: what masked models hide of one image."""

import math

import jax
import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.ops._patches import unpatchify


def unit_mask(rng, grid, *, unit, ratio):
  """Hides random squares of unit x unit patches.

  Args:
    rng: random key.
    grid: (rows, columns) of patches.
    unit: side of a square in patches; divides both.
    ratio: share of the squares that is hidden, rounded up to a whole number of them.

  Returns:
    bool [rows * columns], True where hidden, in raster order.

  Raises:
    InputError: the squares do not tile the grid, or ratio is not in 0..1.

  Reference: SimMIM (https://arxiv.org/abs/2111.09886), Section 3.2; `MaskGenerator` of its code.
  """
  rows, columns = grid
  if unit < 1 or rows % unit or columns % unit:
    raise InputError(
      f'unit is {unit} patches, wanted one that divides the grid of {rows} x {columns} patches'
    )
  if not 0 <= ratio <= 1:
    raise InputError(f'ratio is {ratio}, wanted 0 to 1')
  h, w = rows // unit, columns // unit
  count = math.ceil(ratio * h * w - 1e-6)  # 0.07 * 100 is a rounding above 7
  hidden = jax.random.permutation(rng, h * w) < count
  hidden = jnp.broadcast_to(hidden.reshape(h, 1, w, 1), (h, unit, w, unit))
  return hidden.reshape(rows * columns)


def group_mask(rng, grid, *, count, max_side=0.3):
  """Hides `count` patches in random, overlapping rectangles.

  Rectangles are laid until they hold `count` patches; the last one is cut off, row by row. Where as
  many rectangles as there are patches are too few, single patches are added.

  Args:
    rng: random key.
    grid: (rows, columns) of patches.
    count: how many patches are hidden; may be traced.
    max_side: the longest side of a rectangle as a share of the grid's; the shortest is one patch.

  Returns:
    bool [rows * columns], True where hidden, in raster order.

  Raises:
    InputError: max_side is not in 0..1.

  Reference: GMML (https://arxiv.org/abs/2205.14986), Section 3; `GMML_drop_rand_patches` of its
  code, which does not cut off the last rectangle.
  """
  rows, columns = grid
  if not 0 <= max_side <= 1:
    raise InputError(f'max_side is {max_side}, wanted 0 to 1, a share of the image')
  length = rows * columns
  block_rng, rest_rng = jax.random.split(rng)
  uniforms = jax.random.uniform(block_rng, (4, length, 1))

  def inside(size, place, extent):
    """bool [blocks, size]: the patches that an interval of random place and extent covers."""
    longest = max(1, round(max_side * size))
    start = jnp.floor(place * size)
    i = jnp.arange(size)
    return (i >= start) & (i < start + 1 + jnp.floor(extent * longest))

  top, left, height, width = uniforms
  covered = inside(rows, top, height)[:, :, None] & inside(columns, left, width)[:, None, :]
  covered = covered.reshape(length, length)
  place = jnp.arange(length) / length
  order = jnp.where(
    covered.any(0),
    jnp.argmax(covered, axis=0) + place,  # the first rectangle that covers it
    length + jax.random.uniform(rest_rng, (length,)),
  )
  return jnp.argsort(jnp.argsort(order)) < count


def mask_pixels(mask, patch_size, height, width):
  """A mask of patches [B, L] as one of pixels, [B, height, width, 1]."""
  patches = jnp.broadcast_to(mask[..., None], (*mask.shape, patch_size**2))
  return unpatchify(patches, patch_size, height, width)
