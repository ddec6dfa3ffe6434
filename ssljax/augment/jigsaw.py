"""Patches of an image in random order, with the semantics of VISSL's jigsaw transforms."""

import jax
import jax.numpy as jnp

from ssljax.augment._geometry import CROP_UNIFORMS, crop_box, crop_resize
from ssljax.errors import InputError


def make(*, size=255, grid=3, jitter=21, scale=(0.6, 1.0)):
  """Builds the function that cuts each image of a batch into a shuffled jigsaw puzzle.

  A random crop is resized to `size`, cut into grid x grid cells, and of each cell a patch taken at
  a random place; the patches come in random order.

  Args:
    size: side of the crop in pixels.
    grid: cells along a side.
    jitter: how much smaller than its cell a patch is, in pixels.
    scale: least and greatest share of the image's area that is cropped.

  Returns:
    views(rng, images): images uint8, or float in [0, 1], [B, H, W, C] -> float32 in [0, 1],
    [B, grid * grid, p, p, C] with p = size // grid - jitter.

  Raises:
    InputError: nothing is left of a cell.

  Reference: PIRL (https://arxiv.org/abs/1912.01991), appendix A, after Noroozi & Favaro
  (https://arxiv.org/abs/1603.09246).
  """
  cell = size // grid
  side, count = cell - jitter, grid * grid
  if jitter < 0 or side < 1:
    raise InputError(
      f'jigsaw.jitter is {jitter}, wanted 0 to {cell - 1}: less than the {cell} pixels of a cell'
    )

  def puzzle(key, image):
    uniforms = jax.random.uniform(key, (CROP_UNIFORMS + 3 * count,))
    box = crop_box(uniforms[:CROP_UNIFORMS], *image.shape[:2], scale)
    image = crop_resize(image, box, size, 'bilinear')
    order, down, right = uniforms[CROP_UNIFORMS:].reshape(3, count)
    places = jnp.argsort(order)
    top = places // grid * cell + jnp.floor(down * jitter).astype(jnp.int32)
    left = places % grid * cell + jnp.floor(right * jitter).astype(jnp.int32)

    def patch(top, left):
      return jax.lax.dynamic_slice(image, (top, left, 0), (side, side, image.shape[2]))

    return jax.vmap(patch)(top, left)

  def views(rng, images):
    scaled = images / 255 if images.dtype == jnp.uint8 else images
    keys = jax.random.split(rng, len(images))
    return jax.vmap(puzzle)(keys, jnp.asarray(scaled, jnp.float32))

  return jax.jit(views)
