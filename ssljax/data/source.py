"""What a source of examples is, and the checks that arrays pass before they become one."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from ssljax.errors import InputError


class Source(Protocol):
  """Examples by number: {'image': uint8 [H, W, C], 'label': int32, if there are labels}; of vectors
  {'x': float32 [D]} in the place of 'image'.

  Of graphs, see `graphs.GraphSource`: a source with `collate` makes its own batches, `fitted` to a
  run, and with `whole` the one batch is all of it; `pipeline` and `probing` ask for these.

  Every example has the same keys, shapes and dtypes; `classes` are the names of the labels, or
  None. Reading any but the first may raise Unreadable. A source can be pickled, for workers.
  """

  classes: tuple[str, ...] | None

  def __len__(self) -> int: ...

  def __getitem__(self, i: int) -> dict[str, np.ndarray]: ...


class Unreadable(InputError):
  """One example cannot be read; the message names its file. The pipeline skips and counts it."""


@dataclasses.dataclass(frozen=True)
class ArraySource:
  """Examples that lie in memory: {name: array with leading axis N}."""

  arrays: Mapping[str, np.ndarray]
  classes: tuple[str, ...] | None = None

  def __len__(self) -> int:
    return len(next(iter(self.arrays.values())))

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    return {name: array[i] for name, array in self.arrays.items()}


@dataclasses.dataclass(frozen=True)
class LazySource:
  """Examples read when asked for: `read(i)` is the example, for i < size, and `names[i]` the file
  it comes from, if each has its own."""

  read: Callable[[int], dict[str, np.ndarray]]
  size: int
  classes: tuple[str, ...] | None = None
  names: Sequence[str] | None = None

  def __len__(self) -> int:
    return self.size

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    return self.read(int(i))


# The statistics of ImageNet, taken for any photos.
PHOTO_MEAN, PHOTO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def base_config(name: str, **fields) -> ConfigDict:
  """The fields that the config of every source has, and the source's own or changed ones.

  preset: the size of images a method takes its settings for, 'tiny', 'cifar' or 'imagenet'.
  image_size: side of the square that images are resized (short side) and centre-cropped to;
    0 leaves them as they are stored. channels: 1 or 3; 0 as stored.
  mean, std: of the channels in [0, 1], one value or one for each channel.
  resident: whether the set is kept on the devices, 'yes', 'no' or 'auto': if its images take at
    most `resident_bytes`. workers: processes that read a set which is streamed; 0: threads.
  """
  config = ConfigDict(
    {
      'name': name,
      'preset': 'cifar',
      'image_size': 0,
      'channels': 0,
      'mean': (0.5,),
      'std': (0.25,),
      'resident': 'auto',
      'resident_bytes': 2**30,
      'workers': 0,
    }
  )
  config.update(fields)
  return config


def check_config(config: ConfigDict) -> None:
  """Raises InputError for a value of a common field that no source can use."""
  if config.resident not in ('auto', 'yes', 'no'):
    raise InputError(f'data.resident is {config.resident!r}, wanted auto, yes or no')
  if config.channels not in (0, 1, 3):
    raise InputError(f'data.channels is {config.channels}, wanted 1 or 3, or 0 for as stored')
  for field in ('image_size', 'workers'):
    if config[field] < 0:
      raise InputError(f'data.{field} is {config[field]}, wanted 0 or more')
  for field in ('mean', 'std'):
    if len(config[field]) not in {1, config.channels or 1, config.channels or 3}:
      raise InputError(
        f'data.{field} has {len(config[field])} values, wanted 1 or one for each of '
        f'{config.channels or 3} channels'
      )
  if min(config.std) <= 0:
    raise InputError(f'data.std is {tuple(config.std)}, wanted values above 0')


def check_range(config: ConfigDict, **limits) -> None:
  """Raises InputError for a field outside of (low, high); `high` is None where there is no most."""
  for field, (low, high) in limits.items():
    if config[field] < low or (high is not None and config[field] > high):
      wanted = f'{low} or more' if high is None else f'{low} to {high}'
      raise InputError(f'data.{field} is {config[field]}, wanted {wanted}')


def check_images(x: np.ndarray, where: str) -> np.ndarray:
  """uint8 [N, H, W, C] of an array of images; `where` names it in messages.

  x: [N, H, W] or [N, H, W, C], C 1 or 3, of integers from 0 to 255 or of floats from 0 to 1, which
  are rounded to 8 bits. Raises InputError for any other shape, dtype or value, with the first row
  that has it.
  """
  if x.ndim == 3:
    x = x[..., None]
  if x.ndim != 4 or x.shape[-1] not in (1, 3) or 0 in x.shape[1:]:
    raise InputError(
      f'{where} has shape {list(x.shape)}, wanted [N, H, W] or [N, H, W, C] with 1 or 3 channels'
    )
  if not len(x):
    raise InputError(f'{where} is empty: wanted at least one image')
  if x.dtype == np.uint8:
    return x
  high = {'f': 1, 'i': 255, 'u': 255}.get(x.dtype.kind)
  if high is None:
    raise InputError(f'{where} is {x.dtype}, wanted uint8, or floats from 0 to 1')
  good = (x >= 0) & (x <= high)  # false for NaN
  if not good.all():
    row = int(np.argmin(good.reshape(len(x), -1).all(1)))
    value = x[row][~good[row]][0]
    raise InputError(
      f'{where} is {x.dtype} and has the value {value} in row {row}, wanted uint8, '
      'or floats from 0 to 1'
    )
  return np.rint(x * 255).astype(np.uint8) if high == 1 else x.astype(np.uint8)


def check_vectors(x: np.ndarray, where: str) -> np.ndarray:
  """float32 [N, D] of an array of vectors; raises InputError if it is empty or not finite."""
  if 0 in x.shape:
    raise InputError(f'{where} has shape {list(x.shape)}, wanted [N, D] with N and D positive')
  x = x.astype(np.float32)
  bad = np.flatnonzero(~np.isfinite(x).all(1))
  if bad.size:
    raise InputError(f'{where} has NaN or infinite values in row {bad[0]}, wanted finite numbers')
  return x


def check_labels(y: np.ndarray, size: int, where: str) -> tuple[np.ndarray, tuple | None]:
  """(int32 [N], class names or None) of labels that are whole numbers from 0 on, or names.

  Raises InputError if they are neither, or not one for each of `size` images.
  """
  if y.ndim == 2 and y.shape[1] == 1:
    y = y[:, 0]
  if y.shape != (size,):
    raise InputError(f'{where} has shape {list(y.shape)}, wanted [{size}], one for each image')
  if y.dtype.kind in 'US':
    names, y = np.unique(y.astype(str), return_inverse=True)
    return y.astype(np.int32), tuple(names.tolist())
  if y.dtype.kind not in 'iu':
    raise InputError(f'{where} is {y.dtype}, wanted whole numbers or names')
  bad = (y < 0) | (y >= 2**31)
  if bad.any():
    row = int(np.argmax(bad))
    raise InputError(f'{where} has the value {y[row]} in row {row}, wanted 0 or more')
  return y.astype(np.int32), None
