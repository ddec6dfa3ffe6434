"""The mesh, where every array of a train state lives on it, and placing batches."""

import re

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax.errors import InputError

# The batch is split over both axes: 'fsdp' devices also share the storage of parameters and
# optimizer moments.
BATCH = P(('data', 'fsdp'))

# First match wins, over paths such as 'params/encoder/stem/kernel' or 'state/queue'. Memories that
# every device reads
# whole stay whole: gathering a queue at each step costs more than keeping it.
RULES = ((r'^state/.*(queue|bank|center)', 'replicate'), (r'.*', 'fsdp'))


def make_mesh(data: int = -1, fsdp: int = 1, devices=None) -> Mesh:
  """A mesh of Auto axes 'data' x 'fsdp'; `data=-1` takes all devices that are left."""
  devices = jax.devices() if devices is None else devices
  if fsdp < 1 or (data < 1 and data != -1):
    raise InputError(
      f'mesh.data={data}, mesh.fsdp={fsdp}: wanted positive sizes, or -1 for mesh.data'
    )
  data = len(devices) // fsdp if data == -1 else data
  if not 0 < data * fsdp <= len(devices):
    raise InputError(
      f'mesh.data x mesh.fsdp is {data} x {fsdp}, but there are {len(devices)} devices'
    )
  if data * fsdp < len(devices) and jax.process_count() > 1:
    raise InputError(
      f'mesh.data x mesh.fsdp is {data} x {fsdp}: with several processes it must use '
      f'all {len(devices)} devices'
    )
  return jax.make_mesh(
    (data, fsdp),
    ('data', 'fsdp'),
    axis_types=(AxisType.Auto, AxisType.Auto),
    devices=devices[: data * fsdp],
  )


def path_name(path) -> str:
  """A pytree key path as 'params/encoder/stem/kernel'."""
  return '/'.join(str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k)))) for k in path)


def _largest_divisible(shape, parts: int, min_size: int) -> P:
  if parts == 1 or np.prod(shape, dtype=int) < min_size:
    return P()
  sizes = [(size, axis) for axis, size in enumerate(shape) if size % parts == 0]
  if not sizes:
    return P()
  _, axis = max(sizes)
  return P(*(None,) * axis, 'fsdp')


def state_shardings(abstract, mesh: Mesh, *, min_size: int = 2**16, rules=RULES):
  """A sharding for every array of a train state.

  abstract: the state as shapes (`jax.eval_shape`). Under rule 'fsdp' an array of at least
  `min_size` elements is split along its largest axis that the mesh's 'fsdp' size divides; optimizer
  moments have their parameter's shape and so follow it. `rules` are (regular expression over the
  path, 'fsdp' | 'replicate' | PartitionSpec), first match wins.
  """

  def sharding(path, x):
    name = path_name(path)
    rule = next(rule for pattern, rule in rules if re.search(pattern, name))
    if rule == 'fsdp':
      rule = _largest_divisible(x.shape, mesh.shape['fsdp'], min_size)
    elif rule == 'replicate':
      rule = P()
    return NamedSharding(mesh, rule)

  return jax.tree_util.tree_map_with_path(sharding, abstract)


def replicated(mesh: Mesh) -> NamedSharding:
  """Of an array that every device of the mesh has whole."""
  return NamedSharding(mesh, P())


def put_batch(batch, mesh: Mesh):
  """This process's rows of a batch (NumPy, leading axis) -> global arrays split over the mesh."""
  sharding = NamedSharding(mesh, BATCH)
  with jax.transfer_guard('allow'):  # this is the transfer that is meant
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def put_replicated(tree, mesh: Mesh):
  """The same host arrays on every device; every process must pass equal values."""
  sharding = replicated(mesh)

  def put(x):
    return jax.make_array_from_callback(np.shape(x), sharding, lambda i: np.asarray(x)[i])

  with jax.transfer_guard('allow'):  # this is the transfer that is meant
    return jax.tree.map(put, tree)


def put_like(x, old):
  """A host array with the sharding of `old`; every process must pass equal values."""
  return jax.make_array_from_callback(np.shape(x), old.sharding, lambda i: x[i])


def make_key(seed: int, mesh: Mesh):
  """The run's random key, on every device of the mesh."""
  return jax.jit(jax.random.key, static_argnums=0, out_shardings=replicated(mesh))(seed)


def to_host(tree):
  """Global arrays -> NumPy on every process, wherever their parts live."""
  if jax.process_count() > 1:  # over the run's own mesh, whose processes are connected already
    mesh = jax.tree.leaves(tree)[0].sharding.mesh
    tree = jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
  return jax.device_get(tree)
