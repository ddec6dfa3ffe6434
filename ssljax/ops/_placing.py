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
  axes = _axes_of_rows(x)
  return jax.lax.with_sharding_constraint(x, P(axes)) if axes else x


def map_rows(function, x, *others):
  """function(x, *others), which treats each row of x alike: every device its own rows.

  For operations that XLA does not split by itself but does whole on every device, such as
  convolutions in groups. Each device needs `others` whole. Where `split_rows` leaves x as it is,
  this is a plain call.
  """
  axes = _axes_of_rows(x)
  if axes:
    specs = (P(axes), *(P() for _ in others))
    function = jax.shard_map(function, in_specs=specs, out_specs=P(axes))
  return function(x, *others)


def _axes_of_rows(x):
  """Names of the axes of the mesh over which the rows of x are to lie; () for none."""
  mesh = jax.sharding.get_abstract_mesh()
  automatic = all(kind == AxisType.Auto for kind in mesh.axis_types)
  if mesh.empty or mesh.size == 1 or not automatic or x.shape[0] % mesh.size:
    return ()
  return mesh.axis_names
