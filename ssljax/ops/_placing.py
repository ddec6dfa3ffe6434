"""Where arrays of a step lie on the mesh."""

import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P


def split_rows(x):
  """Asks that the leading axis of x lies over all devices of the mesh in context, as batches do.

  For activations beside parameters that are split ('fsdp'): left to itself XLA may gather the
  batch on every device in place of a layer's parameters, above all inside a scan over layers.
  Without a mesh in context, inside `shard_map`, and where the devices do not divide the rows, x is
  left as it is.
  """
  mesh = jax.sharding.get_abstract_mesh()
  automatic = all(kind == AxisType.Auto for kind in mesh.axis_types)
  if mesh.empty or mesh.size == 1 or not automatic or x.shape[0] % mesh.size:
    return x
  return jax.lax.with_sharding_constraint(x, P(mesh.axis_names))
