"""Sources of examples, found by name: a module of this package, or else a TFDS set."""

import difflib
import importlib
import pkgutil

from ml_collections import ConfigDict

from ssljax.data.source import Source, check_config
from ssljax.errors import InputError


def names() -> list[str]:
  """The modules of this package that are sources: those with a `get_config`."""
  found = (module.name for module in pkgutil.iter_modules(__path__))
  return sorted(name for name in found if hasattr(_module(name), 'get_config'))


def get_config(name: str) -> ConfigDict:
  """The config of a source, or of a TFDS set such as 'cifar10' or 'imagenet_resized/32x32'.

  Raises InputError, with the nearest name, if there is neither.
  """
  if name in names():
    return _module(name).get_config(name)
  tfds = _module('tfds')
  known = tfds.names()
  if known and not tfds.exists(name):
    near = difflib.get_close_matches(name, [*names(), *known], n=1)
    hint = f', did you mean {near[0]}?' if near else ''
    raise InputError(f'no data set {name!r}{hint} (there are {", ".join(names())} and TFDS names)')
  if not known:
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f', did you mean {near[0]}?' if near else ''
    raise InputError(
      f'no data set {name!r}{hint} (there are {", ".join(names())}; for the sets of TFDS: '
      'pip install ssljax[tfds])'
    )
  return tfds.get_config(name)


def load(config: ConfigDict, split: str) -> Source | None:
  """The 'train' or 'test' examples; None if the data has no such split.

  Raises InputError for whatever the user can mend: a path, a file, a field.
  """
  if split not in ('train', 'test'):
    raise InputError(f'split is {split!r}, wanted train or test')
  check_config(config)
  return _module(config.name if config.name in names() else 'tfds').load(config, split)


def _module(name: str):
  return importlib.import_module(f'{__name__}.{name}')
