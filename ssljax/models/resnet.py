"""ResNet (He et al. 2016), version 1.5, as torchvision builds it.

Parameter names are torchvision's with `_` for the dots before a layer: `layer1.0.conv1.weight` is
`params['layer1_0']['conv1']['kernel']`, `layer1.0.downsample.1` is `['layer1_0']['downsample_1']`.
"""

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax.errors import InputError
from ssljax.models.conv import Conv, MaxPool
from ssljax.models.norm import BatchNorm
from ssljax.net import Net, from_linen

VARIANTS = {
  'resnet10': {'block': 'basic', 'depths': (1, 1, 1, 1)},
  'resnet18': {'block': 'basic', 'depths': (2, 2, 2, 2)},
  'resnet34': {'block': 'basic', 'depths': (3, 4, 6, 3)},
  'resnet50': {'block': 'bottleneck', 'depths': (3, 4, 6, 3)},
}

# Kernel, stride and padding of the first convolution; after 'imagenet' comes a max pool by 2.
STEMS = {'imagenet': (7, 2, 3), 'cifar': (3, 1, 1), 'small': (3, 2, 1)}


def get_config(name):
  """The options of an encoder with their defaults."""
  return ConfigDict(
    {
      'name': name,
      **VARIANTS[name],
      'width': 64,  # channels of the stem and the first stage
      'stem': 'imagenet',  # or another of STEMS
      'zero_init_residual': False,  # start every block as the identity
      'conv': 'auto',  # or 'xla': the ordinary convolution on CPU too
    }
  )


def make(config, *, dtype=jnp.float32) -> Net:
  """Encoder of images [N, H, W, C]: {'features': [N, D], 'map': [N, h, w, D], 'maps': (...)}.

  'maps' are those of the four stages, the last of which is 'map'. D is 8 * width, four times that
  with bottleneck blocks. Raises InputError on an unknown option.
  """
  choices = {
    'block': ('basic', 'bottleneck'),
    'stem': tuple(STEMS),
    'conv': ('auto', 'xla'),
  }
  for field, wanted in choices.items():
    if config[field] not in wanted:
      raise InputError(f'encoder.{field} is {config[field]!r}, wanted one of {sorted(wanted)}')
  options = {field: value for field, value in config.items() if field != 'name'}
  return from_linen(ResNet(**options, dtype=dtype))


class Block(nn.Module):
  bottleneck: bool
  features: int
  strides: int
  zero_init_residual: bool
  conv: str

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int):
    # Kernel size, channels, strides of each convolution; version 1.5 strides in the 3x3.
    layers = [(3, self.features, self.strides), (3, self.features, 1)]
    if self.bottleneck:
      layers = [(1, self.features, 1), layers[0], (1, 4 * self.features, 1)]
    y = x
    for i, (kernel, features, strides) in enumerate(layers, 1):
      last = i == len(layers)
      zero = last and self.zero_init_residual
      y = Conv(features, kernel, strides, kernel // 2, conv=self.conv, name=f'conv{i}')(y)
      norm = BatchNorm(scale_init=nn.initializers.constant(0.0 if zero else 1.0), name=f'bn{i}')
      y = norm(y, train=train, bn_groups=bn_groups)
      y = y if last else nn.relu(y)
    if x.shape != y.shape:
      x = Conv(y.shape[-1], 1, self.strides, conv=self.conv, name='downsample_0')(x)
      x = BatchNorm(name='downsample_1')(x, train=train, bn_groups=bn_groups)
    return nn.relu(x + y)


class ResNet(nn.Module):
  block: str
  depths: tuple[int, ...]
  width: int
  stem: str
  zero_init_residual: bool
  conv: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int = 1):
    x = Conv(self.width, *STEMS[self.stem], conv=self.conv, name='conv1')(x.astype(self.dtype))
    x = nn.relu(BatchNorm(name='bn1')(x, train=train, bn_groups=bn_groups))
    if self.stem == 'imagenet':
      x = MaxPool(3, 2, 1, name='maxpool')(x)
    maps = []
    for stage, depth in enumerate(self.depths):
      for i in range(depth):
        block = Block(
          bottleneck=self.block == 'bottleneck',
          features=self.width * 2**stage,
          strides=2 if stage and not i else 1,
          zero_init_residual=self.zero_init_residual,
          conv=self.conv,
          name=f'layer{stage + 1}_{i}',
        )
        x = block(x, train=train, bn_groups=bn_groups)
      maps.append(x)
    return {'features': x.mean((1, 2)), 'map': x, 'maps': tuple(maps)}
