"""Perceptual group tokenizer (Deng et al. 2024): an encoder of grouping layers, without
self-attention.

A layer has group tokens, drawn around learned means. For some rounds every patch is shared out
among them, by a softmax over groups in each of several heads, and every group becomes what it got,
by a GRU and a residual MLP, as slots do (Locatello et al. 2020). Then patches read the groups that
they belong to. How many groups and rounds there are may change after training.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax.errors import InputError
from ssljax.models.positions import resize_positions
from ssljax.models.transformer import Mlp, layer_norm, linear, token_init
from ssljax.net import Net, from_linen
from ssljax.ops import patchify

VARIANTS = {
  'pgt_micro': {
    'dim': 64, 'depth': 3, 'heads': 4, 'groups': 16, 'rounds': 2, 'image_size': 32, 'patch_size': 4,
  },
  'pgt_small': {'dim': 192, 'depth': 10, 'heads': 3, 'groups': 128, 'rounds': 3},
  'pgt_base': {'dim': 384, 'depth': 10, 'heads': 6, 'groups': 256, 'rounds': 3},
}  # fmt: skip


def get_config(name):
  """The options of an encoder with their defaults."""
  return ConfigDict(
    {
      'name': name,
      'image_size': 224,
      'patch_size': 4,
      'mlp_ratio': 4.0,
      **VARIANTS[name],
      'sample_groups': True,  # in training anew in each call, else always the same draws
      'layer_norm_eps': 1e-6,
      'remat': False,  # recompute each layer in the backward pass
    }
  )


def make(config, *, dtype=jnp.float32) -> Net:
  """Encoder of images [N, H, W, C]: {'features': [N, D], 'tokens': [N, L, D], ...}.

  'tokens' are the patches after the last norm and 'features' their mean; 'layers' are the patches
  after each layer, 'groups' [N, M, D] the last layer's group tokens and 'assignments' [N, heads, M,
  L] how it shared out the patches, each patch's summing to 1. Images may have other sizes than
  `image_size`, multiples of `patch_size`.

  Options of the call: `groups` and `rounds` take the place of those of the config. The draws of an
  image are those of all others of the call; without `rng` or in evaluation they are fixed.

  Raises InputError on options that do not fit each other.
  """
  for field, part in {'image_size': 'patch_size', 'dim': 'heads'}.items():
    if config[field] % config[part]:
      raise InputError(f'encoder.{field} is {config[field]}, wanted a multiple of {config[part]}')
  for field in ('depth', 'groups', 'rounds'):
    if config[field] < 1:
      raise InputError(f'encoder.{field} is {config[field]}, wanted at least 1')
  options = {field: value for field, value in config.items() if field != 'name'}
  return from_linen(GroupTokenizer(**options, dtype=dtype))


class GroupTokenizer(nn.Module):
  image_size: int
  patch_size: int
  mlp_ratio: float
  dim: int
  depth: int
  heads: int
  groups: int
  rounds: int
  sample_groups: bool
  layer_norm_eps: float
  remat: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, images, *, train: bool, groups=None, rounds=None, bn_groups: int = 1):
    height, width = images.shape[1:3]
    if height % self.patch_size or width % self.patch_size:
      raise InputError(
        f'images have shape {list(images.shape)}, wanted sides that are multiples of '
        f'encoder.patch_size {self.patch_size}'
      )
    groups, rounds = groups or self.groups, rounds or self.rounds
    x = patchify(images.astype(self.dtype), self.patch_size)
    x = linear(self.dim, self.dtype, 'patch_embed')(x)
    own = (self.image_size // self.patch_size,) * 2
    table = self.param('pos_embed', token_init, (own[0] * own[1], self.dim))
    grid = height // self.patch_size, width // self.patch_size
    x += resize_positions(table, own, grid).astype(x.dtype)

    drawn = train and self.sample_groups and self.has_rng('dropout')
    rng = self.make_rng('dropout') if drawn else jax.random.key(0)
    options = dict(heads=self.heads, mlp_ratio=self.mlp_ratio, eps=self.layer_norm_eps)
    layer = nn.remat(Grouping, static_argnums=(3,)) if self.remat else Grouping
    layers = []
    for i in range(self.depth):
      noise = jax.random.normal(jax.random.fold_in(rng, i), (groups, self.dim))
      x, tokens, shares = layer(**options, name=f'layers_{i}')(x, noise, rounds)
      layers.append(x)
    x = layer_norm(self.layer_norm_eps, x.dtype, 'norm')(x)
    return {
      'features': x.mean(1),
      'tokens': x,
      'layers': tuple(layers),
      'groups': tokens,
      'assignments': shares,
    }


class Grouping(nn.Module):
  """x [N, L, D] -> x, its group tokens [N, M, D] and assignments [N, heads, M, L].

  noise: [M, D], standard normal; it is scaled and moved by what is learned, head by head.
  """

  heads: int
  mlp_ratio: float
  eps: float

  @nn.compact
  def __call__(self, x, noise, rounds):
    n, length, dim = x.shape
    each = dim // self.heads

    def norm(name):
      return layer_norm(self.eps, x.dtype, name)

    def split(y):
      return y.reshape(n, -1, self.heads, each).swapaxes(1, 2)

    def dense(size, name, **options):
      return linear(size, x.dtype, name, **options)

    mean = self.param('group_mean', token_init, (dim,))
    scale = self.param('group_log_scale', nn.initializers.constant(-1.0), (dim,))
    tokens = (mean + jnp.exp(scale) * noise).astype(x.dtype)
    tokens = split(jnp.broadcast_to(tokens, (n, *tokens.shape)))  # [N, heads, M, d]

    keys, values = jnp.split(dense(2 * dim, 'key_value', use_bias=False)(norm('norm1')(x)), 2, -1)
    keys, values = split(keys), split(values)
    # A bias here would move a patch's scores of all groups alike, which the softmax does not see.
    query_norm = nn.LayerNorm(
      self.eps, dtype=x.dtype, use_fast_variance=False, use_bias=False, name='norm_query'
    )
    query = dense(each, 'query', use_bias=False)
    gru = nn.GRUCell(each, dtype=x.dtype, param_dtype=jnp.float32, name='gru')
    mlp, mlp_norm = Mlp(int(self.mlp_ratio * each), name='group_mlp'), norm('norm_group')

    def assign(tokens):
      scores = jnp.einsum('nhmd,nhld->nhml', query(query_norm(tokens)), keys) * each**-0.5
      return jax.nn.softmax(scores.astype(jnp.float32), axis=2)

    for _ in range(rounds):
      shares = assign(tokens)
      got = shares / (shares.sum(-1, keepdims=True) + 1e-6)
      got = jnp.einsum('nhml,nhld->nhmd', got.astype(x.dtype), values)
      tokens, _ = gru(tokens, got)
      tokens += mlp(mlp_norm(tokens))

    shares = assign(tokens)
    y = jnp.einsum('nhml,nhmd->nhld', shares.astype(x.dtype), tokens)
    x += dense(dim, 'proj')(norm('norm_read')(y).swapaxes(1, 2).reshape(n, length, dim))
    x += Mlp(int(self.mlp_ratio * dim), name='mlp')(norm('norm2')(x))
    return x, tokens.swapaxes(1, 2).reshape(n, -1, dim), shares
