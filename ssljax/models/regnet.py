"""RegNetY (Radosavovic et al. 2020), up to the 10 billion parameters of SEER.

Stage widths follow from four numbers: u_j = w_0 + w_a j for block j, rounded to w_0 w_m^s with s
whole, to a multiple of 8 and then of the group width; halves to even, as the authors' code does and
torchvision's does not: its 800MF and 8GF are wider. The largest two are those of SEER (Goyal et al.
2021 and 2022), by the authors' configs.
"""

import functools
import itertools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from ssljax.errors import InputError
from ssljax.models.conv import DIMENSIONS, Conv, kaiming_normal
from ssljax.models.norm import BatchNorm
from ssljax.net import Net, from_linen
from ssljax.ops import map_rows


def stages(depth, w_0, w_a, w_m, group_width):
  """(depths, widths) of the stages, by the rule above."""
  power = np.round(np.log((w_0 + w_a * np.arange(depth)) / w_0) / np.log(w_m))
  blocks = (np.round(w_0 * w_m**power / 8) * 8).astype(int).tolist()
  runs = [(width, len(list(run))) for width, run in itertools.groupby(blocks)]
  group = [min(group_width, width) for width, _ in runs]
  widths = [round(width / g) * g for (width, _), g in zip(runs, group, strict=True)]
  return tuple(length for _, length in runs), tuple(widths)


def _variant(depth, w_0, w_a, w_m, group_width):
  depths, widths = stages(depth, w_0, w_a, w_m, group_width)
  return {'depths': depths, 'widths': widths, 'group_width': group_width}


VARIANTS = {
  'regnety_tiny': {'depths': (1, 1, 1), 'widths': (16, 32, 64), 'group_width': 8},
  'regnety_200mf': _variant(13, 24, 36.44, 2.49, 8),
  'regnety_400mf': _variant(16, 48, 27.89, 2.09, 8),
  'regnety_800mf': _variant(14, 56, 38.84, 2.4, 16),
  'regnety_1_6gf': _variant(27, 48, 20.71, 2.65, 24),
  'regnety_3_2gf': _variant(21, 80, 42.63, 2.66, 24),
  'regnety_8gf': _variant(17, 192, 76.82, 2.19, 56),
  'regnety_16gf': _variant(18, 200, 106.23, 2.48, 112),
  'regnety_32gf': _variant(20, 232, 115.89, 2.53, 232),
  'regnety_128gf': _variant(27, 456, 160.83, 2.52, 264),
  'regnety_256gf': _variant(27, 640, 230.83, 2.53, 373),
  'regnety_10b': _variant(27, 1744, 620.83, 2.52, 1010),
}

# Stride of the first convolution, and of the first stage: all others halve the map.
STEMS = {'imagenet': (2, 2), 'small': (1, 2), 'cifar': (1, 1)}


def get_config(name):
  """The options of an encoder with their defaults."""
  return ConfigDict(
    {
      'name': name,
      **VARIANTS[name],
      'se_ratio': 0.25,  # channels inside squeeze-and-excitation, of those that enter the block
      'stem_width': 32,
      'stem': 'imagenet',  # or another of STEMS
      'remat': False,  # keep only what enters each block, and compute it again for the gradient
    }
  )


def make(config, *, dtype=jnp.float32) -> Net:
  """Encoder of images [N, H, W, C]: {'features': [N, D], 'map': [N, h, w, D], 'maps': (...)}.

  'maps' are those of the stages, the last of which is 'map'; D is the last width. Raises InputError
  on an unknown option.
  """
  if config.stem not in STEMS:
    raise InputError(f'encoder.stem is {config.stem!r}, wanted one of {sorted(STEMS)}')
  if len(config.depths) != len(config.widths):
    raise InputError(
      f'encoder.depths is {config.depths} and encoder.widths is {config.widths}, wanted the same '
      'number'
    )
  for width in config.widths:
    if width % min(config.group_width, width):
      raise InputError(
        f'encoder.widths is {config.widths}, wanted multiples of group_width {config.group_width}'
      )
  options = {field: value for field, value in config.items() if field != 'name'}
  return from_linen(RegNet(**options, dtype=dtype))


class RegNet(nn.Module):
  depths: tuple[int, ...]
  widths: tuple[int, ...]
  group_width: int
  se_ratio: float
  stem_width: int
  stem: str
  remat: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int = 1):
    first, second = STEMS[self.stem]
    x = Conv(self.stem_width, 3, first, 1, name='stem')(x.astype(self.dtype))
    x = nn.relu(BatchNorm(name='stem_bn')(x, train=train, bn_groups=bn_groups))
    block = nn.remat(Block, static_argnums=(2, 3)) if self.remat else Block
    maps = []
    for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
      for i in range(depth):
        stride = 1 if i else (2 if stage else second)
        name = f'block{stage + 1}_{i}'
        x = block(width, stride, self.group_width, self.se_ratio, name=name)(x, train, bn_groups)
      maps.append(x)
    return {'features': x.mean((1, 2)), 'map': x, 'maps': tuple(maps)}


class Block(nn.Module):
  """1x1, 3x3 in groups, squeeze-and-excitation, 1x1, all of one width, beside a shortcut."""

  width: int
  strides: int
  group_width: int
  se_ratio: float

  @nn.compact
  def __call__(self, x, train, bn_groups):
    def norm(name, y):
      return BatchNorm(name=name)(y, train=train, bn_groups=bn_groups)

    y = nn.relu(norm('a_bn', Conv(self.width, 1, name='a')(x)))
    groups = self.width // min(self.group_width, self.width)
    y = nn.relu(norm('b_bn', GroupedConv(groups, self.strides, name='b')(y)))
    squeezed = y.mean((1, 2), keepdims=True)
    inside = round(self.se_ratio * x.shape[-1])
    squeezed = nn.relu(Conv(inside, 1, use_bias=True, name='se_in')(squeezed))
    y = y * nn.sigmoid(Conv(self.width, 1, use_bias=True, name='se_out')(squeezed))
    y = norm('c_bn', Conv(self.width, 1, name='c')(y))
    if x.shape != y.shape:
      x = norm('shortcut_bn', Conv(self.width, 1, self.strides, name='shortcut')(x))
    return nn.relu(x + y)


class GroupedConv(nn.Module):
  """3x3 convolution of [N, H, W, C] within each of `groups` groups of channels, padded by 1."""

  groups: int
  strides: int

  @nn.compact
  def __call__(self, x):
    channels = x.shape[-1]
    shape = (3, 3, channels // self.groups, channels)
    w = self.param('kernel', kaiming_normal, shape).astype(x.dtype)
    return grouped_conv(x, w, strides=self.strides)


def grouped_conv_xla(x, w, *, strides):
  """`grouped_conv` as XLA does it on every platform, each device its own images."""

  def convolve(x, w):
    groups = x.shape[-1] // w.shape[2]
    return lax.conv_general_dilated(
      x, w, (strides, strides), [(1, 1), (1, 1)], dimension_numbers=DIMENSIONS,
      feature_group_count=groups,
    )  # fmt: skip

  return map_rows(convolve, x, w)


def grouped_conv(x, w, *, strides):
  """y[n, i, j, g o] = sum_{a, b, c} x[n, i s + a - 1, j s + b - 1, g c] w[a, b, c, g o].

  On CPU it is a sum of matrix products, one for each place of the kernel: XLA's own convolution in
  groups has slow gradients there.

  x: [N, H, W, G c].  w: [3, 3, c, G o].
  """

  def taps(x, w):
    n, height, width, channels = x.shape
    inside = w.shape[2]
    groups = channels // inside
    rows, columns = ((side - 1) // strides + 1 for side in (height, width))
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(n, height + 2, width + 2, groups, -1)
    w = w.reshape(3, 3, inside, groups, -1)
    y = 0
    for a, b in itertools.product(range(3), repeat=2):
      seen = x[:, a : a + (rows - 1) * strides + 1 : strides]
      seen = seen[:, :, b : b + (columns - 1) * strides + 1 : strides]
      y += jnp.einsum('nijgc,cgo->nijgo', seen, w[a, b])
    return y.reshape(n, rows, columns, -1)

  ordinary = functools.partial(grouped_conv_xla, strides=strides)
  return lax.platform_dependent(x, w, cpu=taps, default=ordinary)
