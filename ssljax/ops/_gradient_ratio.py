"""Gradients by ratio, which multiplicative noise (speckle) does not disturb."""

import jax.numpy as jnp
import numpy as np

from ssljax.errors import InputError
from ssljax.ops._check import as_float, check_shape
from ssljax.ops._dots import dots


def gradient_ratio(images, radius, *, offset=1e-2):
  """How much brighter one side of each pixel is than the other, as a ratio.

  Of the window of 2 radius + 1 pixels a side around a pixel, with sums over its halves, which share
  the line through the pixel:
    sqrt(log(left / right)^2 + log(upper / lower)^2)

  Images are mirrored at the borders, the border itself not repeated. But for the offset, a factor
  on the image changes nothing. Channels are taken one by one.

  Args:
    images: [B, H, W, C] of at least 0.
    radius: in pixels, 1 or more.
    offset: added to the images, more than 0 where they have zeros.

  Returns:
    [B, H, W, C], in float32 at least; 0 where the window is of one value.

  Raises:
    InputError: images are not [B, H, W, C] or the radius is less than 1.

  Reference: SAR-JEPA (https://arxiv.org/abs/2311.15153), Section 3.2; `GF` of the authors' code,
  where the window is a square without weights.
  """
  check_shape('images', images, ('B', 'H', 'W', 'C'))
  if radius < 1:
    raise InputError(f'radius is {radius} pixels, wanted 1 or more')
  x = as_float(images) + offset
  rows, columns = (_sums(n, radius) for n in x.shape[1:3])

  def summed(row, column):
    return dots('ih,bhwc,jw->bijc', rows[row], x, columns[column])

  across = jnp.log(summed('all', 'first') / summed('all', 'last'))
  down = jnp.log(summed('first', 'all') / summed('last', 'all'))
  squared = across**2 + down**2
  flat = squared == 0  # the root has no gradient there
  return jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, squared)))


def _sums(size, radius):
  """Matrices [size, size] that sum over a window around each place, and over its halves."""
  source = np.pad(np.arange(size), radius, mode='reflect')
  matrices = {}
  for name, steps in {
    'all': range(-radius, radius + 1),
    'first': range(-radius, 1),
    'last': range(radius + 1),
  }.items():
    matrices[name] = np.zeros((size, size), np.float32)
    for i in range(size):
      for step in steps:
        matrices[name][i, source[i + radius + step]] += 1
  return matrices
