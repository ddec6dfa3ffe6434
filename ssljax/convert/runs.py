"""The encoder that a run of ours has trained, to be written for others."""

import pathlib

from ssljax import config, restore, workdir
from ssljax.convert import trees, writing
from ssljax.errors import InputError


def is_run(folder: pathlib.Path) -> bool:
  return (folder / 'checkpoints').is_dir() and (folder / 'config.json').is_file()


def read(folder, part=None):
  """(encoder config, parameters, options of MAE's decoder) of the newest checkpoint.

  part: None for the network that was trained, or 'teacher', an average of it over time.
  """
  if part not in (None, 'student', 'teacher'):
    raise InputError(f'--part is {part!r}, wanted student or teacher of a run')
  saved, step = restore.read_arrays(folder)
  if step is None:
    raise InputError(f'{folder} has no checkpoint yet')
  found = {'encoder': {}, 'stats': {}}
  teacher = part == 'teacher'
  for name, x in saved.items():
    is_teacher = name.startswith('state/')
    if '/encoder/' not in name or name.startswith('opt_state/'):
      continue
    head, tail = name.split('/encoder/', 1)
    stats = head.split('/')[-1] == 'stats'
    inside = is_teacher and head != 'state/stats'
    if inside == teacher and (stats or head.split('/')[-1] == 'params'):
      found['stats' if stats else 'encoder'][tail] = x
  if not found['encoder']:
    raise InputError(f'{folder} has no {part or "student"} encoder in its checkpoint')
  run = config.from_json(workdir.read_config(folder))
  params = {name: trees.nest(flat) for name, flat in found.items()}
  decoder = {}
  if run.method.name == 'mae' and not teacher:
    start = 'params/decoder/'
    flat = {n.removeprefix(start): x for n, x in saved.items() if n.startswith(start)}
    params['decoder'] = trees.nest(flat)
    decoder = {**run.method.decoder, 'layer_norm_eps': 1e-6}
  return run.encoder, writing.unstack(params), decoder
