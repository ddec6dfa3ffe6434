"""Tensors of a file that torch.save wrote, without torch and without running what is in it.

Such a file is a zip archive: a pickle that says which tensors there are, and their bytes. The
pickle may name a few constructors of tensors and nothing else; here they make descriptions.
"""

import collections
import pathlib
import pickle
import zipfile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from ssljax.errors import InputError

STORAGES = {
  'FloatStorage': np.float32,
  'DoubleStorage': np.float64,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}


class Storage(NamedTuple):
  key: str
  dtype: type
  size: int


class Tensor(NamedTuple):
  """A view of a storage, as the pickle describes it; `read_tensor` checks it."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _tensor(storage, offset, shape, strides, *_):
  return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor, *_):
  return tensor


ALLOWED = {
  ('collections', 'OrderedDict'): collections.OrderedDict,
  ('torch._utils', '_rebuild_tensor_v2'): _tensor,
  ('torch._utils', '_rebuild_parameter'): _parameter,
  ('torch', 'Size'): tuple,
  **{('torch', name): dtype for name, dtype in STORAGES.items()},
}


class _Refused(Exception):
  """The pickle names something that is no part of a tensor."""


class _Unpickler(pickle.Unpickler):
  def find_class(self, module, name):
    if (module, name) not in ALLOWED:
      raise _Refused(f'{module}.{name}')
    return ALLOWED[module, name]

  def persistent_load(self, saved):
    kind, dtype, key, _, size = saved
    if kind != 'storage':
      raise _Refused(f'a {kind!r}')
    return Storage(str(key), dtype, size)


def open_zip(path: pathlib.Path):
  """(What was saved, its tensors as `Tensor`; a function from such a description to its array).

  Raises InputError for the format of torch before 1.6, a damaged file, and a pickle that holds
  anything but dicts, lists, numbers, strings and tensors.
  """
  with path.open('rb') as file:
    start = file.read(4)
  if start != b'PK\x03\x04':
    old = 'a bare pickle, as torch wrote before 1.6' if start[:1] == b'\x80' else 'no zip file'
    raise InputError(f'{path} is {old}: wanted a zip file of torch.save, or safetensors')
  try:
    archive = zipfile.ZipFile(path)
    name = next((n for n in archive.namelist() if n.endswith('/data.pkl')), None)
    if name is None:
      raise InputError(f'{path} has no data.pkl inside, wanted a zip file of torch.save')
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
      raise InputError(f'{path} is compressed, wanted a file as torch.save writes it')
    root = name.removesuffix('data.pkl')
    order = root + 'byteorder'
    if order in archive.namelist() and archive.read(order) != b'little':
      raise InputError(f'{path} has big-endian numbers, wanted little-endian ones')
    with archive.open(name) as file:
      tree = _Unpickler(file).load()
  except _Refused as error:
    raise InputError(
      f'{path} has {error} in its pickle, which could run code: wanted tensors only, for example '
      'the state_dict saved by itself'
    ) from None
  except InputError:
    raise
  except Exception as error:  # a pickle can fail in any way there is
    raise InputError(
      f'{path} is damaged or cut off ({_line(error)}): wanted a whole file'
    ) from None
  return tree, lambda tensor: _read_tensor(path, archive, root, tensor)


def _read_tensor(path, archive, root, tensor):
  storage, offset, shape, strides = tensor
  try:
    data = archive.read(f'{root}data/{storage.key}')
    values = np.frombuffer(data, storage.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 in shape:
      return np.zeros(shape, values.dtype)
    if min((offset, *shape, *strides)) < 0 or last >= len(values):
      raise ValueError(f'a tensor of shape {list(shape)} exceeds its storage')
    steps = [s * values.itemsize for s in strides]
    return np.array(np.lib.stride_tricks.as_strided(values[offset:], shape, steps))
  except Exception as error:
    raise InputError(
      f'{path} is damaged or cut off ({_line(error)}): wanted a whole file'
    ) from None


def _line(error):
  text = str(error).strip()
  return text.splitlines()[0].rstrip('.') if text else type(error).__name__
