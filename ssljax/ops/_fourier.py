"""Fourier transforms of images that stay on their device.

XLA divides no FFT among devices, not even along its batch: it would gather all images on each.
A product with the matrix of the transform is divided, and at the sizes of images as fast.
"""

import jax.numpy as jnp
import numpy as np

from ssljax.ops._dots import dots


def dft2(x):
  """Discrete Fourier transform over the last two axes, as numpy.fft.fft2: complex [..., H, W]."""
  return _transform(x, -1)


def idft2(x):
  """The inverse of `dft2`, as numpy.fft.ifft2: complex [..., H, W]."""
  return _transform(x, 1) / (x.shape[-2] * x.shape[-1])


def _transform(x, sign):
  x = jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.complex64))
  rows, columns = (jnp.asarray(_matrix(n, sign), x.dtype) for n in x.shape[-2:])
  return dots('yh,...hw,xw->...yx', rows, x, columns)


def _matrix(size, sign):
  n = np.arange(size)
  # The remainder keeps the angle, and so the digits of its sine, small.
  return np.exp(sign * 2j * np.pi * (n[:, None] * n % size) / size)
