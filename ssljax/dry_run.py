"""What a run would take: parameters, FLOPs of one step, and XLA's own count of its memory."""

import math

import jax
from jax.sharding import NamedSharding
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from ssljax import config as configs
from ssljax import data, flops, runtime, sharding
from ssljax.data import pipeline
from ssljax.program import example_batch, make_program

# A CPU's programs are put in order for speed, and sum all gradients over the devices at once, with
# each of them whole until then. Accelerators' are in order for memory, and sum a few at a time.
AS_ACCELERATORS = {
  'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED',
  'xla_disable_hlo_passes': 'cpu-all-reduce-combiner',
}


def figures(config: ConfigDict, *, made: bool = False) -> dict:
  """Sizes in bytes and FLOPs per step, on each device; compiles the step and runs nothing.

  Of the examples only the first is read, and all are counted as ones that can be.

  made: the devices are those of `make_devices`, which stand for accelerators: convolutions and
  attention are counted in the forms that a TPU gets, not in those that are fast on a CPU, and in
  an order for memory. (A GPU's own attention in half precision holds less.)

  total_bytes: of parameters, moments, method's state, data kept there and what a step needs
  besides. unsplit_parameter_bytes: of parameters that mesh.fsdp was to split and does not, as it
  divides none of their axes. flops_per_step: of matrix products and convolutions, see
  `flops.count`.
  """
  runtime.use_compilation_cache(config.compilation_cache)
  mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
  source, everywhere = data.load(config.data, 'train'), sharding.replicated(mesh)
  resident = {}
  if pipeline.fits(source, config.data):
    resident = {
      name: jax.ShapeDtypeStruct((len(source), *x.shape), x.dtype, sharding=everywhere)
      for name, x in source[0].items()
    }
  steps = configs.total_steps(config, len(source))
  source = pipeline.fitted(source, config, steps)
  program = make_program(config, mesh, source, steps=steps)
  split = NamedSharding(mesh, sharding.BATCH)
  if getattr(source, 'whole', False):
    split = everywhere
  spec = example_batch(source, config.batch_size, program.method.labels)
  batch = {
    name: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=split)
    for name, s in spec.items()
    if name not in resident
  }
  key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=everywhere)
  traced = program.step.trace(program.abstract, batch, resident, key)
  lowered = traced.lower(lowering_platforms=('tpu',)) if made else traced.lower()
  memory = lowered.compile(AS_ACCELERATORS if made else None).memory_analysis()

  def size(tree):
    return sum(
      x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree)
    )

  held = {
    'parameter_bytes': size(program.abstract.params),
    'optimizer_bytes': size(program.abstract.opt_state),
    'method_state_bytes': size(program.abstract.state),
    'data_bytes': size(resident),
    'step_temporary_bytes': memory.temp_size_in_bytes,
  }
  return {
    'examples': len(source),
    'data': 'on the devices' if resident else 'streamed',
    'steps': steps,
    'devices': mesh.size,
    'parameters': sum(x.size for x in jax.tree.leaves(program.abstract.params)),
    **held,
    'total_bytes': sum(held.values()),
    'unsplit_parameter_bytes': size(unsplit(program.abstract.params, config.mesh)),
    'flops_per_step': flops.count(traced.jaxpr.jaxpr) / mesh.size,
  }


def unsplit(params, mesh: ConfigDict) -> list:
  """Those of the parameters, as shapes on a mesh, that mesh.fsdp divides along no axis."""
  return [
    x for x in jax.tree.leaves(params)
    if mesh.fsdp > 1 and x.size >= mesh.fsdp_min_size and x.sharding.is_fully_replicated
  ]  # fmt: skip


def make_devices(count: int) -> None:
  """As if there were so many devices, on CPU; before anything has touched one."""
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', count)


def show(config: ConfigDict, device_gib: float, *, devices: int = 0) -> None:
  """Prints `figures`, and whether devices of so much memory can hold it.

  devices: how many to make, see `make_devices`; 0 for those there are.
  """
  if devices:
    make_devices(devices)
  found = figures(config, made=devices > 0)
  table = Table('per device', '', title=f'{config.method.name} on {config.data.name}, dry run')
  for name, value in found.items():
    if name.endswith('_bytes'):
      value = f'{value / 2**20:,.1f} MiB'
    elif name == 'flops_per_step':
      value = f'{value / 1e9:,.1f} GFLOP'
    table.add_row(name.removesuffix('_bytes').replace('_', ' '), f'{value}')
  Console().print(table)
  needed = found['total_bytes'] / 2**30
  whole = found['unsplit_parameter_bytes']
  if whole > found['parameter_bytes'] / 10:
    print(
      f'{whole / 2**20:,.1f} MiB of the parameters are whole on each device: mesh.fsdp is '
      f'{config.mesh.fsdp}, which divides no axis of them'
    )
  suffices = 'suffices' if needed <= device_gib else 'does not suffice'
  print(f'{needed:.1f} GiB a device: {device_gib:g} GiB {suffices}')
