"""Lists the methods, and the systems that do not train: python -m ssljax.list [--json]"""

import importlib
import json
import pkgutil
from collections.abc import Sequence

from absl import flags
from rich.console import Console
from rich.table import Table

from ssljax import cli, methods

# Packages of plain functions; those of their modules that have a PAPER are systems by themselves.
FUNCTIONS = ('discovery', 'embedding', 'partition')


def rows() -> list[dict[str, str]]:
  """Name, modality, family, paper, first line and module of every method, then of every system
  that does not train."""
  found = [
    _row(name, modality, methods.load(name)) for name, modality in methods.available().items()
  ]
  return found + [_row(name, module.MODALITY, module) for name, module in functions().items()]


def functions() -> dict:
  """The modules, by name, of systems that do not train: plain functions, arrays in and out."""
  found = {}
  for package in FUNCTIONS:
    package = importlib.import_module(f'ssljax.{package}')
    for info in pkgutil.iter_modules(package.__path__):
      module = importlib.import_module(f'{package.__name__}.{info.name}')
      if hasattr(module, 'PAPER'):
        found[info.name] = module
  return dict(sorted(found.items()))


def _row(name, modality, module):
  return {
    'name': name,
    'modality': modality,
    'family': module.FAMILY,
    'paper': module.PAPER,
    'summary': module.__doc__.strip().splitlines()[0],
    'module': module.__name__,
  }


def main(argv: Sequence[str]) -> None:
  def define(values):
    flags.DEFINE_bool('json', False, 'Print JSON, for programs', flag_values=values)

  values = cli.parse(argv, define, __doc__)
  found = rows()
  if values.json:
    print(json.dumps(found, indent=2))
    return
  for title, trained in (('methods', True), ('functions, which do not train', False)):
    table = Table('name', 'modality', 'family', 'paper', title=title)
    for row in found:
      if row['module'].startswith('ssljax.methods.') == trained:
        table.add_row(row['name'], row['modality'], row['family'], row['paper'])
    Console().print(table)


if __name__ == '__main__':
  cli.run(main)
