"""What a run would take: parameters, and XLA's own count of FLOPs and memory of one step."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from ssljax import config as configs
from ssljax import runtime, sharding, train
from ssljax.data import pipeline
from ssljax.program import example_batch, make_program


def figures(config: ConfigDict) -> dict:
  """Sizes in bytes and FLOPs per step, on each device; compiles the step and runs nothing."""
  runtime.use_compilation_cache(config.compilation_cache)
  mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
  sources, resident = train.open_data(config, mesh, print)
  source = sources['train']
  steps = configs.total_steps(config, len(source))
  source = pipeline.fitted(source, config, steps)
  program = make_program(config, mesh, source, steps=steps)
  split = NamedSharding(mesh, sharding.BATCH)
  if getattr(source, 'whole', False):
    split = sharding.replicated(mesh)
  spec = example_batch(source, config.batch_size, program.method.labels)
  batch = {
    name: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=split)
    for name, s in spec.items()
    if name not in resident
  }
  key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=sharding.replicated(mesh))
  compiled = program.step.lower(program.abstract, batch, resident, key).compile()
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis()

  def size(tree):
    return sum(
      x.dtype.itemsize * int(jnp.prod(jnp.array(x.sharding.shard_shape(x.shape))))
      for x in jax.tree.leaves(tree)
    )

  return {
    'examples': len(source),
    'data': 'on the devices' if resident else 'streamed',
    'steps': steps,
    'devices': mesh.size,
    'parameters': sum(x.size for x in jax.tree.leaves(program.abstract.params)),
    'parameter_bytes': size(program.abstract.params),
    'optimizer_bytes': size(program.abstract.opt_state),
    'method_state_bytes': size(program.abstract.state),
    'data_bytes': sum(x.nbytes for x in resident.values()),
    'step_temporary_bytes': memory.temp_size_in_bytes,
    'flops_per_step': cost.get('flops', 0.0),
  }


def show(config: ConfigDict) -> None:
  """Prints `figures`."""
  table = Table('per device', '', title=f'{config.method.name} on {config.data.name}, dry run')
  for name, value in figures(config).items():
    if name.endswith('_bytes'):
      value = f'{value / 2**20:,.1f} MiB'
    elif name == 'flops_per_step':
      value = f'{value / 1e9:,.1f} GFLOP'
    table.add_row(name.removesuffix('_bytes').replace('_', ' '), f'{value}')
  Console().print(table)
