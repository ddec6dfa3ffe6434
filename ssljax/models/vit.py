"""Vision transformer (Dosovitskiy et al. 2021) with DeiT's dimensions and MAE's conventions.

Pre-norm, exact GELU, a bias on queries, keys and values. Parameter names are timm's with `_` for
the dot after `blocks`: `blocks.0.attn.qkv.weight` is `params['blocks_0']['attn']['qkv']['kernel']`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssljax.errors import InputError
from ssljax.net import Net, from_linen
from ssljax.ops import patchify, take_tokens

VARIANTS = {
  'vit_micro': {'dim': 64, 'depth': 4, 'heads': 4, 'image_size': 32, 'patch_size': 4},
  'vit_tiny': {'dim': 192, 'depth': 12, 'heads': 3},
  'vit_small': {'dim': 384, 'depth': 12, 'heads': 6},
  'vit_base': {'dim': 768, 'depth': 12, 'heads': 12},
  'vit_large': {'dim': 1024, 'depth': 24, 'heads': 16},
}

xavier = nn.initializers.xavier_uniform()
token_init = nn.initializers.normal(0.02)


def get_config(name):
  return ConfigDict(
    {
      'name': name,
      'image_size': 224,
      'patch_size': 16,
      **VARIANTS[name],
      'mlp_ratio': 4.0,
      'positions': 'learned',  # or 'sincos', fixed
      'class_token': True,
      'pool': 'cls',  # what 'features' is: the class token, or the 'mean' of the patch tokens
      'layer_norm_eps': 1e-6,
      'drop_path': 0.0,  # of the last block, growing linearly from 0
      'remat': False,  # recompute each block in the backward pass
    }
  )


def make(config, *, dtype=jnp.float32) -> Net:
  """Encoder of images [N, H, W, C]: {'features': [N, D], 'tokens': [N, L, D], 'cls': [N, D]}.

  All after the last norm; 'cls' only with a class token. `keep` [N, K], indices of patches in
  raster order, drops the other patches before the first block (L = K, in the order of `keep`).

  Raises InputError on options that do not fit each other.
  """
  for field, wanted in {'positions': ('learned', 'sincos'), 'pool': ('cls', 'mean')}.items():
    if config[field] not in wanted:
      raise InputError(f'model.{field} is {config[field]!r}, wanted one of {list(wanted)}')
  if config.pool == 'cls' and not config.class_token:
    raise InputError("model.pool is 'cls' with no class token, wanted 'mean' or class_token=True")
  for field, part in {'image_size': 'patch_size', 'dim': 'heads'}.items():
    if config[field] % config[part]:
      raise InputError(f'model.{field} is {config[field]}, wanted a multiple of {config[part]}')
  options = {field: value for field, value in config.items() if field != 'name'}
  return from_linen(ViT(**options, dtype=dtype))


def sincos_positions(rows, columns, dim):
  """Fixed 2-D positions [rows columns, dim], as in MAE.

  The first half of the channels encodes the column x, the second the row y, each as
  [sin(x w_0), sin(x w_1), ..., cos(x w_0), ...] with w_i = 10000^(-i / (dim / 4)).

  Raises ValueError if dim is no multiple of 4.
  """
  if dim % 4:
    raise ValueError(f'dim is {dim}, wanted a multiple of 4')
  frequencies = 10000.0 ** (-np.arange(dim // 4) / (dim / 4))
  y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing='ij')
  angles = [v.reshape(-1, 1) * frequencies for v in (x, y)]
  table = np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1)
  return jnp.asarray(table, jnp.float32)


def layer_norm(epsilon, dtype, name):
  return nn.LayerNorm(epsilon, dtype=dtype, use_fast_variance=False, name=name)


class Attention(nn.Module):
  heads: int

  @nn.compact
  def __call__(self, x):
    n, length, dim = x.shape
    qkv = nn.Dense(3 * dim, dtype=x.dtype, kernel_init=xavier, name='qkv')(x)
    q, k, v = jnp.moveaxis(qkv.reshape(n, length, 3, self.heads, -1), 2, 0)
    y = jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
    return nn.Dense(dim, dtype=x.dtype, kernel_init=xavier, name='proj')(y)


class Mlp(nn.Module):
  hidden: int

  @nn.compact
  def __call__(self, x):
    y = nn.Dense(self.hidden, dtype=x.dtype, kernel_init=xavier, name='fc1')(x)
    y = nn.gelu(y, approximate=False)
    return nn.Dense(x.shape[-1], dtype=x.dtype, kernel_init=xavier, name='fc2')(y)


class Block(nn.Module):
  """Pre-norm transformer block on [N, L, D]; drop_path drops a branch for whole samples."""

  heads: int
  mlp_ratio: float = 4.0
  layer_norm_eps: float = 1e-6
  drop_path: float = 0.0

  @nn.compact
  def __call__(self, x, train: bool):
    def drop(y):
      if not (train and self.drop_path):
        return y
      kept = 1 - self.drop_path
      alive = jax.random.bernoulli(self.make_rng('dropout'), kept, (len(y), 1, 1))
      return jnp.where(alive, y / kept, 0)

    hidden = int(self.mlp_ratio * x.shape[-1])
    y = layer_norm(self.layer_norm_eps, x.dtype, 'norm1')(x)
    x = x + drop(Attention(self.heads, name='attn')(y))
    y = layer_norm(self.layer_norm_eps, x.dtype, 'norm2')(x)
    return x + drop(Mlp(hidden, name='mlp')(y))


class ViT(nn.Module):
  image_size: int
  patch_size: int
  dim: int
  depth: int
  heads: int
  mlp_ratio: float
  positions: str
  class_token: bool
  pool: str
  layer_norm_eps: float
  drop_path: float
  remat: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, images, *, train: bool, keep=None, bn_groups: int = 1):
    if images.shape[1:3] != (self.image_size,) * 2:
      size = f'[N, {self.image_size}, {self.image_size}, C] (model.image_size)'
      raise InputError(f'images have shape {list(images.shape)}, wanted {size}')
    x = patchify(images.astype(self.dtype), self.patch_size)
    x = nn.Dense(self.dim, dtype=self.dtype, kernel_init=xavier, name='patch_embed')(x)
    grid = self.image_size // self.patch_size
    extra = int(self.class_token)
    if self.positions == 'sincos':
      positions = jnp.pad(sincos_positions(grid, grid, self.dim), ((extra, 0), (0, 0)))
    else:
      positions = self.param('pos_embed', token_init, (extra + grid * grid, self.dim))
    x += positions[extra:].astype(x.dtype)
    if keep is not None:
      x = take_tokens(x, keep)
    if self.class_token:
      cls = (self.param('cls_token', token_init, (self.dim,)) + positions[0]).astype(x.dtype)
      x = jnp.concatenate([jnp.broadcast_to(cls, (len(x), 1, self.dim)), x], axis=1)

    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
    for i in range(self.depth):
      rate = self.drop_path * i / max(self.depth - 1, 1)
      name = f'blocks_{i}'
      x = block(self.heads, self.mlp_ratio, self.layer_norm_eps, rate, name=name)(x, train)
    x = layer_norm(self.layer_norm_eps, x.dtype, 'norm')(x)
    if not self.class_token:
      return {'features': x.mean(1), 'tokens': x}
    cls, tokens = x[:, 0], x[:, 1:]
    features = cls if self.pool == 'cls' else tokens.mean(1)
    return {'features': features, 'tokens': tokens, 'cls': cls}
