"""A fixed wavelet scattering transform and a small network on it (ScatSimCLR).

The transform is that of kymatio 0.3's Scattering2D, with its Morlet filters and its decimation, to
2e-5 (tests/test_scattering.py has its numbers); kymatio is not maintained and cannot be imported
with scipy 1.17. Low-pass filters are separable, so that filtering and decimation are two small
matrices; wavelets are applied in the Fourier domain.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from ssljax.errors import InputError
from ssljax.models.conv import Conv
from ssljax.models.norm import BatchNorm
from ssljax.models.resnet import Block
from ssljax.net import Net, from_linen
from ssljax.ops import dft2, idft2

# Width, channels of the first layer in widths, and (widths, residual blocks) of each stage. The
# numbers in the names count blocks; 8, 12 and 16 are those of the authors of ScatSimCLR.
VARIANTS = {
  'scattering_2': (16, 1, ((2, 1), (4, 1))),
  'scattering_8': (32, 1, ((2, 4), (4, 4))),
  'scattering_12': (64, 4, ((2, 4), (1, 4), (2, 4))),
  'scattering_16': (64, 4, ((2, 6), (1, 4), (2, 6))),
}


def get_config(name):
  """The options of an encoder with their defaults."""
  return ConfigDict(
    {
      'name': name,
      'width': VARIANTS[name][0],
      'scales': 2,  # J: maps have 2^J times fewer rows and columns than the image
      'orientations': 8,  # L
      'pool': 4,  # rows and columns left of the last map
      'conv': 'auto',
    }
  )


def make(config, *, dtype=jnp.float32) -> Net:
  """Encoder of images [N, H, W, C]: {'features': [N, D], 'map': [N, h, w, W'], 'maps': (...)}.

  D is pool^2 times the channels of the last map: 'features' is that map averaged to pool x pool
  cells and flattened, as in the authors' code. Raises InputError on an option that cannot be.
  """
  for field in ('width', 'scales', 'orientations', 'pool'):
    if config[field] < 1:
      raise InputError(f'encoder.{field} is {config[field]}, wanted at least 1')
  _, stem, stages = VARIANTS[config.name]
  return from_linen(
    Scattering(
      width=config.width,
      stem=stem,
      stages=stages,
      scales=config.scales,
      orientations=config.orientations,
      pool=config.pool,
      conv=config.conv,
      dtype=dtype,
    )
  )


class Scattering(nn.Module):
  width: int
  stem: int
  stages: tuple
  scales: int
  orientations: int
  pool: int
  conv: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int = 1):
    x = scatter(x, self.scales, self.orientations).astype(self.dtype)
    rows, columns = x.shape[1:3]
    if rows % self.pool or columns % self.pool:
      raise InputError(
        f'encoder.pool is {self.pool} for maps of {rows} x {columns}, wanted a number that divides '
        'both'
      )
    x = Conv(self.stem * self.width, 3, 1, 1, conv=self.conv, name='conv1')(x)
    x = nn.relu(BatchNorm(name='bn1')(x, train=train, bn_groups=bn_groups))
    maps = []
    for stage, (widths, depth) in enumerate(self.stages):
      for i in range(depth):
        block = Block(
          bottleneck=False,
          features=widths * self.width,
          strides=1,
          zero_init_residual=False,
          conv=self.conv,
          name=f'layer{stage + 1}_{i}',
        )
        x = block(x, train=train, bn_groups=bn_groups)
      maps.append(x)
    cells = x.reshape(
      -1, self.pool, rows // self.pool, self.pool, columns // self.pool, x.shape[-1]
    )
    features = cells.mean((2, 4)).reshape(len(x), -1)
    return {'features': features, 'map': x, 'maps': tuple(maps)}


def scatter(images, scales, orientations):
  """Scattering coefficients of orders 0, 1 and 2: [N, H, W, C] -> [N, H / 2^J, W / 2^J, C K].

  With low-pass filter phi and wavelets psi_1, psi_2 at scales j_1 < j_2 below J and any angles:
    x * phi,  |x * psi_1| * phi,  ||x * psi_1| * psi_2| * phi
  Channels are K = 1 + J L + J (J - 1) L^2 / 2 coefficients of the first channel of the image in
  this order, then those of the second and so on.

  images: [N, H, W, C], computed in float32. scales: J. orientations: L.

  Raises InputError if 2^J does not divide H and W.

  Reference: Bruna, Mallat 2013, "Invariant scattering convolution networks".
  """
  size = images.shape[1:3]
  if any(side % 2**scales for side in size):
    raise InputError(
      f'images are {size[0]} x {size[1]}, wanted sides that 2^{scales} divides, the decimation of '
      f'{scales} scales'
    )
  padded = tuple(side + 2 ** (scales + 1) for side in size)
  wavelets = [_wavelets(*padded, j, scales, orientations) for j in range(scales)]
  lows = [
    [jnp.asarray(_low_pass(side, j, scales), jnp.float32) for side in padded] for j in range(scales)
  ]
  border = 2**scales
  x = jnp.moveaxis(jnp.asarray(images, jnp.float32), -1, 1)
  x = jnp.pad(x, ((0, 0), (0, 0), (border, border), (border, border)), mode='reflect')

  def smooth(u, j):
    # From the resolution that scale j is computed at to that of the result.
    return jnp.einsum(
      'yh,...hw,xw->...yx', lows[j][0], u, lows[j][1], precision=lax.Precision.HIGHEST
    )

  def bands(u, j, now):
    # |u * psi| for every angle at scale j; u is decimated by 2^now, the result by 2^j.
    y = dft2(u)[..., None, :, :] * jnp.asarray(wavelets[j][now], jnp.float32)
    step = 2 ** (j - now)
    h, w = (side // step for side in y.shape[-2:])
    # Periods of the spectrum add up where samples are left out.
    return jnp.abs(idft2(y.reshape(*y.shape[:-2], step, h, step, w).mean((-4, -2))))

  first = [bands(x, j, 0) for j in range(scales)]
  coefficients = [smooth(x, 0)[:, :, None]]
  coefficients += [smooth(u, j) for j, u in enumerate(first)]
  for j, u in enumerate(first):
    # For each first angle, of every later scale each second angle.
    later = [smooth(bands(u, k, j), k) for k in range(j + 1, scales)]
    if later:
      joined = jnp.concatenate(later, 3)
      coefficients.append(joined.reshape(*joined.shape[:2], -1, *joined.shape[-2:]))
  joined = jnp.concatenate(coefficients, 2)
  return jnp.moveaxis(joined.reshape(len(joined), -1, *joined.shape[-2:]), 1, -1)


@functools.cache
def _wavelets(height, width, j, scales, orientations):
  """Spectra of the wavelets of scale j at each resolution up to its own: a list of [L, h, w]."""
  sigma, xi, slant = 0.8 * 2**j, 3 / 4 * np.pi / 2**j, 4 / orientations
  spectra = []
  for theta in range(orientations):
    angle = (orientations - orientations // 2 - 1 - theta) * np.pi / orientations
    wave = _gabor(height, width, sigma, angle, xi, slant)
    envelope = _gabor(height, width, sigma, angle, 0, slant)
    wave = wave - wave.sum() / envelope.sum() * envelope  # no response to a constant
    spectra.append(np.fft.fft2(wave).real)
  levels = range(min(j + 1, max(scales - 1, 1)))
  return [np.stack([_fold(s, level) for s in spectra]).astype(np.float32) for level in levels]


def _low_pass(side, level, scales):
  """Rows of an image decimated by 2^level -> smoothed, decimated by 2^J and cut to the inside."""
  n = _periods(side)
  gauss = np.exp(-(n**2) / (2 * (0.8 * 2 ** (scales - 1)) ** 2)).sum(0)
  spectrum = _fold(np.fft.fft(gauss / gauss.sum()).real, level)
  matrix = np.fft.fft(np.eye(side // 2**level), axis=0) * spectrum[:, None]
  step = 2 ** (scales - level)
  matrix = matrix.reshape(step, -1, side // 2**level).mean(0)
  return np.fft.ifft(matrix, axis=0).real[1:-1]


def _gabor(height, width, sigma, angle, xi, slant):
  y, x = np.meshgrid(np.arange(5 * height), np.arange(5 * width), indexing='ij')
  y, x = y - 2 * height, x - 2 * width
  along = y * np.cos(angle) + x * np.sin(angle)
  across = x * np.cos(angle) - y * np.sin(angle)
  wave = np.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2) + 1j * xi * along)
  wave = wave.reshape(5, height, 5, width).sum((0, 2))
  return wave * slant / (2 * np.pi * sigma**2)


def _periods(side):
  return (np.arange(5 * side) - 2 * side).reshape(5, side)


def _fold(spectrum, level):
  """The spectrum after decimation by 2^level, of its low frequencies alone."""
  for axis in range(spectrum.ndim):
    side = spectrum.shape[axis]
    kept = np.ones(side)
    start = int(side * 2 ** (-level - 1))
    kept[start : start + int(side * (1 - 2**-level))] = 0
    spectrum = spectrum * (kept if axis == spectrum.ndim - 1 else kept[:, None])
  for axis in range(spectrum.ndim):
    shape = spectrum.shape
    split = (*shape[:axis], 2**level, shape[axis] // 2**level, *shape[axis + 1 :])
    spectrum = spectrum.reshape(split).sum(axis)
  return spectrum
