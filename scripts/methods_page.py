"""Writes docs/methods.md: every method with what it minimises, what it keeps and what it reached.

  python scripts/methods_page.py [--check]

All of it is read from the code and from results/*.json. With --check nothing is written, and the
exit code says whether the file is up to date, but for what methods keep: that takes a minute.
"""

import inspect
import json
import pathlib
import re
import sys

import jax
import numpy as np

from ssljax import config, losses, methods, program, sharding
from ssljax.data import load, pipeline
from ssljax.data.source import ArraySource

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Files of the authors' numbers that have another name than the method.
GOLDENS = {
  'moco_v2': ('moco',),
  'moco_v3': ('mocov3',),
  'mmcr': ('mmcr', 'mmcr_momentum'),
  'scan': ('scan', 'scan_selflabel'),
  'simsiam': ('simsiam', 'simsiam_model'),
  'tico': ('tico', 'tico_grad_through_b'),
  'lejepa': ('lejepa', 'lejepa_sigreg'),
}
# The embedded sets that methods on graphs are shown with.
GRAPHS = {'node': 'communities', 'graph': 'motifs'}
HEAD = (
  'method', 'family', 'paper', 'loss', 'encoder (tiny / paper)', 'state kept',
  "error against the authors' code (value, gradient)", 'kNN / linear, or of graphs the probe, %',
)  # fmt: skip


def results():
  """(method, file name) -> row, of every file of scripts/compare.py."""
  found = {}
  for path in sorted((ROOT / 'results').glob('*.json')):
    result = json.loads(path.read_text())
    known = 'protocols' in result or 'graph_protocols' in result
    for row in result['rows'] if known else ():
      found.setdefault(row['method'], []).append((path.stem, row))
  return found


def results_apart():
  """method -> what files of other scripts found of it, as text."""

  def read(name):
    return json.loads((ROOT / 'results' / f'{name}.json').read_text())

  copies = read('copy_detection')['rows']
  clusters = read('scan_fashion_mnist')['clusters']['scan, clustering']
  found = {
    'scan': f'accuracy {100 * clusters["accuracy"]:.1f} (scan_fashion_mnist)',
    'tldr': ', '.join(
      f'recall {100 * each["rows"]["tldr"]["recall_euclidean"]:.1f} ({each["data"]}, tldr)'
      for each in read('tldr')['sets']
    ),
  }
  for row in copies:
    if row['descriptor'] == 'projection' and row['method'] in methods.available():
      found[row['method']] = f'micro-AP {100 * row["mean"]["plain/uap"]:.1f} (copy_detection)'
  return found


def losses_of(module):
  """Names of the losses that a method's file asks for, or of those that it builds on."""
  source = inspect.getsource(module)
  found = {n for n in re.findall(r'\blosses\.(\w+)', source) if hasattr(losses, n)}
  if not found:
    others = {m for m in re.findall(r'\b(\w+)\.\w+\(', source) if m in methods.available()}
    found = set().union(*(losses_of(methods.load(m)) for m in others))
  return sorted(found)


def state_of(name, modality):
  """Names of what the tiny preset's method remembers, with the size of what is not a network."""
  level = getattr(methods.load(name), 'LEVEL', ('',))[0]
  data = {'vector': 'npz', 'image': 'digits'}.get(modality, GRAPHS.get(level))
  c = config.get_config(f'{name},{data},preset=tiny')
  rng = np.random.default_rng(0)
  rows = 2 * c.batch_size
  arrays = (
    {'x': rng.normal(size=(rows, 64)).astype(np.float32)}
    if modality == 'vector'
    else {'image': rng.integers(0, 255, (rows, 32, 32, 3), np.uint8)}
  )
  source = ArraySource({**arrays, 'label': np.zeros(rows, np.int32)})
  if level:
    source = pipeline.fitted(load(c.data, 'train'), c, steps=1)
  mesh = sharding.make_mesh(1)
  state = program.make_program(c, mesh, source, steps=1).abstract.state
  kept = []
  for key, value in sorted(state.items()):
    if not jax.tree.leaves(value):
      continue
    kept.append(f'{key} {list(value.shape)}' if hasattr(value, 'shape') else key)
  return ', '.join(kept) or 'nothing'


def golden_of(name, goldens):
  found = [goldens[slug] for slug in GOLDENS.get(name, (name,)) if slug in goldens]
  if not found:
    return 'no'
  return ', '.join(f'{max(g[key] for g in found):.0e}' for key in ('value', 'gradient'))


def row_of(name, goldens, reached, apart, state):
  module = methods.load(name)
  largest = 'imagenet' if 'imagenet' in methods.presets(name) else methods.presets(name)[-1]
  encoders = [module.get_config(p).encoder.name for p in ('tiny', largest)]
  encoders = ' / '.join(dict.fromkeys(encoders))
  scores = []
  for file, row in reached.get(name, ()):
    probes = [row['mean'].get(f'{p}/learned') for p in ('knn-v1', 'linear-v1')]
    probes = list(row['mean'].values())[:1] if 'published' in row else probes
    where = f'{row["data"]}, {file}' if 'published' in row else file
    scores.append(' / '.join('' if x is None else f'{100 * x:.1f}' for x in probes) + f' ({where})')
  scores += [apart[name]] if name in apart else []
  return (
    f'`{name}`',
    module.FAMILY,
    module.PAPER,
    ', '.join(f'`{loss}`' for loss in losses_of(module)),
    encoders,
    state,
    golden_of(name, goldens),
    '; '.join(scores),
  )


def page(state):
  """state: (name, modality) -> what `state_of` says."""
  path = ROOT / 'results' / 'goldens.json'
  goldens = json.loads(path.read_text())['goldens'] if path.is_file() else {}
  reached, apart, lines = results(), results_apart(), []
  found = methods.available()
  for modality in sorted(set(found.values())):
    lines += [f'## {modality}', '', '| ' + ' | '.join(HEAD) + ' |', '|' + '---|' * len(HEAD)]
    for name in sorted(n for n, m in found.items() if m == modality):
      lines.append(
        '| ' + ' | '.join(row_of(name, goldens, reached, apart, state(name, modality))) + ' |'
      )
    lines.append('')
  intro = (
    '# Methods\n\n'
    f'{len(found)} methods, each one file in `ssljax/methods/`. Made by `scripts/methods_page.py` '
    'from the code and `results/`; errors are those of `results/goldens.json`, the largest over '
    'all cases, relative, in float64.\n\n'
    'Not here: SMART (Lu et al. 2024, Temporal generalization estimation in evolving graphs), '
    'which forecasts the error of a trained network on a graph that grows, and needs graphs over '
    'time.\n'
  )
  return intro + '\n' + '\n'.join(lines)


def main():
  path = ROOT / 'docs' / 'methods.md'
  if '--check' in sys.argv:
    text = path.read_text()
    rows = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('| `')]
    said = {row[0].strip('`'): row[HEAD.index('state kept')] for row in rows}
    sys.exit(page(lambda name, _: said.get(name, '')) != text)
  path.write_text(page(state_of))


if __name__ == '__main__':
  main()
