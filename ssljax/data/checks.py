"""What is asked of the arrays that a graph is made of; each returns the array or raises InputError.

name: of the array, where: of the file or graph that has it, for messages.
"""

import numpy as np

from ssljax.errors import InputError


def numbers(array, shape, *, name: str, where: str, kinds: str = 'iu') -> np.ndarray:
  """An array of this shape, with letters for free lengths, and of dtypes of these kinds."""
  words = 'whole numbers' if 'f' not in kinds else 'numbers'
  wanted = f'wanted {words} [{", ".join(map(str, shape))}]'
  if array is None:
    raise InputError(f'{where} has no {name}, {wanted}')
  array = np.asarray(array)
  fits = array.ndim == len(shape) and all(
    isinstance(size, str) or size == seen for seen, size in zip(array.shape, shape, strict=True)
  )
  if not fits or array.dtype.kind not in kinds:
    raise InputError(f'{where}: {name} is {array.dtype} {list(array.shape)}, {wanted}')
  return array


def edges(array, num_nodes: int, *, where: str) -> np.ndarray:
  """Integers [E, 2] from 0 to num_nodes - 1; E may be 0."""
  if np.size(array) == 0:
    array = np.zeros((0, 2), np.int32)
  array = numbers(array, ('E', 2), name='edges', where=where)
  bad = np.flatnonzero(((array < 0) | (array >= num_nodes)).any(1))
  if bad.size:
    raise InputError(
      f'{where}: edge {bad[0]} joins {array[bad[0]].tolist()}, wanted nodes from 0 to '
      f'{num_nodes - 1}'
    )
  return array


def offsets(array, end: int | None = None, *, name: str, where: str) -> np.ndarray:
  """int64 [G + 1]: where each of G parts begins, from 0 on, and where the last ends."""
  array = numbers(array, ('G + 1',), name=name, where=where).astype(np.int64)
  rises = len(array) > 0 and array[0] == 0 and (np.diff(array) >= 0).all()
  if not rises or end not in (None, array[-1]):
    raise InputError(f'{where}: {name} does not rise from 0' + (f' to {end}' if end else ''))
  return array


def features(x, num_nodes: int | str, *, where: str) -> np.ndarray:
  """Finite numbers [num_nodes, F]."""
  x = numbers(x, (num_nodes, 'F'), name='x', where=where, kinds='fiub')
  if not x.shape[1]:
    raise InputError(f'{where}: x has shape {list(x.shape)}, wanted a feature of each node')
  with np.errstate(over='ignore'):
    bad = np.flatnonzero(~np.isfinite(x.astype(np.float32, copy=False)).all(1))
  if bad.size:
    raise InputError(f'{where}: x of node {bad[0]} is NaN or infinite, wanted finite numbers')
  return x
