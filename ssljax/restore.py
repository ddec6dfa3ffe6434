"""A finished or stopped run, opened again to be looked at."""

import pathlib
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from ssljax import checkpoint, config, data, runtime, sharding, workdir
from ssljax.errors import InputError
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
  mesh = sharding.make_mesh()
  with run_config.unlocked():
    run_config.batch_size = mesh.size * run_config.micro_batches  # nothing is trained here
  steps = config.total_steps(config.from_json(fields), len(sources['train']))
  program = make_program(run_config, mesh, sources['train'], steps=steps)
  with checkpoint.open_folder(
    folder / 'checkpoints', fields, versions=runtime.versions(), read_only=True
  ) as checkpoints:
    restored = checkpoints.restore(program.abstract)
  if restored is None:
    raise InputError(f'{folder} has no checkpoint yet')
  key = sharding.make_key(run_config.seed, mesh)
  return Run(config.from_json(fields), program, *restored, key, sources)
