"""What one config compiles to on one mesh: the functions that train, evaluate and dry_run share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from ssljax import methods, models, optim, sharding
from ssljax.data import pipeline
from ssljax.errors import InputError
from ssljax.method import Method, make_init, make_train_step

DTYPES = ('float32', 'bfloat16')
KEYS = {'image': 'image', 'vector': 'x'}  # where an example has what a modality works on
SELECT = 2  # of the streams of random numbers of a step; `make_train_step` takes 0 and 1


class Program(NamedTuple):
  """abstract: the train state as ShapeDtypeStructs with their shardings.
  init:        key -> TrainState.
  step:        (train_state, batch, resident, key) -> (train_state, metrics); the state is donated.
  embed:       (params, state, batch) -> {name: [B, D]}, on every device.
  embed_views: (params, state, batch, key) -> [B, V, D], or None.
  refresh:     (params, state, features, key) -> state, or None.
  inputs:      names of the arrays that `embed` needs in a batch.
  """

  method: Method
  mesh: Mesh
  abstract: Any
  init: Callable
  step: Callable
  embed: Callable
  embed_views: Callable | None
  refresh: Callable | None
  inputs: tuple[str, ...]


def make_method(
  config: ConfigDict, *, steps: int, num_examples: int, num_classes: int = 0
) -> Method:
  """The method with its networks; fills in the run's facts that its config asks for by name."""
  settings = config.method.copy_and_resolve_references()
  facts = {'total_steps': steps, 'num_examples': num_examples, 'num_classes': num_classes}
  for field, value in facts.items():
    if field in settings and (value or settings[field] is None):
      settings[field] = value
  if config.compute_dtype not in DTYPES:
    raise InputError(
      f'compute_dtype is {config.compute_dtype!r}, wanted one of {", ".join(DTYPES)}'
    )
  encoder = models.make(
    config.encoder.copy_and_resolve_references(), dtype=jnp.dtype(config.compute_dtype)
  )
  return methods.load(settings.name).make(settings, {'encoder': encoder})


def example_batch(source, rows: int, labels: bool = False) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes of a batch as training gets it: labels are for evaluators unless asked for."""
  if hasattr(source, 'collate'):
    whole = pipeline.inputs(source.example(rows), labels)
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in whole.items()}
  batch = {
    name: jax.ShapeDtypeStruct((rows, *value.shape), value.dtype)
    for name, value in pipeline.inputs(source[0], labels).items()
  }
  return batch | {'index': jax.ShapeDtypeStruct((rows,), jnp.int32)}


def gather(batch, resident, chosen=None):
  """Adds the rows of device-resident arrays that 'index' names, and those of chosen partners."""
  chosen = chosen or {}
  batch = {**batch, 'index': chosen.get('index', batch['index'])}
  rows = {name: array[batch['index']] for name, array in resident.items()}
  for partner, index in chosen.items():
    if partner != 'index':
      rows |= {f'{partner}_{name}': array[index] for name, array in resident.items()}
      rows[f'{partner}_index'] = index
  return batch | rows


def with_own_partners(method: Method, batch):
  """A batch for looking at a method that selects partners: each example is its own."""
  own = {f'{p}_{name}': array for p in method.partners for name, array in batch.items()}
  return batch | own


def check_modality(config: ConfigDict, source) -> None:
  """Raises InputError if data, method and encoder are not of one modality."""
  check_level(config, source)
  name, encoder = config.method.name, config.encoder.name
  wanted, takes = methods.available()[name], models.modalities(encoder)
  if not hasattr(source, 'collate') and KEYS.get(wanted) not in source[0]:
    found = next(m for m, key in KEYS.items() if key in source[0])
    raise InputError(f'data {config.data.name} has {found}s, and method {name} wants {wanted}s')
  if wanted not in takes:
    raise InputError(
      f'encoder {encoder} is for {" and ".join(f"{m}s" for m in takes)}, and method {name} wants '
      f'one for {wanted}s'
    )


def check_level(config: ConfigDict, source) -> None:
  """Raises InputError if the method is not for what the data has: images, nodes, graphs."""
  name, wanted = config.method.name, getattr(methods.load(config.method.name), 'LEVEL', None)
  level = getattr(source, 'level', None)
  if wanted is None and level is None:
    return
  wanted = wanted and tuple(w for w in wanted if w == config.method.get('level', w))
  if wanted is None or level not in wanted:
    kinds = {
      'node': 'one graph, its nodes the examples',
      'graph': 'a set of graphs',
      None: 'no graph',
    }
    asked = ' or '.join(kinds[w] for w in wanted) if wanted else 'no graphs'
    raise InputError(f'data {config.data.name} is {kinds[level]}, and method {name} wants {asked}')


def check_needs(method: Method, config: ConfigDict, source) -> None:
  """Raises InputError if the data lacks what the method asks of it."""
  if method.labels and 'label' not in source[0]:
    raise InputError(
      f'method {config.method.name} learns from labels, and data {config.data.name} has none'
    )
  if method.select is not None and not pipeline.fits(source, config.data):
    raise InputError(
      f'method {config.method.name} chooses its examples, which needs them on the devices: wanted '
      'data.resident=yes'
    )


def check_packs(source, config: ConfigDict, devices: int) -> None:
  """Raises InputError if batches of graphs cannot be dealt to devices and micro-batches."""
  if source.whole:
    if config.batch_size != len(source) or config.micro_batches > 1:
      raise InputError(
        f'batch_size is {config.batch_size} and micro_batches {config.micro_batches}, wanted '
        f'{len(source)} and 1: a batch is the whole graph'
      )
  elif source.packs % (devices * config.micro_batches) or config.batch_size % source.packs:
    raise InputError(
      f'data.packs is {source.packs}, wanted a multiple of {devices} devices x '
      f'{config.micro_batches} micro_batches that divides batch_size {config.batch_size}'
    )


def make_program(
  config: ConfigDict, mesh: Mesh, source, *, steps: int, num_examples: int = 0
) -> Program:
  """Compiles nothing yet; every function is jitted with the shardings of the mesh.

  num_examples: of the run, where it trained on fewer than the source has; 0 for all of them.
  """
  check_modality(config, source)
  devices, whole_batch = mesh.size, getattr(source, 'whole', False)
  if hasattr(source, 'collate'):
    check_packs(source, config, devices)
  elif config.batch_size % (devices * config.micro_batches):
    raise InputError(
      f'batch_size is {config.batch_size}, wanted a multiple of {devices} devices x '
      f'{config.micro_batches} micro_batches'
    )
  label = getattr(source, 'label', None)
  method = make_method(
    config,
    steps=steps,
    num_examples=num_examples or len(source),
    num_classes=0 if label is None else int(label.max()) + 1,
  )
  check_needs(method, config, source)
  tx = optim.make(
    config.optim,
    total_steps=steps,
    batch_size=config.batch_size,
    frozen=method.frozen,
    held=method.held,
  )
  example = example_batch(source, rows=2, labels=method.labels)
  spec = with_own_partners(method, example)

  def init(key):
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), spec)
    return make_init(method, tx)(key, zeros)

  shapes = jax.eval_shape(init, jax.random.key(0))
  shardings = sharding.state_shardings(shapes, mesh, min_size=config.mesh.fsdp_min_size)
  whole, split = sharding.replicated(mesh), NamedSharding(mesh, sharding.BATCH)
  train_step = make_train_step(method, tx, micro_batches=config.micro_batches)

  def step(train_state, batch, resident, key):
    chosen = None
    if method.select is not None:
      rng = jax.random.fold_in(jax.random.fold_in(key, train_state.step), SELECT)
      chosen = method.select(train_state.state, batch['index'], rng)
    kept = pipeline.inputs(resident, method.labels)
    batch = gather(batch, kept, chosen)
    batch = jax.lax.with_sharding_constraint(batch, whole if whole_batch else split)
    return train_step(train_state, batch, key)

  def on_mesh(function):
    """The function, with the mesh in context for `ops.split_rows`."""

    def placed(*arrays):
      with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return function(*arrays)

    return placed

  return Program(
    method=method,
    mesh=mesh,
    abstract=jax.tree.map(
      lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings
    ),
    init=jax.jit(init, out_shardings=shardings, compiler_options=_compile_fast(mesh)),
    step=jax.jit(on_mesh(step), donate_argnums=0, out_shardings=(shardings, whole)),
    embed=jax.jit(on_mesh(method.embed), out_shardings=whole),
    embed_views=method.embed_views and jax.jit(on_mesh(method.embed_views), out_shardings=whole),
    refresh=method.refresh and jax.jit(method.refresh, out_shardings=shardings.state),
    inputs=tuple(name for name in example if name not in ('index', 'label')),
  )


def _compile_fast(mesh: Mesh) -> dict:
  """Compiler options for what runs once: on CPU, optimizing the draws of parameters takes longer
  than all the rest of starting a run."""
  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  return {'xla_backend_optimization_level': 0} if on_cpu else {}
