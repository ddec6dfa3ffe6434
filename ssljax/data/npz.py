"""Arrays in an .npz file, or images or vectors in an .npy file.

An .npz has images under `train_x` (or `x_train`, `train_images`, `x`, `images`, `image`) and, if
there are labels, `train_y` (or `y_train`, `train_labels`, `y`, `labels`, `label`); the same with
`test`, or else `val`, is the test split. A file with a single array holds images. They are uint8
[N, H, W] or [N, H, W, C]; floats from 0 to 1 are rounded to 8 bits. Numbers [N, D] are vectors,
taken as float32. `classes` names the labels.

Images may also be kept as files: `train_jpeg` (or `jpeg`), the bytes of all of them one after
another, uint8, and `train_offsets` [N + 1], where each begins. Nothing pickled is ever loaded.
"""

import contextlib
import functools
import itertools
import pathlib
import zipfile
import zlib

import numpy as np
from ml_collections import ConfigDict

from ssljax.data import images, source
from ssljax.errors import InputError

IMAGE, LABEL = ('x', 'images', 'image'), ('y', 'labels', 'label')


def get_config(name: str = 'npz') -> ConfigDict:
  """`path` of the file; images keep the size and channels they have unless told otherwise."""
  return source.base_config(name, path='')


def load(config: ConfigDict, split: str) -> source.Source | None:
  """A split in memory; images kept as files are decoded when they are read."""
  path = pathlib.Path(config.path)
  if path.suffix not in ('.npz', '.npy'):
    raise InputError(f'data.path is {config.path!r}, wanted an .npz or .npy file')
  if not path.is_file():
    raise InputError(f'data.path is {config.path}, and there is no such file')
  try:
    with path.open('rb') as opened, opened_arrays(opened, path) as file:
      return _split(config, file, path, split)
  except OSError as error:
    raise InputError(f'{path} cannot be read: {error.strerror}') from error


@contextlib.contextmanager
def opened_arrays(opened, path):
  """Yields {key: array}, read when asked for, of an open .npz, or {'x': array} of an .npy.

  Raises InputError if it is neither, or holds pickles.
  """
  try:
    loaded = np.load(opened, allow_pickle=False)
  except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
    raise _unusable(path, error) from error
  if isinstance(loaded, np.ndarray):
    yield {'x': loaded}
  else:
    with loaded:
      yield loaded


def _split(config, file, path, split):
  for alias in ('train', '') if split == 'train' else ('test', 'val'):
    names = functools.partial(_first, file, alias)
    if pool := names(('jpeg',)):
      return _pool(config, file, path, pool, names(('offsets',)), names(LABEL))
    if image := names(IMAGE):
      return _arrays(config, file, path, image, names(LABEL))
  if split == 'test':
    return None
  if len(file) == 1:
    return _arrays(config, file, path, next(iter(file)), None)
  raise InputError(f'{path} has {", ".join(file) or "nothing"}: wanted train_x, or x')


def _first(file, alias: str, names) -> str | None:
  """The first key that is one of `names`, with the split's alias before or after it."""
  spelt = [s for n in names for s in ((f'{alias}_{n}', f'{n}_{alias}') if alias else (n,))]
  return next((s for s in spelt if s in file), None)


def array(file, path, key) -> np.ndarray:
  """One of those; raises InputError if it is damaged or pickled."""
  try:
    return file[key]
  except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
    raise _unusable(f'{path}: {key}', error) from error


def _unusable(where, error) -> InputError:
  if 'Object arrays' in str(error):
    return InputError(f'{where} holds pickled objects, wanted plain arrays of numbers')
  return InputError(f'{where} cannot be read: it is damaged or is no NumPy file')


def _arrays(config, file, path, image, label) -> source.ArraySource:
  x = array(file, path, image)
  if x.ndim == 2 and x.dtype.kind in 'fiu':
    labels, classes = _labels(file, path, label, len(x))
    x = source.check_vectors(x, f'{path}: {image}')
    return source.ArraySource({'x': x, **labels}, classes)
  x = source.check_images(x, f'{path}: {image}')
  fit = functools.partial(
    images.fit, size=images.square(config.image_size), channels=config.channels
  )
  if fit(x[0]).shape != x.shape[1:]:
    x = np.stack([fit(row) for row in x])
  labels, classes = _labels(file, path, label, len(x))
  return source.ArraySource({'image': x, **labels}, classes)


def _labels(file, path, key, size):
  if key is None:
    return {}, None
  y, classes = source.check_labels(array(file, path, key), size, f'{path}: {key}')
  if classes is None and 'classes' in file:
    names = array(file, path, 'classes')
    if names.ndim != 1 or len(names) <= y.max():
      raise InputError(
        f'{path}: classes has shape {list(names.shape)}, wanted [{y.max() + 1}] or more'
      )
    classes = tuple(names.astype(str).tolist())
  return {'label': y}, classes


def _pool(config, file, path, pool, offsets, label) -> source.LazySource:
  if offsets is None:
    raise InputError(f'{path} has {pool} but no {pool.replace("jpeg", "offsets")}')
  where = f'{path}: {pool}'
  data, ends = array(file, path, pool), array(file, path, offsets)
  if data.dtype != np.uint8 or data.ndim != 1:
    raise InputError(f'{where} is {data.dtype} {list(data.shape)}, wanted uint8 bytes [total]')
  if ends.ndim != 1 or len(ends) < 2 or ends.dtype.kind not in 'iu':
    raise InputError(f'{path}: {offsets} is {ends.dtype} {list(ends.shape)}, wanted integers [N+1]')
  if ends[0] != 0 or ends[-1] != len(data) or (np.diff(ends.astype(np.int64)) < 0).any():
    raise InputError(f'{path}: {offsets} does not rise from 0 to {len(data)}, the length of {pool}')
  labels, classes = _labels(file, path, label, len(ends) - 1)
  files = [data[a:b].tobytes() for a, b in itertools.pairwise(ends)]
  names = [f'{where}, image {i}' for i in range(len(files))]
  return images.from_files(files, names, labels, classes, config, where)
