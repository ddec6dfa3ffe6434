"""An image's style, taken as the low frequencies of its amplitude spectrum, given to another."""

import jax.numpy as jnp

from ssljax.ops import check_shape, dft2, idft2


def swap_amplitude(image, style, ratio):
  """The image with the amplitudes of another in a window of low frequencies, all phases its own.

  With F the Fourier transform of each channel, F(result) = |F(style)| exp(i arg F(image)) at the
  frequencies (k, l), in periods per image, with |k| <= sqrt(ratio) H / 2 and |l| <= sqrt(ratio)
  W / 2, and F(image) at all others. The mean is always in the window. Where F(image) is 0 its phase
  is taken as 0.

  Args:
    image: [H, W, C].
    style: [H, W, C].
    ratio: share of the spectrum's area that is replaced, in [0, 1]; may be traced.

  Returns:
    float32 [H, W, C], which may leave [0, 1] where both images are in it.

  Raises:
    InputError: the images are not of one shape.

  Reference: Fourier domain adaptation (https://arxiv.org/abs/2004.05498), Section 3.1.
  """
  check_shape('image', image, ('H', 'W', 'C'))
  check_shape('style', style, image.shape)
  own, other = (dft2(jnp.moveaxis(x, -1, 0)) for x in (image, style))
  rows, columns = (_low(size, ratio) for size in image.shape[:2])
  size = jnp.abs(own)
  phase = jnp.where(size > 0, own / jnp.where(size > 0, size, 1), 1)
  mixed = jnp.where(rows[:, None] & columns, jnp.abs(other) * phase, own)
  return jnp.moveaxis(idft2(mixed).real, 0, -1)


def _low(size, ratio):
  """Which of the frequencies of `size` samples are in the window; as many above zero as below."""
  frequency = jnp.arange(size)
  frequency = jnp.minimum(frequency, size - frequency)
  return frequency <= jnp.sqrt(ratio) * size / 2
