"""Vision transformer (Dosovitskiy et al. 2021) with DeiT's dimensions and MAE's conventions.

Pre-norm, exact GELU, a bias on queries, keys and values; options make it DINOv2's (layer scale,
registers, SwiGLU) or DINOv3's (rotary positions, no bias on keys). Parameter names are timm's with
`_` for the dot after `blocks`: `blocks.0.attn.qkv.weight` is `params['blocks_0']['attn']['qkv']
['kernel']`; with `scan` all blocks lie in `params['blocks']`, stacked.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssljax.errors import InputError
from ssljax.models import positions
from ssljax.models.positions import sincos_positions
from ssljax.models.transformer import Block, layer_norm, linear, token_init
from ssljax.net import Net, from_linen
from ssljax.ops import patchify, split_rows, take_tokens

VARIANTS = {
  'vit_micro': {'dim': 64, 'depth': 4, 'heads': 4, 'image_size': 32, 'patch_size': 4},
  'vit_tiny': {'dim': 192, 'depth': 12, 'heads': 3},
  'vit_small': {'dim': 384, 'depth': 12, 'heads': 6},
  'vit_base': {'dim': 768, 'depth': 12, 'heads': 12},
  'vit_large': {'dim': 1024, 'depth': 24, 'heads': 16},
  'vit_huge': {'dim': 1280, 'depth': 32, 'heads': 16},
  'vit_giant': {'dim': 1536, 'depth': 40, 'heads': 24, 'mlp': 'swiglu'},
  'vit_7b': {'dim': 4096, 'depth': 40, 'heads': 32, 'mlp': 'swiglu', 'mlp_ratio': 3.0},
}
POSITIONS = ('learned', 'sincos', 'sincos_rows', 'rope', 'rope_axial')
CHOICES = {
  'positions': POSITIONS,
  'pool': ('cls', 'mean'),
  'mlp': ('gelu', 'swiglu'),
  'qkv_bias': ('all', 'none', 'no_key'),
}


def get_config(name):
  """The options of an encoder with their defaults."""
  return ConfigDict(
    {
      'name': name,
      'image_size': 224,
      'patch_size': 16,
      'mlp': 'gelu',  # or 'swiglu'
      'mlp_ratio': 4.0,
      **VARIANTS[name],
      'swiglu_align': 8,  # the hidden units are a multiple of it; 64 in DINOv3
      # 'sincos', fixed; 'sincos_rows' in MoCo v3; 'rope' in DINOv3; 'rope_axial' in CroCo v2
      'positions': 'learned',
      'position_offset': 0.0,  # see positions.resize_positions, for images of other sizes
      'position_antialias': False,
      'rope_base': 100.0,
      'rope_shift': 0.0,  # see positions.jitter_box; in training
      'rope_jitter': 1.0,
      'rope_rescale': 1.0,
      'class_token': True,
      'registers': 0,  # further tokens that most methods do not read (Darcet et al. 2024)
      'mask_token': False,  # whether `mask` may replace patches
      'pool': 'cls',  # what 'features' is: the class token, or the 'mean' of the patch tokens
      'layer_norm_eps': 1e-6,
      'layer_scale': 0.0,  # > 0: what each branch is multiplied by at first, learned
      'qkv_bias': 'all',  # 'none', or 'no_key'
      'qk_norm': False,
      'drop_path': 0.0,  # of the last block, growing linearly from 0
      'drop_path_uniform': False,  # of every block alike (DINOv2)
      'remat': False,  # recompute each block in the backward pass
      'scan': False,  # one block compiled for all of them, their parameters stacked
    }
  )


def make(config, *, dtype=jnp.float32) -> Net:
  """Encoder of images [N, H, W, C]: {'features': [N, D], 'tokens': [N, L, D], ...}.

  Those two come after the last norm, as do 'cls' [N, D] if there is a class token and 'registers'
  [N, R, D] if there are any. 'layers' are all tokens [N, T, D] after each block, class token and
  registers first, and 'qkv' what its attention compares [N, T, heads, d] (not with `scan`); what is
  not used is not computed under jit.

  Images may have another size than `image_size`, a multiple of `patch_size`: learned and fixed
  positions are interpolated. Options of the call: `keep` [N, K], indices of patches in raster
  order, drops the other patches before the first block (L = K, in the order of `keep`); `mask`
  bool [N, L] puts the mask token in the place of patches, if the config has one; `average`, shares
  of the depth, lets the mean of the tokens after these blocks pass the last norm.

  Raises InputError on options that do not fit each other.
  """
  for field, wanted in CHOICES.items():
    if config[field] not in wanted:
      raise InputError(f'encoder.{field} is {config[field]!r}, wanted one of {list(wanted)}')
  if config.pool == 'cls' and not config.class_token:
    raise InputError("encoder.pool is 'cls' with no class token, wanted 'mean' or class_token=True")
  for field, part in {'image_size': 'patch_size', 'dim': 'heads'}.items():
    if config[field] % config[part]:
      raise InputError(f'encoder.{field} is {config[field]}, wanted a multiple of {config[part]}')
  options = {field: value for field, value in config.items() if field != 'name'}
  return from_linen(ViT(**options, dtype=dtype))


class ViT(nn.Module):
  image_size: int
  patch_size: int
  dim: int
  depth: int
  heads: int
  mlp: str
  mlp_ratio: float
  swiglu_align: int
  positions: str
  position_offset: float
  position_antialias: bool
  rope_base: float
  rope_shift: float
  rope_jitter: float
  rope_rescale: float
  class_token: bool
  registers: int
  mask_token: bool
  pool: str
  layer_norm_eps: float
  layer_scale: float
  qkv_bias: str
  qk_norm: bool
  drop_path: float
  drop_path_uniform: bool
  remat: bool
  scan: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, images, *, train: bool, keep=None, mask=None, average=(), bn_groups: int = 1):
    height, width = images.shape[1:3]
    if height % self.patch_size or width % self.patch_size:
      raise InputError(
        f'images have shape {list(images.shape)}, wanted sides that are multiples of '
        f'encoder.patch_size {self.patch_size}'
      )
    grid = height // self.patch_size, width // self.patch_size
    x = patchify(images.astype(self.dtype), self.patch_size)
    x = linear(self.dim, self.dtype, 'patch_embed')(x)
    if self.mask_token:
      token = self.param('mask_token', token_init, (self.dim,)).astype(x.dtype)
      if mask is not None:
        x = jnp.where(mask[..., None], token, x)
    elif mask is not None:
      raise InputError('mask is given, wanted encoder.mask_token=True for it')

    table, angles = self.table(grid), self.angles(grid, train)
    extra = int(self.class_token)
    if table is not None:
      x += table[extra:].astype(x.dtype)
    if keep is not None:
      x = take_tokens(x, keep)
      angles = None if angles is None else angles[keep]
    first = []
    if self.class_token:
      cls = self.param('cls_token', token_init, (self.dim,))[None]
      first.append(cls if table is None else cls + table[:1])
    if self.registers:
      first.append(self.param('register_tokens', token_init, (self.registers, self.dim)))
    if first:
      first = jnp.concatenate(first).astype(x.dtype)
      x = jnp.concatenate([jnp.broadcast_to(first, (len(x), *first.shape)), x], axis=1)

    x, layers, qkv = self.blocks(x, angles, train)
    if average:
      chosen = [layers[max(round(share * self.depth), 1) - 1] for share in average]
      x = sum(chosen) / len(chosen)
    x = layer_norm(self.layer_norm_eps, x.dtype, 'norm')(x)
    out = {'tokens': x[:, extra + self.registers :], 'layers': layers, 'qkv': qkv}
    if self.class_token:
      out['cls'] = x[:, 0]
    if self.registers:
      out['registers'] = x[:, extra : extra + self.registers]
    out['features'] = out['cls'] if self.pool == 'cls' else out['tokens'].mean(1)
    return out

  def table(self, grid):
    """[T, D], what is added to the class token, if there is one, and to the patches; or None."""
    if self.positions.startswith('rope'):
      return None
    own, extra = (self.image_size // self.patch_size,) * 2, int(self.class_token)
    if self.positions.startswith('sincos'):
      grid_table = sincos_positions(*own, self.dim, rows_first=self.positions == 'sincos_rows')
      table = jnp.pad(grid_table, ((extra, 0), (0, 0)))
    else:
      table = self.param('pos_embed', token_init, (extra + own[0] * own[1], self.dim))
    patches = positions.resize_positions(
      table[extra:], own, grid, offset=self.position_offset, antialias=self.position_antialias
    )
    return jnp.concatenate([table[:extra], patches])

  def angles(self, grid, train):
    """By how much the queries and keys of each patch turn, or None."""
    head_dim = self.dim // self.heads
    if self.positions == 'rope_axial':
      return positions.rope_axial_angles(*grid, head_dim, self.rope_base)
    if self.positions != 'rope':
      return None
    coordinates = positions.box_coordinates(*grid)
    moves = {'shift': self.rope_shift, 'jitter': self.rope_jitter, 'rescale': self.rope_rescale}
    if train and (self.rope_shift, self.rope_jitter, self.rope_rescale) != (0.0, 1.0, 1.0):
      coordinates = positions.jitter_box(self.make_rng('dropout'), coordinates, **moves)
    return positions.rope_box_angles(coordinates, head_dim, self.rope_base)

  def blocks(self, x, angles, train):
    """Tokens after the last block, after each of them, and their queries, keys and values."""
    options = {
      field: getattr(self, field)
      for field in (
        'heads', 'mlp', 'mlp_ratio', 'swiglu_align', 'layer_norm_eps', 'layer_scale', 'qkv_bias',
        'qk_norm',
      )
    }  # fmt: skip
    rates = self.drop_path * np.arange(self.depth) / max(self.depth - 1, 1)
    if self.drop_path_uniform:
      rates = np.full(self.depth, self.drop_path)
    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
    if self.scan:
      body = nn.scan(
        _Carried,
        variable_axes={'params': 0},
        split_rngs={'params': True, 'dropout': True},
        in_axes=(0, nn.broadcast),
        length=self.depth,
      )
      rates = jnp.asarray(rates, jnp.float32) if self.drop_path else jnp.zeros(self.depth)
      carry = body(block, options, train, bool(self.drop_path), name='blocks')
      x, layers = carry(x, rates, angles)
      return x, tuple(layers[i] for i in range(self.depth)), ()
    layers, compared = [], []
    for i, rate in enumerate(rates):
      made = block(drop_path=float(rate), name=f'blocks_{i}', **options)
      x, qkv = made(split_rows(x), train, angles)
      layers.append(x)
      compared.append(qkv)
    return x, tuple(layers), tuple(compared)


class _Carried(nn.Module):
  """A block as the body of a scan over layers."""

  block: type
  options: dict
  train: bool
  drops: bool

  @nn.compact
  def __call__(self, x, rate, angles):
    block = self.block(name='block', **self.options)
    x, _ = block(split_rows(x), self.train, angles, rate if self.drops else None)
    return x, x
