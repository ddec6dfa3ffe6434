"""A run that begins with weights of another library: --config.init_from=hf:FOLDER_OR_FILE."""

import jax
import numpy as np

from ssljax import sharding
from ssljax.convert import files, reading, trees, writing
from ssljax.errors import InputError
from ssljax.models.positions import resize_positions

# What changes the function without changing a shape, as far as a file says it.
SAME = ('heads', 'layer_norm_eps', 'rope_base')
# What the arrays say, and shapes alone might not.
ARRAYS = (
  'patch_size', 'positions', 'class_token', 'registers', 'mlp', 'qkv_bias', 'qk_norm', 'block',
  'stem',
)  # fmt: skip


def start_from(path, parts, train_state, encoder, say=print):
  """The train state with the `parts` that the file has, in students and teachers alike.

  encoder: the run's encoder config. A learned table of positions is resized to its image_size as
  the source library does it.

  Raises InputError unless every array of the parts is in the file and every option is the same.
  """
  config, params, report = reading.convert(files.read(path))
  report.check()
  _same(path, config, encoder, report)
  if encoder.get('positions') == 'learned' and encoder.image_size != config.image_size:
    params['encoder']['pos_embed'] = _resized(params['encoder']['pos_embed'], config, encoder)
  if not encoder.get('mask_token', True):
    params['encoder'].pop('mask_token', None)  # of patches that this method does not hide
  if encoder.get('scan', False):
    params['encoder'] = writing.stack(params['encoder'])
  stats = params.pop('stats')
  flat = {f'params/{p}': x for p, x in trees.flat(params).items()}
  flat |= {f'stats/encoder/{p}': x for p, x in trees.flat(stats).items()}
  for part in parts:
    if part not in params:
      raise InputError(f'init_parts has {part!r}, which {path} does not have')
  taken = set()

  def take(key_path, old):
    name = sharding.path_name(key_path)
    part = next((p for p in parts if f'/{p}/' in f'/{name}/'), None)
    if part is None or not name.startswith(('params/', 'state/')):
      return old
    tail = f'/{name}'.rsplit(f'/{part}/', 1)[-1]
    places = (f'params/{part}/{tail}', f'stats/{part}/{tail}')
    place = next((p for p in places if p in flat), None)
    if place is None:
      raise InputError(f'init_from is hf:{path}, and it has nothing for {name}')
    new = flat[place]
    if new.shape != old.shape:
      raise InputError(
        f'init_from is hf:{path}, where {name} has shape {list(new.shape)}, '
        f'wanted {list(old.shape)}'
      )
    taken.add(place)
    return sharding.put_like(np.asarray(new.astype(old.dtype)), old)

  train_state = jax.tree_util.tree_map_with_path(take, train_state)
  for part in parts:
    mine = {p for p in flat if p.startswith((f'params/{part}/', f'stats/{part}/'))}
    if not mine & taken:
      raise InputError(f'init_parts has {part!r}, which this method does not have')
    if mine - taken:
      raise InputError(f'hf:{path} has {sorted(mine - taken)[0]}, which this encoder does not have')
  say(
    f'{len(taken)} arrays of {", ".join(parts)} from {path} in layout {report.layout}: '
    f'{report.count("used")} tensors used, {report.count("skipped")} skipped'
  )
  for row in report.rows:
    if row.status == 'skipped':
      say(f'skipped {row.name} {list(row.shape)}: {row.ours}')
  return train_state


def _same(path, config, encoder, report):
  for field in (*ARRAYS, *(f for f in SAME if f in report.known)):
    if field in config and config[field] != encoder.get(field):
      raise InputError(
        f'init_from is hf:{path}, whose encoder has {field} {config[field]!r}, wanted '
        f'{encoder.get(field)!r} as in this run (--config.encoder.{field} changes it)'
      )


def _resized(table, config, encoder):
  extra = int(config.class_token)
  old, new = ((c.image_size // c.patch_size,) * 2 for c in (config, encoder))
  patches = resize_positions(
    table[extra:],
    old,
    new,
    offset=config.position_offset,
    antialias=config.position_antialias,
  )
  return np.concatenate([table[:extra], np.asarray(patches)])
