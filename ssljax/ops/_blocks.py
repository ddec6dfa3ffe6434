"""Block-wise masks, as BEiT hides patches."""

import jax
import jax.numpy as jnp

from ssljax.errors import InputError

TRIES = 24  # rectangles drawn; those that do not fit are left out


def block_mask(rng, grid, *, count, min_area=4, aspect=0.3):
  """Hides `count` patches in random rectangles, and single ones at the end.

  One rectangle after the other is laid on a random place, its area drawn evenly between `min_area`
  and the number of patches still to hide, its aspect ratio between `aspect` and 1 / `aspect` on a
  logarithmic scale. It stays if its sides are shorter than the grid's and it hides no more new
  patches than are missing. What is missing after TRIES of them is made up by patches drawn one by
  one: on 14 x 14 patches fewer than one of them on average.

  Args:
    rng: random key.
    grid: (rows, columns) of patches.
    count: how many patches are hidden; may be traced, of 0 or more.
    min_area: of a rectangle, in patches.
    aspect: the least ratio of height and width.

  Returns:
    bool [rows * columns], True where hidden, in raster order.

  Raises:
    InputError: aspect is not in 0..1.

  Reference: BEiT (https://arxiv.org/abs/2106.08254), Section 2.3, algorithm 1. The authors' code,
  and iBOT's and DINOv2's after it, ends with fewer than `count` patches where no rectangle fits any
  more; DINOv3's makes them up.
  """
  if not 0 < aspect <= 1:
    raise InputError(f'aspect is {aspect}, wanted more than 0 and at most 1')
  rows, columns = grid
  block_rng, rest_rng = jax.random.split(rng)
  row, column = jnp.arange(rows)[:, None], jnp.arange(columns)[None, :]

  def lay(mask, uniforms):
    missing = count - mask.sum()
    area = min_area + uniforms[0] * (missing - min_area)
    ratio = jnp.exp((2 * uniforms[1] - 1) * -jnp.log(aspect))
    height = jnp.maximum(jnp.round(jnp.sqrt(area * ratio)), 1)
    width = jnp.maximum(jnp.round(jnp.sqrt(area / ratio)), 1)
    top = jnp.floor(uniforms[2] * (rows - height + 1))
    left = jnp.floor(uniforms[3] * (columns - width + 1))
    inside = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    fits = (height < rows) & (width < columns) & ((inside & ~mask).sum() <= missing)
    return jnp.where(fits, mask | inside, mask), None

  uniforms = jax.random.uniform(block_rng, (TRIES, 4))
  mask, _ = jax.lax.scan(lay, jnp.zeros(grid, bool), uniforms)
  mask = mask.reshape(-1)
  # The hidden ones first, then the others in a random order.
  order = jnp.where(mask, -1.0, jax.random.uniform(rest_rng, mask.shape))
  return jnp.argsort(jnp.argsort(order)) < count
