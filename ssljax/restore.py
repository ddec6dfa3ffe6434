"""A finished or stopped run, opened again to be looked at or to begin another with."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ssljax import checkpoint, config, data, runtime, sharding, workdir
from ssljax.data import pipeline
from ssljax.errors import InputError
from ssljax.models import positions
from ssljax.program import Program, make_program


class Run(NamedTuple):
  """What a workdir holds: its config, its compiled functions and its newest state."""

  config: ConfigDict
  program: Program
  train_state: Any
  step: int
  key: jax.Array
  sources: dict[str, Any]


def open_run(folder: str | pathlib.Path) -> Run:
  """Restores the newest readable checkpoint on all devices of this machine.

  Raises InputError if the folder holds no run, or a run without a checkpoint.
  """
  folder = pathlib.Path(folder)
  fields = workdir.read_config(folder)
  run_config = config.from_json(fields)
  runtime.use_compilation_cache(run_config.compilation_cache)
  sources = {split: data.load(run_config.data, split) for split in ('train', 'test')}
  if hasattr(sources['train'], 'collate'):  # graphs: their packs may not go around all devices
    mesh = sharding.make_mesh(1)
    sources['train'] = pipeline.fitted(sources['train'], run_config, steps=1)
  else:
    mesh = sharding.make_mesh()
    with run_config.unlocked():
      run_config.batch_size = mesh.size * run_config.micro_batches  # nothing is trained here
  with checkpoint.open_folder(
    folder / 'checkpoints', fields, versions=runtime.versions(), read_only=True
  ) as checkpoints:
    # Training left out what it could not read, which the sources here still count.
    examples = checkpoints.examples() or len(sources['train'])
    steps = config.total_steps(config.from_json(fields), examples)
    program = make_program(run_config, mesh, sources['train'], steps=steps, num_examples=examples)
    restored = checkpoints.restore(program.abstract)
  if restored is None:
    raise InputError(f'{folder} has no checkpoint yet')
  key = sharding.make_key(run_config.seed, mesh)
  return Run(config.from_json(fields), program, *restored, key, sources)


def read_arrays(folder: pathlib.Path) -> tuple[dict[str, np.ndarray], int | None]:
  """({path: array}, step) of a run's newest readable checkpoint, whatever made it; ({}, None) of a
  run without one. Raises InputError if the folder holds no run."""
  fields = workdir.read_config(folder)
  with checkpoint.open_folder(
    folder / 'checkpoints', fields, versions=runtime.versions(), read_only=True
  ) as checkpoints:
    state, step = checkpoints.restore(None) or ({}, None)
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {sharding.path_name(path): np.asarray(x) for path, x in leaves}, step


def start_from(folder: str | pathlib.Path, parts, train_state, say=print, *, encoder=None):
  """The train state with the `parts` that the newest checkpoint of another run has.

  parts: names such as 'encoder'. An array at '.../encoder/tail' of the parameters or the state, a
    teacher's and its batch statistics too, becomes the array at that very path of the other run, or
    else the one at 'params/encoder/tail' or 'state/stats/encoder/tail'. A ViT's learned positions
    are resized where the images have another size.

  folder: or 'hf:' and a file or folder of weights, see `ssljax.convert`; `encoder` is then this
    run's encoder config, which they must fit.

  Raises InputError if the folder holds no run, or one without these parts or with other shapes.
  """
  if str(folder).startswith('hf:'):
    from ssljax import convert

    return convert.start_from(str(folder).removeprefix('hf:'), parts, train_state, encoder, say)
  folder = pathlib.Path(folder)
  saved, step = read_arrays(folder)
  if step is None:
    raise InputError(f'init_from is {folder}, and it has no checkpoint yet')
  taken = []

  def take(path, old):
    name = sharding.path_name(path)
    part = next((p for p in parts if f'/{p}/' in f'/{name}/'), None)
    if part is None or not name.startswith(('params/', 'state/')):
      return old
    tail = f'/{name}'.rsplit(f'/{part}/', 1)[-1]
    places = (name, f'params/{part}/{tail}', f'state/stats/{part}/{tail}')
    found = next((saved[place] for place in places if place in saved), None)
    if found is None:
      raise InputError(f'init_from is {folder}, and its run has no {name}: wanted the same {part}')
    if name.endswith('/pos_embed') and found.shape != old.shape:
      found = np.asarray(positions.resize_table(found, len(old)))
    if found.shape != old.shape:
      raise InputError(
        f'init_from is {folder}, where {name} has shape {list(found.shape)}, '
        f'wanted {list(old.shape)}'
      )
    taken.append(name)
    return sharding.put_like(found.astype(old.dtype), old)

  train_state = jax.tree_util.tree_map_with_path(take, train_state)
  for part in parts:
    if not any(f'/{part}/' in f'/{name}/' for name in taken):
      raise InputError(f'init_parts has {part!r}, which this method does not have')
  say(f'{len(taken)} arrays of {", ".join(parts)} from step {step} of {folder}')
  return train_state
