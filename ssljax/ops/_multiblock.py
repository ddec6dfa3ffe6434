"""I-JEPA's masks: several blocks to predict, and one context without them."""

import math

import jax
import jax.numpy as jnp

from ssljax.errors import InputError


def block_size(grid, scale, aspect, *, uniform=0.5, inner=True):
  """Rows and columns of a block of patches, from one uniform number.

  It sets both the area, a share from scale[0] to scale[1] of the grid, and the ratio of height and
  width, from aspect[0] to aspect[1]: (round(sqrt(area aspect)), round(sqrt(area / aspect))), one
  at least.

  Args:
    grid: (rows, columns) of patches.
    scale, aspect: (least, largest) of the area's share and of the ratio.
    uniform: from 0 to 1; 0.5 is the middle of both ranges.
    inner: whether a block must be smaller than the grid, as in the authors' code, or may fill it.

  Returns:
    (rows, columns) of the block.

  Reference: I-JEPA (https://arxiv.org/abs/2301.08243), `_sample_block_size` of its `multiblock.py`.
  """
  area = int(grid[0] * grid[1] * (scale[0] + uniform * (scale[1] - scale[0])))
  ratio = aspect[0] + uniform * (aspect[1] - aspect[0])
  sides = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
  return tuple(max(1, min(side, size - inner)) for side, size in zip(sides, grid, strict=True))


def multiblock_count(grid, *, targets, target, context):
  """How many patches of a context block are left whatever the targets are: area less theirs.

  Args:
    grid: (rows, columns) of patches.
    targets: how many targets there are.
    target, context: (rows, columns) of the blocks.

  Returns:
    The number of patches.

  Raises:
    InputError: none may be left, or a block is larger than the grid.
  """
  for name, (h, w) in (('target', target), ('context', context)):
    if not (1 <= h <= grid[0] and 1 <= w <= grid[1]):
      raise InputError(f'{name} is {h} x {w} patches, wanted at most {grid[0]} x {grid[1]}')
  left = math.prod(context) - targets * math.prod(target)
  if left < 1:
    raise InputError(
      f'targets is {targets}, of {target[0]} x {target[1]} patches: they may cover the whole '
      f'context of {context[0]} x {context[1]}, wanted fewer or smaller ones'
    )
  return left


def multiblock_mask(rng, grid, *, targets=4, target, context, inner=True, truncate='raster'):
  """Random blocks to predict, and a context without them.

  A program has static shapes, so the blocks have one size for the whole run (the authors draw one
  for each batch; see `block_size`) and every context has as many patches as are left in the worst
  case, where no targets overlap (see `multiblock_count`). The authors cut all contexts of a batch
  to the smallest: of 128 images of 16 x 16 patches that is 69 on average, here 57; of 14 x 14
  patches 51 and 49. Nothing of a target is ever in a context.

  Args:
    rng: random key.
    grid: (rows, columns) of patches.
    targets: how many blocks are predicted.
    target, context: (rows, columns) of the blocks.
    inner: whether corners are drawn as in the authors' code, one place short of the last, so that
      the last row and column are never in a block that is smaller than the grid.
    truncate: which patches of a context stay, 'raster' for the first ones, as in the authors' code,
      or 'random'.

  Returns:
    (int32 [K], int32 [targets, k]), patches of the context and of each target; indices in raster
    order.

  Raises:
    InputError: the blocks do not fit, or truncate is unknown.

  Reference: I-JEPA (https://arxiv.org/abs/2301.08243), Section 3 and Appendix A.1.
  """
  corner_rng, order_rng = jax.random.split(rng)
  corners = jax.random.uniform(corner_rng, (targets + 1, 2))
  draws = jax.random.uniform(order_rng, (grid[0] * grid[1],))
  return lay_blocks(
    corners, draws, grid, target=target, context=context, inner=inner, truncate=truncate
  )


def lay_blocks(corners, draws, grid, *, target, context, inner=True, truncate='raster'):
  """`multiblock_mask` of uniform numbers that the caller draws.

  Args:
    corners: [1 + targets, 2], numbers from 0 to 1, the context's first.
    draws: [rows columns], for truncation at random.
    grid, target, context, inner, truncate: as of `multiblock_mask`.

  Returns:
    (int32 [K], int32 [targets, k]), as `multiblock_mask`.

  Raises:
    InputError: the blocks do not fit, or truncate is unknown.
  """
  if truncate not in ('raster', 'random'):
    raise InputError(f"truncate is {truncate!r}, wanted 'raster' or 'random'")
  keep = multiblock_count(grid, targets=len(corners) - 1, target=target, context=context)

  def covered(uniform, size):
    inside = []
    for u, side, length in zip(uniform, size, grid, strict=True):
      first = jnp.floor(u * max(length - side + (not inner), 1))
      places = jnp.arange(length)
      inside.append((places >= first) & (places < first + side))
    return (inside[0][:, None] & inside[1]).reshape(-1)

  hidden = jnp.stack([covered(u, target) for u in corners[1:]])
  left = covered(corners[0], context) & ~hidden.any(0)
  if truncate == 'random':
    left = jnp.argsort(jnp.argsort(jnp.where(left, draws, 2.0))) < keep
  return _first(left, keep), _first(hidden, target[0] * target[1])


def _first(mask, count):
  """Indices of the first `count` true places of [..., L]."""
  return jnp.argsort(~mask, axis=-1, stable=True)[..., :count].astype(jnp.int32)
