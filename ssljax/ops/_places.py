"""Places of patches in an image, and the same places in another view of it."""

import jax
import jax.numpy as jnp

from ssljax.errors import InputError


def stratified_places(rng, grid, window):
  """One random patch of each window x window square of a grid.

  Where squares do not tile the grid, they begin at one of its four corners, drawn too, and the
  patches left over are not sampled.

  Args:
    rng: random key.
    grid: (rows, columns) of patches.
    window: side of a square in patches; S = (rows // window) (columns // window).

  Returns:
    int32 [S], the patches, square by square in raster order.

  Raises:
    InputError: no square fits the grid.

  Reference: UDI (https://arxiv.org/abs/2407.17671), stratified random sampling; `_sampling_mask` of
  its code.
  """
  rows, columns = grid
  if not 1 <= window <= min(grid):
    raise InputError(f'window is {window} patches, wanted 1 to {min(grid)}, the side of the grid')
  choice_rng, corner_rng = jax.random.split(rng)
  high, wide = rows // window, columns // window
  chosen = jax.random.randint(choice_rng, (high, wide), 0, window**2)
  last = jnp.array([rows - high * window, columns - wide * window])
  top, left = jnp.where(jax.random.bernoulli(corner_rng, 0.5, (2,)), last, 0)
  row = top + jnp.arange(high)[:, None] * window + chosen // window
  column = left + jnp.arange(wide) * window + chosen % window
  return (row * columns + column).reshape(-1).astype(jnp.int32)


def image_places(places, grid, box, flip=False):
  """Where patches of a view lie in the image that it is a crop of.

  The first and the last patch of a row lie on the first and the last pixel of the box.

  Args:
    places: int [S], patches in raster order; grid: (rows, columns) of the view.
    box: [4], top, left, height, width in pixels; flip: whether the view is mirrored.

  Returns:
    [S, 2], row and column in pixels.
  """
  rows, columns = grid
  share = jnp.stack([places // columns / max(rows - 1, 1), places % columns / max(columns - 1, 1)])
  share = share.at[1].set(jnp.where(flip, 1 - share[1], share[1]))
  return box[:2] + share.T * (box[2:] - 1)


def place_weights(points, grid, box, flip=False):
  """How to read a view's patches at points of the image.

  Weights are bilinear and sum to 1; those of points that are not within the view are 0.

  Args:
    points: [S, 2], row and column in the image, of `image_places`.
    grid, box, flip: of the view that is read, as in `image_places`.

  Returns:
    (weights, inside): [S, L] over the L patches of the view, and bool [S].
  """
  share = (points - box[:2]) / jnp.maximum(box[2:] - 1, 1)
  inside = jnp.all((share > 0) & (share < 1), -1)
  share = share.at[:, 1].set(jnp.where(flip, 1 - share[:, 1], share[:, 1]))

  def near(at, count):
    return jnp.maximum(0, 1 - jnp.abs(at[:, None] * (count - 1) - jnp.arange(count)))

  weights = near(share[:, 0], grid[0])[:, :, None] * near(share[:, 1], grid[1])[:, None]
  weights = weights.reshape(len(points), -1)
  return jnp.where(inside[:, None], weights, 0), inside
