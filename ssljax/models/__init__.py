"""Encoders by name. A family is a module here with a dict `VARIANTS` of its encoders."""

import difflib
import importlib
import pkgutil

from ssljax.errors import InputError

# What a family encodes, where it is not images alone.
MODALITIES = {
  'fingerprint': ('graph',),
  'graph': ('graph',),
  'hypergraph': ('graph',),
  'metapath': ('graph',),
  'mlp': ('vector', 'image'),
}


def names() -> list[str]:
  """Every encoder there is."""
  return sorted(_families())


def get_config(name):
  """The options of encoder `name` with its defaults. Raises InputError on an unknown name."""
  return _family(name).get_config(name)


def make(config, *, dtype):
  """The encoder of a `get_config`, computing in `dtype`. Raises InputError on unknown options."""
  return _family(config.name).make(config, dtype=dtype)


def modalities(name):
  """What encoder `name` can be given: 'image', 'vector', 'graph'."""
  return MODALITIES.get(_family(name).__name__.rpartition('.')[2], ('image',))


def _families():
  """Encoder -> the module that makes it."""
  modules = [
    importlib.import_module(f'{__name__}.{m.name}') for m in pkgutil.iter_modules(__path__)
  ]
  return {name: module for module in modules for name in getattr(module, 'VARIANTS', ())}


def _family(name):
  families = _families()
  if name not in families:
    nearest = difflib.get_close_matches(name, families, n=1, cutoff=0.0)[0]
    raise InputError(
      f'encoder.name is {name!r}, wanted one of {", ".join(sorted(families))} (nearest: {nearest})'
    )
  return families[name]
