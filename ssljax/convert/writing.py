"""From our parameters to a layout's names, and to its config.json."""

import json

import ml_dtypes
import numpy as np

from ssljax.convert import files, rules, trees
from ssljax.convert.reading import LAYOUTS
from ssljax.errors import InputError

DTYPES = {'float32': np.float32, 'float16': np.float16, 'bfloat16': ml_dtypes.bfloat16}


def to_layout(config, params, layout, decoder=None):
  """Arrays by the layout's names.

  Raises InputError if the layout has no place for one of ours, or needs one that we do not have.
  """
  if layout not in LAYOUTS:
    raise InputError(f'layout is {layout!r}, wanted one of {", ".join(LAYOUTS)}')
  chosen = LAYOUTS[layout]
  ours = {p: np.asarray(x) for p, x in trees.flat(unstack(params)).items()}
  patch_size = config.get('patch_size', 0)
  side = config.image_size // patch_size if patch_size else 0
  if config.get('positions') in trees.FIXED:
    rows_first = config.positions == 'sincos_rows'
    ours['encoder/pos_embed'] = trees.table(side, config.dim, config.class_token, rows_first)
  if decoder:
    ours['decoder/pos_embed'] = trees.table(side, decoder['dim'], True)
  left = set(ours)
  found = {}
  for rule in rules.expand(chosen.rules, lambda rule: rule.ours in left):
    left.remove(rule.ours)
    found |= rules.write(rule, ours[rule.ours], patch_size)
  if left:
    raise InputError(f'layout {layout} has no place for {sorted(left)[0]}')
  if chosen.key not in found:
    raise InputError(f'layout {layout} is of another architecture than {config.name}')
  needed = {r.ours for r in chosen.rules} & {'encoder/cls_token', 'encoder/pos_embed'}
  if needed - set(ours):
    raise InputError(f'layout {layout} needs {sorted(needed - set(ours))[0]}, which is not there')
  stats = {f'stats/{path}' for path in trees.shapes(config, ours)[1]}
  if stats - set(ours):
    raise InputError(
      f'layout {layout} needs the batch statistics {sorted(stats - set(ours))[0]}, which are not '
      'there'
    )
  return chosen.write(found, config)


def unstack(params):
  """Parameters of an encoder with `scan`, block by block; others as they are."""
  encoder = params['encoder']
  if 'blocks' not in encoder:
    return params
  stacked = trees.flat(encoder['blocks']['block'])
  depth = len(next(iter(stacked.values())))
  flat = {p: x for p, x in trees.flat(encoder).items() if not p.startswith('blocks/')}
  flat |= {f'blocks_{i}/{p}': np.asarray(x)[i] for p, x in stacked.items() for i in range(depth)}
  return {**params, 'encoder': trees.nest(flat)}


def stack(encoder):
  """An encoder's parameters with those of its blocks stacked, for `scan`."""
  flat = trees.flat(encoder)
  depth = len({p.split('/')[0] for p in flat if p.startswith('blocks_')})
  tails = [p.split('/', 1)[1] for p in flat if p.startswith('blocks_0/')]
  whole = {p: x for p, x in flat.items() if not p.startswith('blocks_')}
  for tail in tails:
    whole[f'blocks/block/{tail}'] = np.stack([flat[f'blocks_{i}/{tail}'] for i in range(depth)])
  return trees.nest(whole)


def hf_config(config, layout, decoder, channels):
  """Hugging Face's config.json, or None for layouts that have none."""
  model_type = LAYOUTS[layout].model_type
  if not model_type:
    return None
  hidden = int(config.mlp_ratio * config.dim)
  if config.mlp == 'swiglu':
    hidden = -(-int(hidden * 2 / 3) // config.swiglu_align) * config.swiglu_align
  found = {
    'architectures': [LAYOUTS[layout].about.split()[0].rstrip(':')],
    'model_type': model_type,
    'hidden_size': config.dim,
    'num_hidden_layers': config.depth,
    'num_attention_heads': config.heads,
    'image_size': config.image_size,
    'patch_size': config.patch_size,
    'num_channels': channels,
    'layer_norm_eps': config.layer_norm_eps,
    'hidden_act': 'gelu',
    'qkv_bias': config.qkv_bias == 'all',
  }
  swiglu = config.mlp == 'swiglu'
  if model_type.startswith('dinov2'):
    if swiglu and hidden != (int(int(config.dim * config.mlp_ratio) * 2 / 3) + 7) // 8 * 8:
      raise InputError(f'layout {layout} has no SwiGLU of {hidden} hidden units')
    ratio = config.mlp_ratio  # a whole number there
    found |= {'mlp_ratio': int(ratio) if ratio == int(ratio) else ratio, 'use_swiglu_ffn': swiglu}
    found |= {'use_mask_token': config.mask_token} if model_type == 'dinov2' else {}
    found |= {'num_register_tokens': config.registers} if model_type != 'dinov2' else {}
  elif model_type == 'dinov3_vit':
    found |= {
      'intermediate_size': hidden,
      'use_gated_mlp': swiglu,
      'hidden_act': 'silu' if swiglu else 'gelu',
      'num_register_tokens': config.registers,
      'rope_theta': config.rope_base,
      'query_bias': config.qkv_bias != 'none',
      'key_bias': config.qkv_bias == 'all',
      'value_bias': config.qkv_bias != 'none',
    }
    del found['qkv_bias']
  else:
    found['intermediate_size'] = hidden
  if decoder:
    for ours, theirs in (
      ('dim', 'hidden_size'),
      ('depth', 'num_hidden_layers'),
      ('heads', 'num_attention_heads'),
    ):
      found[f'decoder_{theirs}'] = decoder[ours]
    found['decoder_intermediate_size'] = 4 * decoder['dim']
  return found


def save(path, config, params, *, layout, decoder=None, dtype='float32', overwrite=False):
  """Writes parameters as `load` gives them: a .safetensors file, or a folder with a config.json.

  params: {'encoder': ..., 'stats' of batch norm, 'decoder' of MAE with `decoder` its dim, depth and
  heads}. Options that a layout does not say (heads, ...) lie in the file's metadata, which `load`
  reads. Raises InputError if the layout cannot hold them or the file is there already.
  """
  if dtype not in DTYPES:
    raise InputError(f'dtype is {dtype!r}, wanted one of {", ".join(DTYPES)}')
  if 'decoder' in params and not decoder:
    raise InputError('params have a decoder, wanted decoder={dim, depth, heads} for it')
  tensors = to_layout(config, params, layout, decoder)
  options = json.loads(config.to_json())
  said = {'layout': layout, 'encoder': options, 'decoder': decoder or {}}
  arrays = trees.flat(params)
  beside = hf_config(config, layout, decoder, trees.channels(config, arrays))
  return files.write(
    path,
    {name: x.astype(DTYPES[dtype]) for name, x in tensors.items()},
    metadata={'ssljax': json.dumps(said)},
    config=beside,
    overwrite=overwrite,
  )
