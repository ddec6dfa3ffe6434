"""What stands out of an image: colours far from most of its other colours."""

import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError

LEVELS = 12


def histogram_contrast(image):
  """Saliency of each pixel, the mean distance in CIE Lab from its colour to those of all pixels.

    s(c) = sum over colours k of f_k |lab(c) - lab(k)|,  scaled to [0, 1] over the image

  with colours quantised to 12 levels a channel and f_k their shares of the pixels. An image of one
  colour has saliency 1 everywhere.

  The histogram contrast (HC) of Cheng et al., without their two refinements: the rare colours, 5%
  of the pixels, are not merged into others, and s is not smoothed over similar colours. A level's
  colour is its centre, not the mean of its pixels.

  Args:
    image: [H, W, 3] in [0, 1].

  Returns:
    float32 [H, W].

  Raises:
    InputError: the image has not three channels.

  Reference: Cheng, Mitra, Huang, Torr, Hu 2015, "Global contrast based salient region detection",
  Section 3.
  """
  if image.ndim != 3 or image.shape[-1] != 3:
    raise InputError(f'image has shape {image.shape}, wanted [H, W, 3], red, green and blue')
  levels = jnp.clip(jnp.floor(image * LEVELS), 0, LEVELS - 1).astype(jnp.int32)
  color = (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]
  share = jnp.zeros(LEVELS**3).at[color.reshape(-1)].add(1 / color.size)
  contrast = jnp.matmul(_distances(), share, precision=lax.Precision.HIGHEST)[color]
  low, high = contrast.min(), contrast.max()
  varied = high > low
  return jnp.where(varied, (contrast - low) / jnp.where(varied, high - low, 1), 1.0)


def salient(image, threshold=0.0):
  """The image times its saliency; with a threshold in (0, 1], black below it and itself elsewhere.

  image: [H, W, 3] in [0, 1]. threshold: a Python float; 0 weighs by the saliency.
  """
  weight = histogram_contrast(image)
  return image * (weight >= threshold if threshold else weight)[..., None]


def rgb_to_lab(rgb):
  """sRGB [..., 3] in [0, 1] to CIE L*a*b* under D65, L in [0, 100]."""
  linear = jnp.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
  to_xyz = jnp.array(
    [
      [0.412453, 0.357580, 0.180423],
      [0.212671, 0.715160, 0.072169],
      [0.019334, 0.119193, 0.950227],
    ]
  )
  white = to_xyz.sum(1)
  xyz = (linear[..., None, :] * to_xyz).sum(-1) / white
  f = jnp.where(xyz > (6 / 29) ** 3, jnp.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
  x, y, z = f[..., 0], f[..., 1], f[..., 2]
  return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _distances():
  """Between the centres of all colours, in Lab: [12^3, 12^3]."""
  centers = (jnp.arange(LEVELS) + 0.5) / LEVELS
  grid = jnp.stack(jnp.meshgrid(centers, centers, centers, indexing='ij'), -1)
  lab = rgb_to_lab(grid.reshape(-1, 3))
  return jnp.sqrt(((lab[:, None] - lab) ** 2).sum(-1))
