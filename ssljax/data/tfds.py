"""TensorFlow Datasets by name, read one example at a time without TensorFlow.

A set is prepared once, for which TFDS wants TensorFlow if it has images; the files it then has are
array_record, which are read without.
"""

import functools

import numpy as np
from ml_collections import ConfigDict

from ssljax.data import images, source
from ssljax.errors import InputError


def names() -> list[str]:
  """The sets TFDS knows, or none where it is not installed."""
  try:
    import tensorflow_datasets as tfds
  except ImportError:
    return []
  return tfds.list_builders(with_community_datasets=False)


def exists(name: str) -> bool:
  """Whether TFDS knows a set of that name (and config and version), or has it on this machine."""
  try:
    _builder(name, '')
  except InputError:
    return False
  return True


def get_config(name: str = 'tfds') -> ConfigDict:
  """The config of the set `name`; for 'tfds', `dataset` is to be filled in.

  data_dir: TFDS's folder, its default if empty. train_split, test_split: as TFDS writes them, such
  as 'train[:90%]'; test_split empty is 'validation' where there is one (the test labels of ImageNet
  are hidden), else 'test'. image_key, label_key: among its features.
  """
  config = source.base_config(
    name,
    dataset='' if name == 'tfds' else name,
    data_dir='',
    train_split='train',
    test_split='',
    image_key='image',
    label_key='label',
    preset='imagenet',
    image_size=256,
    channels=3,
  )
  if config.dataset:
    features = _builder(name, '').info.features
    height, width, channels = features['image'].shape if 'image' in features else (None, None, 3)
    if height and height == width:
      config.image_size = height
      config.preset = 'cifar' if height <= 64 else 'imagenet'
    config.channels = 1 if channels == 1 else 3
  if config.channels == 3:
    config.mean, config.std = source.PHOTO_MEAN, source.PHOTO_STD
  return config


def load(config: ConfigDict, split: str) -> source.LazySource | None:
  """The examples of a split. Raises InputError, with what to run, if the set is not prepared."""
  if not config.dataset:
    raise InputError('data.dataset is empty: wanted the name of a TFDS set, such as cifar10')
  builder = _builder(config.dataset, config.data_dir)
  _check_prepared(builder, config)
  info = builder.info
  wanted = config[f'{split}_split']
  if not wanted:
    wanted = next((name for name in ('validation', 'test') if name in info.splits), '')
    if not wanted:
      return None
  try:
    examples = builder.as_data_source(split=wanted)
  except Exception as error:  # of many kinds, for a name or a range that is none
    raise InputError(
      f'data.{split}_split is {wanted!r}, and {config.dataset} has {", ".join(info.splits)}'
    ) from error
  if not len(examples):
    raise InputError(f'the split {wanted} of {config.dataset} is empty')
  if config.image_key not in info.features:
    raise InputError(
      f'data.image_key is {config.image_key!r}, and {config.dataset} has {", ".join(info.features)}'
    )
  where = f'{info.full_name} {wanted}'
  read = functools.partial(_read, examples, where, config.image_key)
  first = examples[0].get(config.label_key)
  # -1 is how TFDS says that a split has no labels.
  labelled = np.ndim(first) == 0 and np.asarray(first).dtype.kind in 'iu' and first >= 0
  label_key = config.label_key if labelled else None
  image = read(None, images.square(config.image_size), config.channels, 0)['image']
  return source.LazySource(
    functools.partial(read, label_key, image.shape[:2], image.shape[2]),
    len(examples),
    tuple(getattr(info.features[label_key], 'names', None) or ()) or None if labelled else None,
  )


def _read(examples, where, image_key, label_key, size, channels, i):
  example = examples[i]
  image = source.check_images(np.asarray(example[image_key])[None], f'{where}, example {i}')[0]
  image = images.fit(image, size=size, channels=channels)
  return {'image': image} | ({'label': np.int32(example[label_key])} if label_key else {})


def _builder(name: str, data_dir: str):
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise InputError(
      f'{name} is a set of TFDS, which is not installed: pip install ssljax[tfds]'
    ) from error
  try:
    return tfds.builder(name, data_dir=data_dir or None)
  except Exception as error:  # of many kinds, for a name, config or version that is none
    raise InputError(f'TFDS has no set {name!r}: {_first_line(error)}') from error


def _first_line(error: Exception) -> str:
  return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


def _check_prepared(builder, config) -> None:
  where = f", data_dir='{config.data_dir}'" if config.data_dir else ''
  if not builder.is_prepared():
    raise InputError(
      f'{config.dataset} is not prepared in {builder.data_dir}: run python -c "import '
      f"tensorflow_datasets as tfds; tfds.data_source('{config.dataset}'{where})\" once, with "
      'tensorflow and importlib_resources installed (reading it needs neither)'
    )
  if (found := builder.info.file_format.value) != 'array_record':
    raise InputError(
      f'{config.dataset} in {builder.data_dir} is prepared as {found}, wanted array_record: give '
      f'another data.data_dir, or remove it and run python -c "import tensorflow_datasets as tfds; '
      f"tfds.data_source('{config.dataset}'{where})\""
    )
