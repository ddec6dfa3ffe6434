"""Images in a folder, flat or one sub-folder for each class; labels are never needed.

  photos/*.jpg              unlabelled
  flowers/rose/*.png        labelled by the first folder: rose, tulip, ...
  set/train/...  set/val/   either of these, in two splits; `test` is taken before `val`, unless
                            only `val` has class folders

Files of other kinds are passed over. Images that cannot be read are skipped and counted when the
data is read.
"""

import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from ssljax.data import images, source
from ssljax.errors import InputError

KINDS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')


def get_config(name: str = 'folder') -> ConfigDict:
  """`path` of the folder; photos at 256 pixels and the statistics of ImageNet unless told else."""
  return source.base_config(
    name,
    path='',
    preset='imagenet',
    image_size=256,
    channels=3,
    mean=source.PHOTO_MEAN,
    std=source.PHOTO_STD,
  )


def load(config: ConfigDict, split: str) -> source.LazySource | None:
  """The images of a split, in the order of their paths."""
  path = pathlib.Path(config.path)
  if not config.path or not path.exists():
    raise InputError(f'data.path is {config.path!r}, and there is no such folder')
  if not path.is_dir():
    raise InputError(f'data.path is {config.path}, a file: wanted a folder of images')
  splits = _splits(path)
  if split not in splits:
    return None
  root = splits[split]
  paths = _walk(root)
  if len(paths) < 2:
    raise InputError(
      f'{root} has {len(paths) or "no"} image{"s" * (not paths)}: wanted at least 2, of the kinds '
      f'{", ".join(KINDS)}'
    )
  labels, classes = {}, None
  found = sorted({name for folder in splits.values() for name in _class_folders(folder)})
  firsts = [pathlib.Path(p).relative_to(root).parts for p in paths]
  if len(found) > 1 and all(len(parts) > 1 for parts in firsts):
    classes = tuple(found)
    number = {name: i for i, name in enumerate(classes)}
    labels = {'label': np.array([number[parts[0]] for parts in firsts], np.int32)}
  return images.from_files(paths, paths, labels, classes, config, str(root))


def _splits(path: pathlib.Path) -> dict[str, pathlib.Path]:
  if not (path / 'train').is_dir():
    return {'train': path}
  others = [path / name for name in ('test', 'val') if (path / name).is_dir()]
  labelled = [folder for folder in others if _class_folders(folder)]
  return dict(zip(('train', 'test'), [path / 'train', *labelled, *others], strict=False))


def _class_folders(path: pathlib.Path) -> list[str]:
  return [x.name for x in path.iterdir() if x.is_dir() and not x.name.startswith('.')]


def _walk(root: pathlib.Path) -> list[str]:
  def refuse(error):
    raise InputError(f'{error.filename} cannot be read: {error.strerror}') from error

  found = []
  for folder, below, files in os.walk(root, onerror=refuse, followlinks=True):
    below[:] = sorted(name for name in below if not name.startswith('.'))
    kept = (f for f in files if f.lower().endswith(KINDS) and not f.startswith('.'))
    found += [os.path.join(folder, name) for name in kept]
  return sorted(found)
