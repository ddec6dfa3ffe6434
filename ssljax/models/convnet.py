"""A plain convolutional encoder, for small images and small budgets."""

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax.errors import InputError
from ssljax.models.conv import Conv
from ssljax.models.norm import BatchNorm
from ssljax.net import Net, from_linen

VARIANTS = {'convnet_small': {'depth': 4}}


def get_config(name):
  """width: channels of the first layer, doubled by each of the `depth` layers, stride 2 each."""
  return ConfigDict({'name': name, 'width': 32, **VARIANTS[name]})


def make(config, *, dtype=jnp.float32) -> Net:
  """Encoder of images [N, H, W, C]: {'features': [N, D], 'map': [N, h, w, D], 'maps': (...)}.

  D is width * 2^(depth - 1). Raises InputError on an option that cannot be.
  """
  for field in ('width', 'depth'):
    if config[field] < 1:
      raise InputError(f'encoder.{field} is {config[field]}, wanted at least 1')
  return from_linen(ConvNet(config.width, config.depth, dtype))


class ConvNet(nn.Module):
  width: int
  depth: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int = 1):
    x, maps = x.astype(self.dtype), []
    for i in range(self.depth):
      x = Conv(self.width * 2**i, 3, 2, 1, name=f'conv_{i}')(x)
      x = nn.relu(BatchNorm(name=f'bn_{i}')(x, train=train, bn_groups=bn_groups))
      maps.append(x)
    return {'features': x.mean((1, 2)), 'map': x, 'maps': tuple(maps)}
