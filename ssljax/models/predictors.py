"""Small transformers that predict what is hidden from what an encoder saw."""

import math

import flax.linen as nn
import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.models.positions import rope_axial_angles, sincos_positions
from ssljax.models.transformer import Block, layer_norm, linear, token_init
from ssljax.net import Net, from_linen


def block_predictor(*, num_patches, dim=384, depth=12, heads=16) -> Net:
  """Predicts the tokens of blocks of patches from those of a context (I-JEPA, section 3).

  apply(params, state, tokens [N, K, D], context int [N, K], targets int [N, M, k], train=...) ->
  [N, M, k, D]. tokens: of the patches `context` of a square grid of num_patches. Each of the M
  blocks is predicted by itself: a mask token for each of its patches, with its place, beside the
  context.

  Raises InputError if num_patches is no square.
  """
  if math.isqrt(num_patches) ** 2 != num_patches:
    raise InputError(f'num_patches is {num_patches}, wanted a square')
  return from_linen(BlockPredictor(num_patches, dim, depth, heads))


class BlockPredictor(nn.Module):
  num_patches: int
  dim: int
  depth: int
  heads: int

  @nn.compact
  def __call__(self, tokens, context, targets, *, train: bool, bn_groups: int = 1):
    (n, blocks, count), out = targets.shape, tokens.shape[-1]
    side = math.isqrt(self.num_patches)
    places = sincos_positions(side, side, self.dim).astype(tokens.dtype)
    x = linear(self.dim, tokens.dtype, 'embed')(tokens)
    x += places[context]
    hidden = self.param('mask_token', token_init, (self.dim,)).astype(x.dtype) + places[targets]
    x = jnp.broadcast_to(x[:, None], (n, blocks, *x.shape[1:]))
    x = jnp.concatenate([x, hidden], axis=2).reshape(n * blocks, -1, self.dim)
    for i in range(self.depth):
      x, _ = Block(self.heads, name=f'blocks_{i}')(x, train)
    x = layer_norm(1e-6, x.dtype, 'norm')(x[:, -count:])
    x = linear(out, x.dtype, 'proj')(x)
    return x.reshape(n, blocks, count, out)


def token_predictor(*, grid, out, dim=512, depth=8, heads=16) -> Net:
  """Values for each patch from tokens of all of them: apply(..., tokens [N, E + L, D]) -> [N, L,
  out].

  The last L tokens are patches of a grid (rows, columns), with rotary positions; the E before them
  (a class token) have none.
  """
  return from_linen(TokenPredictor(tuple(grid), out, dim, depth, heads))


class TokenPredictor(nn.Module):
  grid: tuple[int, int]
  out: int
  dim: int
  depth: int
  heads: int

  @nn.compact
  def __call__(self, tokens, *, train: bool, bn_groups: int = 1):
    angles = rope_axial_angles(*self.grid, self.dim // self.heads)
    x = linear(self.dim, tokens.dtype, 'embed')(tokens)
    for i in range(self.depth):
      x, _ = Block(self.heads, name=f'blocks_{i}')(x, train, angles)
    x = layer_norm(1e-6, x.dtype, 'norm')(x[:, -math.prod(self.grid) :])
    return linear(self.out, x.dtype, 'pred')(x)
