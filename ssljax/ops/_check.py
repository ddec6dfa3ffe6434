"""Shapes and dtypes of arguments."""

import jax.numpy as jnp

from ssljax.errors import InputError


def check_shape(name, array, wanted):
  """Refuses an array of another shape than the one wanted.

  Args:
    name: what the caller calls the argument; the message begins with it.
    array: the argument.
    wanted: a tuple with an int for a fixed size and a letter for a free one: `(8, 'D')`, or another
      array's shape.

  Raises:
    InputError: 'z2 has shape (8, 32), wanted (8, 64)'.
  """
  shape = jnp.shape(array)
  fits = len(shape) == len(wanted) and all(
    isinstance(size, str) or size == seen for seen, size in zip(shape, wanted, strict=True)
  )
  if not fits:
    raise InputError(f'{name} has shape {_show(shape)}, wanted {_show(wanted)}')


def as_float(x):
  """The array as float32, or as float64 if it is that: bfloat16 has too few digits for a loss."""
  return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def _show(shape):
  return '(' + ', '.join(str(size) for size in shape) + ')'
