"""How each library names the arrays of a network: a table per layout, read in both directions."""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ssljax.convert.rules import Rule, at, linear, norm


class Layout(NamedTuple):
  """rules:    our path, of the parts 'encoder', 'decoder' and 'stats' <-> their names.
  about:    one line for people.
  key:      a tensor that all files of this layout have, by whose name the prefix is found.
  when:     (names, model_type of config.json) -> is it this layout? The first of LAYOUTS wins.
  spelling: (pattern, replacement) for other spellings of the same names in files.
  unused:   patterns of names that are no part of the encoder, and why.
  options:  of our encoder, which the file does not say.
  heads:    (dim, depth) -> heads, where neither config.json nor we know.
  read, write: of named arrays, for what is no rearrangement.
  says: (named arrays, our encoder's by path) -> options of ours that arrays say beside the table.
  model_type: of Hugging Face's config.json.
  """

  rules: list[Rule]
  about: str
  key: str
  when: Callable
  spelling: tuple = ()
  unused: tuple = ()
  options: dict = {}
  heads: Callable = lambda dim, depth: {(1280, 32): 16, (1408, 40): 16, (4096, 40): 32}.get(
    (dim, depth), max(dim // 64, 1)
  )
  read: Callable = lambda tensors: tensors
  write: Callable = lambda tensors, config: tensors
  says: Callable = lambda tensors, ours: {}
  model_type: str = ''


HEAD = (
  r'^(head|fc|classifier|pooler|fc_norm|head_dist|last_layer|mlp|predictor|projector|prototypes'
  r'|projection_head)\b',
  'a head',
)
DECODER = (r'^(mask_token$|decoder)', 'of a decoder')
COUNT = (r'num_batches_tracked$', 'a count of batches')
QKV = 'blocks_{}/attn/qkv'


def timm_vit(block='blocks.{}', *, patch=True, qkv=True):
  """Rules of a vision transformer by the names of timm, which most share.

  block: their name of a block. patch: whether with what is outside of blocks, patch embedding,
  last norm, class token and positions. qkv: whether queries, keys and values have a bias.
  """
  rules = [
    *norm('blocks_{}/norm1', f'{block}.norm1'),
    *norm('blocks_{}/norm2', f'{block}.norm2'),
    *linear('blocks_{}/attn/proj', f'{block}.attn.proj'),
    *linear('blocks_{}/mlp/fc1', f'{block}.mlp.fc1'),
    *linear('blocks_{}/mlp/fc2', f'{block}.mlp.fc2'),
  ]
  rules += linear(QKV, f'{block}.attn.qkv')[: 2 if qkv else 1]
  if patch:
    rules += [
      *linear('patch_embed', 'patch_embed.proj', kind='patch'),
      *norm('norm', 'norm'),
      Rule('cls_token', ('cls_token',), 'token'),
      Rule('pos_embed', ('pos_embed',), 'row'),
    ]
  return rules


QK_NORM = [
  *norm('blocks_{}/attn/q_norm', 'blocks.{}.attn.q_norm'),
  *norm('blocks_{}/attn/k_norm', 'blocks.{}.attn.k_norm'),
]
SCALE = [Rule(f'blocks_{{}}/ls{i}', (f'blocks.{{}}.ls{i}.gamma',)) for i in (1, 2)]
W12 = [
  *linear('blocks_{}/mlp/w12', 'blocks.{}.mlp.w12'),
  *linear('blocks_{}/mlp/w3', 'blocks.{}.mlp.w3'),
]
# timm's gate and value in one layer, `fc1`, too: told from the plain MLP by its shape in `read`.
GATED = [
  *linear('blocks_{}/mlp/w12', 'blocks.{}.mlp.gated.fc1'),
  *linear('blocks_{}/mlp/w3', 'blocks.{}.mlp.gated.fc2'),
]
MASK = Rule('mask_token', ('mask_token',), 'row')
REGISTERS = Rule('register_tokens', ('register_tokens',), 'row')


def origin(name):
  """The name in the file of what a layout's `read` has renamed or cut in pieces."""
  return re.sub(r'(?<=\.bias)_[qv]$', '', name.replace('.mlp.gated.', '.mlp.'))


def _read_timm(tensors):
  found = dict(tensors)
  for name, x in tensors.items():
    down = name.replace('.mlp.fc1.', '.mlp.fc2.').replace('.bias', '.weight')
    if '.mlp.fc1.' in name and x.shape[0] == 2 * tensors[down].shape[1]:
      for n in (name, name.replace('fc1', 'fc2')):
        found[n.replace('.mlp.', '.mlp.gated.')] = found.pop(n)
  if 'reg_token' in found and 'pos_embed' in found:  # whose class token has its position in it
    found['pos_embed'] = np.pad(found['pos_embed'], ((0, 0), (1, 0), (0, 0)))
  return found


def _write_timm(tensors, config):
  found = {name.replace('.mlp.gated.', '.mlp.'): x for name, x in tensors.items()}
  if 'reg_token' in found and 'pos_embed' in found:
    found['cls_token'] = found['cls_token'] + found['pos_embed'][:, :1]
    found['pos_embed'] = found['pos_embed'][:, 1:]
  return found


def _decoder():
  blocks = [
    r._replace(theirs=tuple(t.replace('blocks', 'decoder_blocks', 1) for t in r.theirs))
    for r in timm_vit(patch=False)
  ]
  return [
    *blocks,
    *linear('embed', 'decoder_embed'),
    *norm('norm', 'decoder_norm'),
    *linear('pred', 'decoder_pred'),
    Rule('mask_token', ('mask_token',), 'token'),
    Rule('pos_embed', ('decoder_pos_embed',), 'row'),
  ]


PATCH = 'patch_embed.proj.weight'
IJEPA_OPTIONS = {'class_token': False, 'pool': 'mean'}


def named(*wanted):
  """A `when` of a layout: files without a model_type that have a name with one of the patterns."""
  return lambda names, model_type: (
    not model_type and any(re.search(pattern, name) for pattern in wanted for name in names)
  )


TIMM = {
  'mae': Layout(
    at('encoder', timm_vit()) + at('decoder', _decoder()),
    'MAE with its decoder or without, official',
    PATCH,
    named(r'^decoder_embed\.weight$'),
    unused=(HEAD,),
  ),
  'dinov2': Layout(
    at('encoder', [*timm_vit(), *SCALE, *W12, MASK, REGISTERS]),
    'DINOv2 without or with registers, official',
    PATCH,
    lambda names, model_type: named(r'\.ls1\.gamma$')(names, model_type) and 'mask_token' in names,
    unused=(HEAD,),
    options={'position_offset': 0.1},
  ),
  'timm': Layout(
    at(
      'encoder',
      [*timm_vit(), *SCALE, *GATED, *QK_NORM, Rule('register_tokens', ('reg_token',), 'row')],
    ),
    "timm's VisionTransformer: DINO, DINOv2, MAE and others",
    PATCH,
    lambda names, model_type: (
      named(r'\.ls1\.gamma$', '^reg_token$')(names, model_type) or model_type == 'timm'
    ),
    unused=(HEAD, DECODER),
    options={'position_antialias': True},
    read=_read_timm,
    write=_write_timm,
  ),
  'moco_v3': Layout(
    at('encoder', timm_vit()),
    'MoCo v3 ViT, official',
    PATCH,
    lambda names, model_type: False,  # by its prefix, see `reading.find`
    unused=(HEAD, DECODER),
    heads=lambda dim, depth: 16 if dim == 1280 else 12,  # a ViT-S of theirs has 12 too
  ),
  'ijepa': Layout(
    at('encoder', [r for r in timm_vit() if r.ours != 'cls_token']),
    'I-JEPA encoder, official',
    PATCH,
    lambda names, model_type: not model_type and 'cls_token' not in names,
    unused=(HEAD,),
    options=IJEPA_OPTIONS,
  ),
  'dino': Layout(
    at('encoder', [*timm_vit(), Rule('mask_token', ('masked_embed',), 'row')]),
    'DINO and iBOT, official',
    PATCH,
    lambda names, model_type: not model_type,
    unused=(HEAD,),
    options={'position_offset': 0.1},
  ),
}
