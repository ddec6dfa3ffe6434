"""Writes the tables of the README from results/*.json, between its two comments.

  python scripts/tables.py [--check]

With --check nothing is written, and the exit code says whether the README is up to date.
"""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = '<!-- results -->\n', '<!-- /results -->'


def per_cent(row, name):
  mean, spread = row['mean'].get(name), row['stdev'].get(name, 0.0)
  if mean is None:
    return ''
  return f'{100 * mean:.1f}' + (f' ± {100 * spread:.1f}' if len(row['seeds']) > 1 else '')


def comparison(path):
  """The table of a file of scripts/compare.py: protocols across, learned above random above raw."""
  result = json.loads(path.read_text())
  protocols = list(result['protocols'])
  rows = []
  for row in result['rows']:
    cells = [per_cent(row, f'{p}/{w}') for p in protocols for w in ('learned', 'random', 'raw')]
    minutes = sum(row['seconds']) / len(row['seconds']) / 60
    rows.append([row['method'], row['encoder'], f'{row["steps"]}', *cells, f'{minutes:.1f}'])
  head = ['method', 'encoder', 'steps']
  head += [f'{p} {w}' for p in protocols for w in ('learned', 'random', 'raw')] + ['minutes']
  counts = sorted({len(row['seeds']) for row in result['rows']}, reverse=True)
  seeds = ' or '.join(str(n) for n in counts)
  lines = [
    f'**{result["title"]}**',
    '',
    f'Accuracy in %, mean ± standard deviation where there are several of {seeds} seeds; '
    f'{result["device_count"]} {result["device"]} device; from `{path.relative_to(ROOT)}`.',
    '',
    '| ' + ' | '.join(head) + ' |',
    '|' + '---|' * len(head),
    *('| ' + ' | '.join(row) + ' |' for row in rows),
    '',
    *(f'- {row["method"]}: {row["note"]}' for row in result['rows'] if row.get('note')),
    '',
  ]
  return '\n'.join(lines)


def benchmark(path):
  """The table of scripts/benchmark.py."""
  result = json.loads(path.read_text())
  lines = [
    f'**Speed and memory** on {result["machine"]}, from `{path.relative_to(ROOT)}`',
    '',
    '| what | measured | wanted |',
    '|---|---|---|',
  ]
  for part in result['parts'].values():
    figures = ', '.join(
      f'{name} {value:.3g}' if isinstance(value, float) else f'{name} {value:,}'
      for name, value in part.items()
      if isinstance(value, int | float)
    )
    lines.append(f'| {part["what"]} | {figures} | {part["wanted"]} |')
  return '\n'.join([*lines, ''])


def reduction(path):
  """The table of scripts/tldr.py: what of the neighbours is left in few dimensions."""
  result = json.loads(path.read_text())
  measures = ('recall_euclidean', 'recall_cosine', 'precision', 'knn-v1')
  lines = [
    f'**{result["title"]}**',
    '',
    f'In %, TLDR the mean of {len(result["seeds"])} seeds; recall of the 10 nearest of the full '
    'vectors, precision of the class among the 50 nearest; from '
    f'`{path.relative_to(ROOT)}`, which says how.',
    '',
    '| data | vectors | ' + ' | '.join(m.replace('_', ', ') for m in measures) + ' |',
    '|' + '---|' * (len(measures) + 2),
  ]
  for found in result['sets']:
    for name, row in found['rows'].items():
      cells = [f'{100 * row[m]:.1f}' for m in measures]
      lines.append('| ' + ' | '.join([found['data'], name, *cells]) + ' |')
  return '\n'.join([*lines, ''])


def main():
  readme = ROOT / 'README.md'
  text = readme.read_text()
  before, rest = text.split(BEGIN)
  after = rest.split(END)[1]
  tables = []
  for path in sorted((ROOT / 'results').glob('*.json')):
    result = json.loads(path.read_text())
    makers = {'parts': benchmark, 'protocols': comparison, 'sets': reduction}
    tables += [make(path) for key, make in makers.items() if key in result]
  made = before + BEGIN + '\n' + '\n'.join(tables) + '\n' + END + after
  if '--check' in sys.argv:
    sys.exit(made != text)
  readme.write_text(made)


if __name__ == '__main__':
  main()
