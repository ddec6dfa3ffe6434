"""The folder of one run: config.json, checkpoints/, metrics.jsonl, summary.json, report.html."""

import json
import os
import pathlib
import tempfile

from ml_collections import ConfigDict

from ssljax import config as configs
from ssljax.errors import InputError

# Fields that may differ between the run that saved and the run that goes on: they change where and
# how fast it runs and what is looked at, not what is learned. Data may be moved; checkpoints know
# its size.
FREE_FIELDS = (
  'checkpoint', 'checkpoint_every', 'compilation_cache', 'data.path', 'data.resident',
  'data.resident_bytes', 'data.workers', 'distributed', 'eval', 'eval_every', 'log_every', 'mesh',
  'report', 'tensorboard',
)  # fmt: skip

PROBE = '.ssljax-'  # begins the name of a file that says whether a folder can be written


def to_fields(config: ConfigDict) -> dict:
  """The config as it looks after a trip through JSON: plain dicts, lists and scalars.

  The path of the data is that from the root, so that the run can be opened from anywhere.
  """
  fields = json.loads(config.to_json_best_effort())
  if fields['data'].get('path'):
    fields['data']['path'] = os.path.abspath(fields['data']['path'])
  return fields


def _flat(tree: dict, prefix: str = '') -> dict:
  out = {}
  for key, value in tree.items():
    nested = _flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {prefix + key: value}
    out.update(nested)
  return out


def _horizon(fields: dict) -> list[str]:
  """The fields that go by how many steps there are in all; a run without one may be prolonged."""
  used = {
    'optim.schedule': fields['optim.schedule'] == 'cosine',
    'optim.weight_decay_final': fields['optim.weight_decay_final'] is not None,
    'method.total_steps': 'method.total_steps' in fields,
  }
  return [field for field, goes in used.items() if goes]


def refuse_other_config(where, saved: dict, fields: dict) -> None:
  """Raises InputError if a field that decides what is learned differs from the run's at `where`.

  An option that either does not have yet, being of an earlier version, has its default there.
  """
  old, new = (_flat(to_fields(configs.from_json(each))) for each in (saved, fields))
  horizon = _horizon(new)
  free = FREE_FIELDS if horizon else (*FREE_FIELDS, 'steps', 'epochs')
  differing = [
    f'{name} was {old.get(name, "absent")!r} and is now {new.get(name, "absent")!r}'
    for name in sorted({*old, *new})
    if old.get(name) != new.get(name)
    and not any(name == field or name.startswith(field + '.') for field in free)
  ]
  if differing:
    longer = any(line.startswith(('steps ', 'epochs ')) for line in differing)
    why = f' (the number of steps decides {" and ".join(horizon)})' if longer else ''
    raise InputError(
      f'{where} holds a run of another config: {"; ".join(differing)}{why}; give the old values, '
      'or another --workdir'
    )


def write_json(path: pathlib.Path, value) -> None:
  """Replaces the file in one move, so that no reader and no kill sees half of it."""
  partial = path.with_name(path.name + '.partial')
  partial.write_text(json.dumps(value, indent=2) + '\n')
  os.replace(partial, path)


def read_json(path: pathlib.Path):
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise InputError(f'{path} cannot be read as JSON: {error}') from error


def read_config(folder: pathlib.Path) -> dict:
  """The fields of the run in a folder."""
  path = folder / 'config.json'
  if not path.is_file():
    raise InputError(f'{folder} holds no run: there is no {path.name} in it')
  return read_json(path)


def path_of(name: str | os.PathLike) -> pathlib.Path:
  """The path of a --workdir; raises InputError for no name and for an address."""
  if not str(name) or '://' in str(name):
    raise InputError(
      f'--workdir is {str(name)!r}, wanted a folder on a file system that all processes share'
    )
  return pathlib.Path(name)


def check(folder: pathlib.Path, fields: dict, *, make: bool) -> None:
  """Makes sure that the folder is free for this run, or holds it; `make` on one process only.

  Raises InputError if it is a file, cannot be written, belongs to something else, or holds a run
  of another config.
  """
  try:
    if make:
      folder.mkdir(parents=True, exist_ok=True)
    names = (p.name for p in folder.iterdir()) if folder.is_dir() else ()
    inside = sorted(name for name in names if not name.startswith(PROBE))
    if 'config.json' in inside:
      refuse_other_config(folder, read_config(folder), fields)
    elif inside:
      raise InputError(
        f'{folder} holds {inside[0]} but no run of ssljax: wanted a new or empty --workdir'
      )
    if make:
      tempfile.TemporaryFile(prefix=PROBE, dir=folder).close()
  except OSError as error:
    raise InputError(f'--workdir {folder} cannot be written: {error.strerror}') from error
