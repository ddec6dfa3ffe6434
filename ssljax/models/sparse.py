"""Convolutional networks on the seen cells of an image only, and the decoder that fills the rest.

Tian et al. 2023, "Designing BERT for convolutional networks: sparse and hierarchical masked
modeling" (SparK).
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.models.conv import DIMENSIONS, Conv, kaiming_normal
from ssljax.models.norm import BatchNorm
from ssljax.models.transformer import token_init
from ssljax.net import Net, from_linen


def sparse(net: Net) -> Net:
  """A convolutional encoder that computes with some cells of an image alone.

  apply(params, state, images [N, H, W, C], active [N, h, w], train=...) -> what `net` gives; with
  the same parameters and state as `net`. active: bool, the cells that are seen; h divides the side
  of every map. After every layer the maps are 0 where nothing is seen, so that nothing spreads
  there, and batch norm takes its statistics over what is seen. It is what a sparse convolution
  computes: hidden cells have no effect, whatever is in them.

  Section 3.1 of the paper; `encoder.py` of the authors' code.
  """

  def apply(params, state, images, active, **options):
    def within(layer, args, kwargs, context):
      if context.method_name == '__call__' and isinstance(context.module, BatchNorm):
        return layer(*args, **kwargs, where=enlarge(active, args[0]))
      y = layer(*args, **kwargs)
      is_map = getattr(y, 'ndim', 0) == 4 and y.shape[1] % active.shape[1] == 0
      return jnp.where(enlarge(active, y), y, 0) if is_map else y

    with nn.intercept_methods(within):
      seen = jnp.where(enlarge(active, images), images, 0)
      return net.apply(params, state, seen, **options)

  return Net(net.init, apply)


def enlarge(active, x):
  """Cells [N, h, w] at the size of maps x [N, H, W, C]: [N, H, W, 1]."""
  n, h, w = active.shape
  if x.shape[1] % h or x.shape[2] % w:
    raise InputError(
      f'a map has {x.shape[1]} x {x.shape[2]} pixels, wanted multiples of the {h} x {w} cells'
    )
  times = x.shape[1] // h, x.shape[2] // w
  grown = jnp.broadcast_to(active[:, :, None, :, None], (n, h, times[0], w, times[1]))
  return grown.reshape(n, h * times[0], w * times[1], 1)


def light_decoder(*, size, channels, width=768, densify_norm='batch') -> Net:
  """An image [N, size, size, channels] from maps of seen cells, the largest map first (SparK).

  apply(params, state, maps, active [N, h, w], train=...), maps a tuple of [N, H, W, D] of which the
  last has h x w pixels and each is twice as large as the next. From the smallest one on, a map is
  normalised over seen cells, a learned vector is put into the others, and a convolution gives it
  the width of the decoder, where it is added; the sum is made twice as large, with half the width,
  until it has `size` pixels. Maps of that size are not used.

  densify_norm: '' leaves out the norm of the maps.

  Raises InputError if doubling does not lead to `size`, the width cannot be halved so often, or the
  norm is unknown.

  Section 3.2 of the paper; `spark.py` and `decoder.py` of the authors' code.
  """
  if densify_norm not in ('batch', ''):
    raise InputError(f"decoder.densify_norm is {densify_norm!r}, wanted 'batch' or ''")
  return from_linen(LightDecoder(size, channels, width, bool(densify_norm)))


class LightDecoder(nn.Module):
  size: int
  channels: int
  width: int
  normed: bool

  @nn.compact
  def __call__(self, maps, active, *, train: bool, bn_groups: int = 1):
    side = maps[-1].shape[1]
    doublings = max(0, round(math.log2(self.size / side)))
    if side * 2**doublings != self.size or not doublings:
      raise InputError(
        f'the last map has {side} pixels a side, wanted one that becomes the {self.size} '
        'of the images by doubling'
      )
    if self.width % 2**doublings:
      raise InputError(f'decoder.width is {self.width}, wanted a multiple of {2**doublings}')
    flags = {'train': train, 'bn_groups': bn_groups}
    x = jnp.zeros((), maps[-1].dtype)
    for i in range(doublings):
      width = self.width // 2**i
      if i < len(maps):
        densify = Densify(width, 3 if i else 1, self.normed, name=f'densify_{i}')
        x = x + densify(maps[-1 - i], active, **flags)
      x = Double(name=f'up_{i}')(x)
      x = Conv(width, 3, 1, 1, name=f'conv_{i}_0')(x)
      x = jnp.clip(BatchNorm(name=f'bn_{i}_0')(x, **flags), 0, 6)  # ReLU6
      x = Conv(width // 2, 3, 1, 1, name=f'conv_{i}_1')(x)
      x = BatchNorm(name=f'bn_{i}_1')(x, **flags)
    return Conv(self.channels, 1, use_bias=True, name='pred')(x)


class Densify(nn.Module):
  """A map with a learned vector where nothing was seen, as one of the decoder's."""

  width: int
  kernel_size: int
  normed: bool

  @nn.compact
  def __call__(self, x, active, *, train: bool, bn_groups: int):
    seen = enlarge(active, x)
    token = self.param('mask_token', token_init, x.shape[-1:]).astype(x.dtype)
    if self.normed:
      x = BatchNorm(name='bn')(x, train=train, bn_groups=bn_groups, where=seen)
    x = jnp.where(seen, x, token)
    if self.kernel_size == 1 and x.shape[-1] == self.width:
      return x
    k = self.kernel_size
    return Conv(self.width, k, 1, k // 2, use_bias=True, name='proj')(x)


class Double(nn.Module):
  """A transposed convolution of 4 x 4 pixels that makes maps twice as large, and adds a bias."""

  @nn.compact
  def __call__(self, x):
    channels = x.shape[-1]
    w = self.param('kernel', kaiming_normal, (4, 4, channels, channels)).astype(x.dtype)
    bias = self.param('bias', nn.initializers.zeros, (channels,)).astype(x.dtype)
    return bias + lax.conv_general_dilated(
      x, w, (1, 1), [(2, 2)] * 2, lhs_dilation=(2, 2), dimension_numbers=DIMENSIONS
    )
