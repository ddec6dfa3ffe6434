"""Dimensionality reduction of an array by a method on vectors, without files: `reduce`."""

from collections.abc import Callable

import jax
import numpy as np

from ssljax import config as configs
from ssljax import probing, sharding
from ssljax.data import pipeline, source
from ssljax.errors import InputError
from ssljax.program import make_program
from ssljax.train import refresh, refreshes


def reduce(x, dim: int = 32, *, method: str = 'tldr', preset: str = 'tiny', **fields) -> Callable:
  """Learns from x how to reduce vectors to `dim` numbers, and returns the function that does it.

    smaller = reduce(x, 32)(x)

  It trains in memory by the same step, in the same order of examples and to the same parameters as
  a run of the trainer with the same config.

  Args:
    x: [N, D], vectors.
    dim: of what comes out.
    method: of the modality 'vector'.
    preset: of the method's settings.
    **fields: of the config, by their dotted names with '__' for dots: epochs=50, batch_size=512,
      encoder__hidden=(512,), method__num_neighbors=10, seed=1.

  Returns:
    (vectors [M, D]) -> float32 [M, dim].

  Raises:
    InputError: x is not [N, D] of finite numbers, or a field cannot be as given.
  """
  config = configs.get_config(f'{method},npz,preset={preset}')
  config.data.resident = 'yes'  # whatever its size: it is in memory already
  for name, value in {'encoder__dim': dim, **fields}.items():
    _set(config, name, value)
  examples = _source(x)
  mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
  steps = configs.total_steps(config, len(examples))
  program = make_program(config, mesh, examples, steps=steps)
  key = sharding.make_key(config.seed, mesh)
  resident = sharding.put_replicated(examples.arrays, mesh)
  train_state = program.init(key)
  for step in range(1, steps + 1):
    if program.refresh is not None and refreshes(step, config, examples, program.method):
      train_state = refresh(program, train_state, examples, config, key, step)
    index = pipeline.index_batch(len(examples), config.batch_size, config.seed, step - 1)
    batch = sharding.put_batch(probing.share({'index': index}), mesh)
    train_state, metrics = program.step(train_state, batch, resident, key)
  loss = float(jax.device_get(metrics['loss']))
  if not np.isfinite(loss):
    raise InputError(f'reduce: the loss is {loss} at the last step, wanted a smaller learning rate')

  def smaller(vectors):
    rows = _source(vectors)
    if rows.arrays['x'].shape[1] != examples.arrays['x'].shape[1]:
      raise InputError(
        f'vectors have {rows.arrays["x"].shape[1]} numbers each, wanted '
        f'{examples.arrays["x"].shape[1]}, as those learned from'
      )
    size = config.eval.batch_size
    return probing.extract(program, train_state, rows, limit=len(rows), batch_size=size).x

  return smaller


def _set(config, name, value):
  *parts, field = name.split('__')
  for part in parts:
    config = config.get(part, {})
  if field not in config:
    raise InputError(
      f'{name} is no field of the config, wanted one, such as epochs or encoder__dim'
    )
  try:
    config[field] = value
  except TypeError as error:
    raise InputError(f'{name} is {value!r}, wanted a value such as {config[field]!r}') from error


def _source(x):
  x = np.asarray(x)
  if x.ndim != 2 or x.dtype.kind not in 'fiu':
    raise InputError(f'x is {x.dtype} of shape {x.shape}, wanted numbers [N, D]')
  return source.ArraySource({'x': source.check_vectors(x, 'x')})
