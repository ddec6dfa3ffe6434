"""From named tensors to our parameters: which layout, which of them are used, do they fit."""

import json
import re
from typing import NamedTuple

from ssljax.convert import files, infer, rules, trees
from ssljax.convert.layouts import TIMM, origin
from ssljax.convert.layouts_dinov3 import DINOV3
from ssljax.convert.layouts_hf import HF
from ssljax.convert.layouts_resnet import RESNET
from ssljax.errors import InputError

LAYOUTS = {**RESNET, **HF, **DINOV3, **TIMM}
# Of several networks in one file, the first of these: what the authors evaluate.
PREFERRED = ('teacher', 'target_encoder', 'base_encoder', 'encoder_q', 'encoder', 'student')


class Row(NamedTuple):
  """Name in the file, shape, 'used', 'skipped', 'missing' or 'wrong', and our path or why.

  What is missing has our path for its name.
  """

  name: str
  shape: tuple[int, ...]
  status: str
  ours: str


class Report(NamedTuple):
  """What became of each tensor of a file: the layout and prefix it was found in, and the rows."""

  path: str
  layout: str
  prefix: str
  rows: list[Row]
  decoder: dict  # dim, depth and heads of MAE's decoder, or {}
  known: dict  # encoder options that the file itself says, beyond its arrays

  def count(self, status):
    return sum(row.status == status for row in self.rows)

  def check(self):
    """Raises InputError, one sentence, unless every tensor has its place."""
    bad = [row for row in self.rows if row.status in ('missing', 'wrong')]
    if bad:
      more = f' (and {len(bad) - 1} more)' if len(bad) > 1 else ''
      row = bad[0]
      raise InputError(
        f'{self.path} does not fit layout {self.layout}: {row.name} is {row.status}, '
        f'{row.ours}{more}'
      )


def find(weights, layout=None, part=None):
  """(name of the layout, prefix of its names). Raises InputError if there is none."""
  if layout is not None and layout not in LAYOUTS:
    raise InputError(f'layout is {layout!r}, wanted one of {", ".join(LAYOUTS)}')
  model_type = weights.config.get('model_type', '')
  if not model_type and 'architecture' in weights.config:
    model_type = 'timm'
  for name, one in LAYOUTS.items() if layout is None else [(layout, LAYOUTS[layout])]:
    prefixes = sorted({n.removesuffix(one.key) for n in weights.tensors if n.endswith(one.key)})
    prefixes = [p for p in prefixes if not p or p.endswith('.')]
    if part is not None:
      prefixes = [p for p in prefixes if part in p]
    fits = [
      p for p in prefixes if layout or one.when(set(local_names(weights, one, p)), model_type)
    ]
    if fits:
      prefix = _choose(weights, fits)
      moco = layout is None and name == 'dino' and re.search(r'(base|momentum)_encoder\.', prefix)
      return 'moco_v3' if moco else name, prefix
  wanted = f'the layout {layout}' if layout else 'a layout that is known here'
  where = f' in a part {part!r}' if part else ''
  raise InputError(
    f'{weights.path} has {len(weights.tensors)} tensors such as {next(iter(weights.tensors), "")!r}'
    f' and no {"network" if part else "encoder"}{where} in {wanted} '
    f'(model_type {model_type!r}); layouts are {", ".join(LAYOUTS)}'
  )


def _choose(weights, prefixes):
  if len(prefixes) == 1:
    return prefixes[0]
  for wanted in PREFERRED:
    found = [p for p in prefixes if wanted in p.split('.')]
    if len(found) == 1:
      return found[0]
  raise InputError(
    f'{weights.path} has several networks, {", ".join(repr(p) for p in prefixes)}: wanted part=, '
    'part of one of these names'
  )


def local_names(weights, layout, prefix):
  """Names without the prefix, in the layout's spelling -> names in the file."""
  found = {}
  for name in weights.tensors:
    if name.startswith(prefix):
      local = name.removeprefix(prefix)
      for pattern, replacement in layout.spelling:
        local = re.sub(pattern, replacement, local)
      found[local] = name
  return found


def _said(weights):
  """What `save` has left in a file's metadata: {'layout', 'encoder', 'decoder'}, or {}."""
  try:
    said = json.loads(weights.metadata.get('ssljax', '{}'))
    wanted = {'layout': str, 'encoder': dict, 'decoder': dict}
    if all(isinstance(said.get(name, kind()), kind) for name, kind in wanted.items()):
      return said
  except (ValueError, AttributeError):
    pass  # no JSON, or not of an object
  raise InputError(f"{weights.path} has metadata 'ssljax' that this library did not write")


def convert(weights: files.Weights, *, layout=None, part=None, **known):
  """(encoder config, {'encoder', 'stats', and 'decoder'}, Report), not checked yet.

  The trees are nested dicts of float32 arrays. known: options of the encoder that the file does not
  say, such as heads.
  """
  said = _said(weights)
  name, prefix = find(weights, layout or said.get('layout'), part)
  chosen = LAYOUTS[name]
  local = local_names(weights, chosen, prefix)
  why = {n: reason for n in local for pattern, reason in chosen.unused if re.search(pattern, n)}
  used = {n: weights.tensors[full].load() for n, full in local.items()}
  tensors = chosen.read(used)
  arrays, sources, wrong = {}, {}, {}
  taken = set()

  def fits(rule):
    return all(t in tensors and t not in taken for t in rule.theirs) and rule.ours not in arrays

  patch_size = 0
  for rule in rules.expand(chosen.rules, fits):
    parts = [tensors[t] for t in rule.theirs]
    taken |= set(rule.theirs)
    try:
      arrays[rule.ours] = rules.read(rule, parts)
    except ValueError as error:
      wrong[rule.ours] = str(error)
      continue
    if rule.kind == 'patch':
      patch_size = parts[0].shape[-1]
    sources[rule.ours] = rule.theirs
  if wrong:
    raise InputError(f'{weights.path} does not fit layout {name}: {next(iter(wrong.values()))}')

  def under(root):
    return {p.removeprefix(root): x for p, x in arrays.items() if p.startswith(root)}

  hf = infer.hf_options(weights.config) if 'model_type' in weights.config else {}
  inside = chosen.says(used, under('encoder/'))
  known = said.get('encoder', {}) | inside | hf | {k: v for k, v in known.items() if v is not None}
  decoder_heads = known.pop('decoder_heads', 0)
  decoder_heads = decoder_heads or said.get('decoder', {}).get('heads', 0)
  decoder_heads = decoder_heads or weights.config.get('decoder_num_attention_heads', 0)
  config = infer.options(under('encoder/'), chosen, known, patch_size)
  if not config:
    raise InputError(f'{weights.path} does not fit layout {name}: it has no patch embedding')
  infer.agree(config, weights)
  decoder = {}
  if 'decoder/embed/kernel' in arrays:
    decoder = infer.decoder(under('decoder/'), decoder_heads, config.layer_norm_eps)
  fixed = set()
  for root in ('encoder', 'decoder'):
    table = arrays.get(f'{root}/pos_embed')
    if table is not None and (root == 'decoder' or config.get('positions') in trees.FIXED):
      if root == 'decoder' and infer.positions(table, True) != 'sincos':
        raise InputError(f'{weights.path} has a learned table of positions in its decoder')
      del arrays[f'{root}/pos_embed']
      fixed.add(f'{root}/pos_embed')
  rows = _rows(weights, prefix, local, why, sources, fixed)
  rows += _compare(config, decoder, arrays, sources, weights)
  report = Report(str(weights.path), name, prefix, rows, decoder, known)
  nested = {'encoder': {}, 'stats': {}} | trees.nest(arrays)
  return config, nested, report


def _rows(weights, prefix, local, why, sources, fixed):
  ours = {n if n in local else origin(n): p for p, names in sources.items() for n in names}
  by_file = {full: n for n, full in local.items()}
  rows = []
  for full, tensor in weights.tensors.items():
    n = by_file.get(full)
    if n is None:
      rows.append(Row(full, tensor.shape, 'skipped', f'not under {prefix!r}'))
    elif n in why:
      rows.append(Row(full, tensor.shape, 'skipped', why[n]))
    elif n not in ours:
      rows.append(Row(full, tensor.shape, 'wrong', 'it has no place in this layout'))
    else:
      note = ' (a fixed table, equal)' if ours[n] in fixed else ''
      rows.append(Row(full, tensor.shape, 'used', ours[n] + note))
  return rows


def _compare(config, decoder, arrays, sources, weights):
  """Rows of what the networks need and is not there, or has another shape."""
  wanted = {f'encoder/{p}': s for p, s in trees.shapes(config, arrays)[0].items()}
  wanted |= {f'stats/{p}': s for p, s in trees.shapes(config, arrays)[1].items()}
  if decoder:
    wanted |= {f'decoder/{p}': s for p, s in trees.decoder_shapes(config, decoder, arrays).items()}
  rows = []
  for path, shape in wanted.items():
    if path not in arrays:
      rows.append(Row(path, shape, 'missing', 'and the network needs it'))
    elif arrays[path].shape != shape:
      name = ', '.join(sources[path])
      rows.append(
        Row(name, arrays[path].shape, 'wrong', f'{path} has shape {list(arrays[path].shape)}, '
            f'wanted {list(shape)}')
      )  # fmt: skip
  for path in arrays.keys() - wanted.keys():
    name = ', '.join(sources[path])
    rows.append(Row(name, arrays[path].shape, 'wrong', f'{path} is not in this encoder'))
  return rows
