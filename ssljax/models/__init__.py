"""Encoders by name. A family is the module named by a name's leading letters ('vit_small': vit)."""

import difflib
import importlib
import pkgutil
import re

from ssljax.errors import InputError


def names() -> list[str]:
  """Every encoder there is."""
  modules = [
    importlib.import_module(f'{__name__}.{m.name}') for m in pkgutil.iter_modules(__path__)
  ]
  return sorted(name for module in modules for name in getattr(module, 'VARIANTS', ()))


def get_config(name):
  """The options of encoder `name` with its defaults. Raises InputError on an unknown name."""
  return _family(name).get_config(name)


def make(config, *, dtype):
  """The encoder of a `get_config`, computing in `dtype`. Raises InputError on unknown options."""
  return _family(config.name).make(config, dtype=dtype)


def _family(name):
  known = names()
  if name not in known:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise InputError(
      f'model.name is {name!r}, wanted one of {", ".join(known)} (nearest: {nearest})'
    )
  return importlib.import_module(f'{__name__}.{re.match("[a-z]+", name)[0]}')
