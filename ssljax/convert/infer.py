"""The options of our encoder, from arrays by our names, a config.json and what a layout says."""

import math

import numpy as np
from ml_collections import ConfigDict

from ssljax import models
from ssljax.convert import trees
from ssljax.errors import InputError
from ssljax.models import resnet
from ssljax.models.vit import VARIANTS

# Ours and theirs in Hugging Face's config.json; what the arrays do not say.
HF_FIELDS = {
  'heads': 'num_attention_heads',
  'image_size': 'image_size',
  'layer_norm_eps': 'layer_norm_eps',
  'rope_base': 'rope_theta',
}
# Theirs and ours; what the arrays say too.
HF_SIZES = {
  'hidden_size': 'dim',
  'num_hidden_layers': 'depth',
  'patch_size': 'patch_size',
  'image_size': 'image_size',
}
# Options that our own metadata may say on top.
DECLARED = ('name', 'position_offset', 'position_antialias', 'pool', 'swiglu_align', 'mlp_ratio')
# (mlp_ratio, swiglu_align) of published models, tried before others.
GATED = ((4.0, 8), (4.0, 64), (3.0, 64))


def hf_options(config):
  """What a config.json says about our options, which may be nothing.

  Raises InputError on an activation that is not ours.
  """
  act = config.get('hidden_act', 'gelu')
  if act not in ('gelu', 'silu') or (act == 'silu' and not config.get('use_gated_mlp')):
    raise InputError(f"config.json has hidden_act {act!r}, wanted 'gelu'")
  if config.get('use_gated_mlp') and act != 'silu':
    raise InputError(f"config.json has a gated MLP with hidden_act {act!r}, wanted 'silu'")
  found = {ours: config[theirs] for ours, theirs in HF_FIELDS.items() if theirs in config}
  if 'rope_theta' not in config and 'rope_theta' in (config.get('rope_parameters') or {}):
    found['rope_base'] = config['rope_parameters']['rope_theta']
  return {field: _number(HF_FIELDS[field], value) for field, value in found.items()}


def _number(field, value):
  """A number of a config.json; of two sides of a square, one."""
  if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
    value = value[0]
  if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
    raise InputError(f'config.json has {field} {value!r}, wanted a number')
  return value


def agree(config, weights):
  """Raises InputError if a config.json says another size than the tensors have."""
  sizes = dict(HF_SIZES)
  if config.get('positions', '').startswith('rope'):
    del sizes['image_size']  # which is free
  for theirs, ours in sizes.items():
    if 'model_type' in weights.config and theirs in weights.config and ours in config:
      size = _number(theirs, weights.config[theirs])
      if size != config[ours]:
        raise InputError(
          f'{weights.path} has {ours} {config[ours]}, and the config.json beside it {theirs} {size}'
        )


def positions(table, class_token):
  """'sincos' or 'sincos_rows' if [T, D] is that fixed table of a square grid, else 'learned'."""
  side = math.isqrt(len(table) - class_token)
  if side * side == len(table) - class_token and table.shape[1] % 4 == 0:
    for name in trees.FIXED:
      fixed = trees.table(side, table.shape[1], class_token, name == 'sincos_rows')
      if np.allclose(table, fixed, atol=1e-5, rtol=0):
        return name
  return 'learned'


def vit(ours, layout, known, patch_size):
  """The config of a vision transformer; `ours` are its arrays by path.

  known: options that are given, by the user, a config.json or our own metadata.
  """
  kernel = ours['patch_embed/kernel']
  dim = kernel.shape[1]
  depth = 1 + max(
    (int(p.split('/')[0].removeprefix('blocks_')) for p in ours if p.startswith('blocks_')),
    default=-1,
  )
  if not depth:
    raise InputError('the file has no blocks of a vision transformer')
  name = next(
    (n for n, v in VARIANTS.items() if (v['dim'], v['depth']) == (dim, depth)), 'vit_base'
  )
  config = models.get_config(name)
  config.update(layout.options)
  config.update(dim=dim, depth=depth, patch_size=patch_size, drop_path=0.0)
  config.heads = layout.heads(dim, depth)
  config.update(_mlp(ours, dim))
  config.class_token = 'cls_token' in ours
  config.pool = 'cls' if config.class_token else 'mean'
  config.registers = len(ours.get('register_tokens', ()))
  config.mask_token = 'mask_token' in ours
  config.layer_scale = 1.0 if 'blocks_0/ls1' in ours else 0.0
  config.qk_norm = 'blocks_0/attn/q_norm/scale' in ours
  biases = {
    'all': 'blocks_0/attn/qkv/bias',
    'no_key': 'blocks_0/attn/qkv/bias_q',
  }
  config.qkv_bias = next((name for name, path in biases.items() if path in ours), 'none')
  given = {k: v for k, v in known.items() if k in config}
  if 'pos_embed' in ours:
    table = ours['pos_embed']
    side = math.isqrt(len(table) - config.class_token)
    if side * side != len(table) - config.class_token:
      raise InputError(f'the table of positions has {len(table)} rows, wanted those of a square')
    config.image_size = side * patch_size
    given.pop('image_size', None)
    config.positions = positions(table, config.class_token)
  elif not config.positions.startswith('rope'):
    raise InputError('the file has no table of positions, and its layout has no rotary ones')
  for field, value in given.items():
    if field in HF_FIELDS or field in DECLARED:
      config[field] = _like(config[field], field, value)
  if config.heads < 1 or dim % config.heads:
    raise InputError(f'heads is {config.heads}, wanted a divisor of the {dim} channels')
  return config


def _like(old, field, value):
  try:
    return type(old)(value)
  except (TypeError, ValueError):
    kind = type(old).__name__
    raise InputError(f'{field} of the encoder is {value!r}, wanted {kind}') from None


def _mlp(ours, dim):
  if 'blocks_0/mlp/fc1/kernel' in ours:
    hidden = ours['blocks_0/mlp/fc1/kernel'].shape[1]
    return {'mlp': 'gelu', 'mlp_ratio': _ratio(hidden, dim)}
  if 'blocks_0/mlp/w3/kernel' not in ours:
    raise InputError('the file has no MLP in its first block')
  hidden = len(ours['blocks_0/mlp/w3/kernel'])
  for ratio, align in GATED:
    if -(-int(int(ratio * dim) * 2 / 3) // align) * align == hidden:
      return {'mlp': 'swiglu', 'mlp_ratio': ratio, 'swiglu_align': align}
  inner = next(n for n in range(hidden, 2 * hidden + 2) if int(n * 2 / 3) == hidden)
  return {'mlp': 'swiglu', 'mlp_ratio': _ratio(inner, dim), 'swiglu_align': 1}


def _ratio(hidden, dim):
  """A float whose product with dim has the whole part `hidden`."""
  ratio = hidden / dim
  return ratio if int(ratio * dim) == hidden else (hidden + 0.5) / dim


def decoder(ours, heads, layer_norm_eps):
  """The options of MAE's decoder; with 32 channels per head as in the paper if not given."""
  dim = ours['embed/kernel'].shape[1]
  depth = len([path for path in ours if path.endswith('norm1/scale')])
  heads = heads or max(dim // 32, 1)
  return {'dim': dim, 'depth': depth, 'heads': heads, 'layer_norm_eps': layer_norm_eps}


def residual(ours, known):
  """The config of a ResNet; whether a 3x3 stem has a stride is in our own metadata only."""
  bottleneck = 'layer1_0/conv3/kernel' in ours
  depths = tuple(
    len([p for p in ours if p.startswith(f'layer{stage}_') and p.endswith('/conv1/kernel')])
    for stage in range(1, 5)
  )
  block = 'bottleneck' if bottleneck else 'basic'
  name = next(
    (n for n, v in resnet.VARIANTS.items() if (v['block'], v['depths']) == (block, depths)),
    'resnet50' if bottleneck else 'resnet18',
  )
  config = models.get_config(name)
  side, _, _, width = ours['conv1/kernel'].shape
  if side not in (3, 7):
    raise InputError(f'conv1 has a kernel of {side} pixels, wanted 7 or, for small images, 3')
  stem = 'imagenet' if side == 7 else known.get('stem', 'cifar')
  config.update(depths=depths, block=block, width=width, stem=stem)
  return config


def options(ours, layout, known, patch_size):
  """The config of the encoder whose arrays by path are `ours`; empty if it is none of those known.

  Raises InputError if the arrays or what is `known` do not fit each other.
  """
  if 'conv1/kernel' in ours:
    return residual(ours, known)
  return vit(ours, layout, known, patch_size) if 'patch_embed/kernel' in ours else ConfigDict()
