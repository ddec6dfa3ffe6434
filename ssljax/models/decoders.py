"""Decoders of masked models and autoencoders."""

import math

import flax.linen as nn
import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.models.conv import Conv
from ssljax.models.norm import BatchNorm
from ssljax.models.positions import rope_axial_angles, rotate, sincos_positions
from ssljax.models.transformer import Attention, Block, Mlp, layer_norm, linear, token_init
from ssljax.net import Net, from_linen
from ssljax.ops import attend, restore_tokens


def mae_decoder(*, num_patches, patch_dim, dim=512, depth=8, heads=16, layer_norm_eps=1e-6) -> Net:
  """Predicts every patch from the encoded visible ones (MAE, He et al. 2022, section 3).

  apply(params, state, tokens [N, 1 + K, D], restore [N, L], train=...) -> [N, L, patch_dim].
  tokens: the class token, then the K visible patches. restore: for each of the L = num_patches
  places, its index in [visible patches, mask tokens] (the inverse of the shuffle).

  Raises InputError if num_patches is no square.
  """
  if math.isqrt(num_patches) ** 2 != num_patches:
    raise InputError(f'num_patches is {num_patches}, wanted a square')
  return from_linen(MaeDecoder(num_patches, patch_dim, dim, depth, heads, layer_norm_eps))


class MaeDecoder(nn.Module):
  num_patches: int
  patch_dim: int
  dim: int
  depth: int
  heads: int
  layer_norm_eps: float

  @nn.compact
  def __call__(self, tokens, restore, *, train: bool, bn_groups: int = 1):
    x = linear(self.dim, tokens.dtype, 'embed')(tokens)
    mask_token = self.param('mask_token', token_init, (self.dim,))
    patches = restore_tokens(x[:, 1:], mask_token, restore)
    side = math.isqrt(self.num_patches)
    patches += sincos_positions(side, side, self.dim).astype(x.dtype)
    x = jnp.concatenate([x[:, :1], patches], axis=1)
    for i in range(self.depth):
      block = Block(self.heads, layer_norm_eps=self.layer_norm_eps, name=f'blocks_{i}')
      x, _ = block(x, train)
    x = layer_norm(self.layer_norm_eps, x.dtype, 'norm')(x)
    return linear(self.patch_dim, x.dtype, 'pred')(x[:, 1:])


def cross_view_decoder(*, grid, patch_dim, dim=768, depth=12, heads=12, rope_base=100.0) -> Net:
  """Predicts every patch of a view from its visible ones and from a second view (CroCo v2).

  apply(params, state, tokens [N, K, D], restore [N, L], other [N, L, D], train=...) -> [N, L,
  patch_dim]. tokens: the K visible patches; restore: as of `mae_decoder`; other: all patches of the
  second view. grid: (rows, columns) of patches, L of them. Each block lets the patches of the first
  view attend to each other, then to the second view, which stays as it is; queries and keys turn
  with their place.

  Weinzaepfel et al. 2023, section 3.
  """
  return from_linen(CrossViewDecoder(tuple(grid), patch_dim, dim, depth, heads, rope_base))


class CrossViewDecoder(nn.Module):
  grid: tuple[int, int]
  patch_dim: int
  dim: int
  depth: int
  heads: int
  rope_base: float

  @nn.compact
  def __call__(self, tokens, restore, other, *, train: bool, bn_groups: int = 1):
    embed = linear(self.dim, tokens.dtype, 'embed')
    mask_token = self.param('mask_token', token_init, (self.dim,))
    x, y = restore_tokens(embed(tokens), mask_token, restore), embed(other)
    angles = rope_axial_angles(*self.grid, self.dim // self.heads, self.rope_base)
    for i in range(self.depth):
      x = CrossBlock(self.heads, name=f'blocks_{i}')(x, y, angles)
    x = layer_norm(1e-6, x.dtype, 'norm')(x)
    return linear(self.patch_dim, x.dtype, 'pred')(x)


class CrossBlock(nn.Module):
  """Self-attention of x [N, L, D], attention to y [N, M, D] and an MLP, each after a norm."""

  heads: int

  @nn.compact
  def __call__(self, x, y, angles):
    def norm(name):
      return layer_norm(1e-6, x.dtype, name)

    x = x + Attention(self.heads, name='attn')(norm('norm1')(x), angles)[0]
    x = x + CrossAttention(self.heads, name='cross_attn')(
      norm('norm2')(x), norm('norm_y')(y), angles
    )
    return x + Mlp(4 * x.shape[-1], name='mlp')(norm('norm3')(x))


class CrossAttention(nn.Module):
  """Attention of x [N, L, D] to y [N, L, D], patches of two views with the same places."""

  heads: int

  @nn.compact
  def __call__(self, x, y, angles):
    def dense(name):
      return linear(x.shape[-1], x.dtype, name)

    def split(z):
      return z.reshape(*z.shape[:2], self.heads, -1)

    q, k = rotate(split(dense('q')(x)), angles), rotate(split(dense('k')(y)), angles)
    z = attend(q, k, split(dense('v')(y)))
    return dense('proj')(z.reshape(x.shape))


def upsampling_decoder(*, size, channels, widths=(128, 64, 32)) -> Net:
  """An image [N, size, size, channels] from a map [N, h, w, D], by doubling it as often as needed.

  Each doubling repeats pixels and has a 3x3 convolution, batch norm and ReLU; `widths` are its
  channels, the last one for all further doublings.
  """
  return from_linen(UpsamplingDecoder(size, channels, tuple(widths)))


class UpsamplingDecoder(nn.Module):
  size: int
  channels: int
  widths: tuple[int, ...]

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int = 1):
    for i in range(max(0, math.ceil(math.log2(self.size / x.shape[1])))):
      n, h, w, c = x.shape
      # Not jnp.repeat: its gradient is a scatter.
      x = jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c)).reshape(n, 2 * h, 2 * w, c)
      x = Conv(self.widths[min(i, len(self.widths) - 1)], 3, 1, 1, name=f'conv_{i}')(x)
      x = nn.relu(BatchNorm(name=f'bn_{i}')(x, train=train, bn_groups=bn_groups))
    return Conv(self.channels, 3, 1, 1, use_bias=True, name='pred')(x[:, : self.size, : self.size])
