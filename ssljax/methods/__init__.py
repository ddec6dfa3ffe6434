"""The methods, found by name: one file each, in a folder for the modality they work on."""

import difflib
import importlib
import pkgutil

from ssljax.errors import InputError


def available() -> dict[str, str]:
  """Method name -> modality, from the files that are there."""
  found = {}
  for modality in pkgutil.iter_modules(__path__):
    package = importlib.import_module(f'{__name__}.{modality.name}')
    for module in pkgutil.iter_modules(package.__path__):
      if not module.name.startswith('_'):
        found[module.name] = modality.name
  return dict(sorted(found.items()))


# What every method of a modality has settings for; a method has its own further ones in PRESETS.
PRESETS = {'graph': ('tiny',)}
COMMON_PRESETS = ('tiny', 'cifar', 'imagenet')


def presets(name: str) -> tuple[str, ...]:
  """The presets of a method."""
  module = load(name)
  return (*PRESETS.get(available()[name], COMMON_PRESETS), *getattr(module, 'PRESETS', ()))


def load(name: str):
  """The module of a method; raises InputError with the nearest name if there is none."""
  found = available()
  if name not in found:
    near = difflib.get_close_matches(name, found, n=1)
    hint = f', did you mean {near[0]}?' if near else ''
    raise InputError(f'no method {name!r}{hint} (there are: {", ".join(found)})')
  return importlib.import_module(f'{__name__}.{found[name]}.{name}')
