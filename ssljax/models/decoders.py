"""Decoders of masked models."""

import math

import flax.linen as nn
import jax.numpy as jnp

from ssljax.models.positions import sincos_positions
from ssljax.models.transformer import Block, layer_norm, token_init, xavier
from ssljax.net import Net, from_linen
from ssljax.ops import restore_tokens


def mae_decoder(*, num_patches, patch_dim, dim=512, depth=8, heads=16) -> Net:
  """Predicts every patch from the encoded visible ones (MAE, He et al. 2022, section 3).

  apply(params, state, tokens [N, 1 + K, D], restore [N, L], train=...) -> [N, L, patch_dim].
  tokens: the class token, then the K visible patches. restore: for each of the L = num_patches
  places, its index in [visible patches, mask tokens] (the inverse of the shuffle).

  Raises ValueError if num_patches is no square.
  """
  if math.isqrt(num_patches) ** 2 != num_patches:
    raise ValueError(f'num_patches is {num_patches}, wanted a square')
  return from_linen(MaeDecoder(num_patches, patch_dim, dim, depth, heads))


class MaeDecoder(nn.Module):
  num_patches: int
  patch_dim: int
  dim: int
  depth: int
  heads: int

  @nn.compact
  def __call__(self, tokens, restore, *, train: bool, bn_groups: int = 1):
    x = nn.Dense(self.dim, dtype=tokens.dtype, kernel_init=xavier, name='embed')(tokens)
    mask_token = self.param('mask_token', token_init, (self.dim,))
    patches = restore_tokens(x[:, 1:], mask_token, restore)
    side = math.isqrt(self.num_patches)
    patches += sincos_positions(side, side, self.dim).astype(x.dtype)
    x = jnp.concatenate([x[:, :1], patches], axis=1)
    for i in range(self.depth):
      x, _ = Block(self.heads, name=f'blocks_{i}')(x, train)
    x = layer_norm(1e-6, x.dtype, 'norm')(x)
    return nn.Dense(self.patch_dim, dtype=x.dtype, kernel_init=xavier, name='pred')(x[:, 1:])
