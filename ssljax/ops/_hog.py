"""Histograms of oriented gradients, a representation of images that is not learned."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.ops._check import as_float, check_shape


def hog(images, *, bins=9, cell=8):
  """Histograms of the directions of the gradient, in cells of the image.

  The gradient is the central difference, 0 across the border. Its direction without sign, in [0,
  pi), is shared linearly between the two nearest of `bins` bins, weighted by its magnitude, and
  averaged over square cells. Rows and columns that fill no cell are left out; each channel has its
  own histograms.

  Args:
    images: float [B, H, W, C].
    bins: directions told apart.
    cell: side of a cell, in pixels.

  Returns:
    [B, (H // cell), (W // cell), C * bins].

  Raises:
    InputError: `images` is not [B, H, W, C], or has no whole cell.

  Reference: Dalal & Triggs 2005, Histograms of oriented gradients for human detection, without the
  normalisation of blocks.
  """
  check_shape('images', images, ('B', 'H', 'W', 'C'))
  x = as_float(images)
  batch, height, width, channels = x.shape
  rows, columns = height // cell, width // cell
  if not rows or not columns:
    raise InputError(f'images are {height} x {width}, wanted sides of at least a cell, {cell}')
  across = jnp.pad((x[:, :, 2:] - x[:, :, :-2]) / 2, ((0, 0), (0, 0), (1, 1), (0, 0)))
  down = jnp.pad((x[:, 2:] - x[:, :-2]) / 2, ((0, 0), (1, 1), (0, 0), (0, 0)))
  # Where the image is flat root and angle have no gradient, and constants stand in for them.
  squared = across**2 + down**2
  flat = squared == 0
  magnitude = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, squared)))
  angle = jnp.arctan2(jnp.where(flat, 0, down), jnp.where(flat, 1, across))
  place = jnp.mod(angle, jnp.pi) * (bins / jnp.pi)

  # In the places of cells: [B, rows, cell, columns x cell x C]. Sums go over rows of pixels first.
  def cells(y):
    y = y[:, : rows * cell, : columns * cell]
    return y.reshape(batch, rows, cell, columns * cell * channels)

  magnitude, place = cells(magnitude), cells(place)

  def votes(b):
    away = jnp.abs(place - b)
    share = jax.nn.relu(1 - jnp.minimum(away, bins - away))
    sums = jnp.sum(magnitude * share, axis=2)
    return sums.reshape(batch, rows, columns, cell, channels).sum(3) / cell**2

  # A bin at a time: votes for all of them would be `bins` images.
  histograms = lax.map(votes, jnp.arange(bins, dtype=x.dtype))
  return jnp.moveaxis(histograms, 0, -1).reshape(batch, rows, columns, channels * bins)
