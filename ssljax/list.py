"""Lists the methods: python -m ssljax.list [--json]"""

import json
from collections.abc import Sequence

from absl import flags
from rich.console import Console
from rich.table import Table

from ssljax import cli, methods


def rows() -> list[dict[str, str]]:
  """Name, modality, family, paper and first line of every method."""
  found = []
  for name, modality in methods.available().items():
    module = methods.load(name)
    found.append(
      {
        'name': name,
        'modality': modality,
        'family': module.FAMILY,
        'paper': module.PAPER,
        'summary': module.__doc__.strip().splitlines()[0],
      }
    )
  return found


def main(argv: Sequence[str]) -> None:
  def define(values):
    flags.DEFINE_bool('json', False, 'Print JSON, for programs', flag_values=values)

  values = cli.parse(argv, define, __doc__)
  if values.json:
    print(json.dumps(rows(), indent=2))
    return
  table = Table('method', 'modality', 'family', 'paper')
  for row in rows():
    table.add_row(row['name'], row['modality'], row['family'], row['paper'])
  Console().print(table)


if __name__ == '__main__':
  cli.run(main)
