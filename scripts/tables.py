"""Writes the tables of the README from results/*.json, between its comments.

  python scripts/tables.py [--check]

With --check nothing is written, and the exit code says whether the README is up to date.
"""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WITHOUT_RAW = 'learned', 'random'
RESULTS = ROOT / 'results'
# Rows of results/graph.json that the first table shows.
ON_GRAPHS = (
  ('grace', 'cora'), ('dgi', 'cora'), ('supergat', 'cora'), ('graphmae', 'cora'),
  ('graphcl', 'MUTAG'), ('graphcl', 'PROTEINS'), ('node2vec', 'BlogCatalog'),
)  # fmt: skip


def per_cent(row, name):
  mean, spread = row['mean'].get(name), row['stdev'].get(name, 0.0)
  if mean is None:
    return ''
  return f'{100 * mean:.1f}' + (f' ± {100 * spread:.1f}' if len(row['seeds']) > 1 else '')


def table(head, rows):
  """Lines of a table."""
  lines = (' | '.join(cells) for cells in (head, ['---'] * len(head), *rows))
  return [*(f'| {line} |' for line in lines), '']


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
  seeds = 'one seed'
  if counts != [1]:
    seeds = f'mean ± standard deviation of {counts[0]} seeds, one seed where there is no deviation'
  lines = [
    f'**{result["title"]}**',
    '',
    f'Accuracy in %, {seeds}; {result["device"]}; from `{path.relative_to(ROOT)}`.',
    '',
    *table(head, rows),
    *(f'- {row["method"]}: {row["note"]}' for row in result['rows'] if row.get('note')),
    *(f'- {row["method"]}: {went(row["curves"])}' for row in result['rows'] if row.get('curves')),
    '',
  ]
  return '\n'.join(lines)


def went(curves, points=5):
  """'rankme 8.1, 12.0, 14.2 (steps 100, 200, 300)' of each curve, evenly thinned."""
  said = []
  for name, curve in curves.items():
    places = sorted({round(i * (len(curve) - 1) / (points - 1)) for i in range(points)})
    steps, values = zip(*(curve[i] for i in places), strict=True)
    said.append(
      f'{name} {", ".join(f"{v:.3g}" for v in values)} (steps {", ".join(map(str, steps))})'
    )
  return '; '.join(said)


def benchmark(path):
  """The table of scripts/benchmark.py."""
  result = json.loads(path.read_text())
  lines = [
    f'**Speed and memory on {result["machine"]}**',
    '',
    f'From `{path.relative_to(ROOT)}`.',
    '',
  ]
  rows = []
  for part in result['parts'].values():
    figures = '<br>'.join(
      f'{name.replace("_", " ")} {readable(value)}'
      for name, value in part.items()
      if isinstance(value, int | float)
    )
    rows.append([part['what'], figures, part['wanted']])
  return '\n'.join(lines + table(['what', 'measured', 'wanted'], rows))


def readable(value):
  """Whole numbers, and numbers of four to nine digits, with commas."""
  whole = isinstance(value, int) or 1e3 <= abs(value) < 1e9
  return f'{value:,.0f}' if whole else f'{value:.3g}'


def timed(path):
  """The table of scripts/gpu_cifar10.py."""
  result = json.loads(path.read_text())
  protocols = list(result['run_protocols'])
  lines = [
    f'**{result["title"]}**',
    '',
    f'Accuracy in %, one seed; {result["compute_dtype"]}, jax {result["versions"]["jax"]}; minutes '
    f'of training, without compiling and evaluation; from `{path.relative_to(ROOT)}`.',
    '',
  ]
  rows = [
    [
      run['method'],
      f'{run["minutes"]:g}',
      f'{run["steps"]:,} x {run["batch_size"]}',
      f'{run["images_per_second"]:,.0f}',
      f'{run["peak_memory_bytes"] / 2**30:.1f}',
      *(f'{100 * run["metrics"][f"{p}/{w}"]:.1f}' for p in protocols for w in WITHOUT_RAW),
    ]
    for run in result['runs']
  ]
  head = ['method', 'minutes', 'steps x images', 'images/s', 'peak GiB']
  head += [f'{p} {w}' for p in protocols for w in WITHOUT_RAW]
  notes = [f'- {run["method"]}: {run["note"]}' for run in result['runs'] if run.get('note')]
  return '\n'.join([*lines, *table(head, rows), *notes, ''])


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
  ]
  rows = [
    [found['data'], name, *(f'{100 * row[m]:.1f}' for m in measures)]
    for found in result['sets']
    for name, row in found['rows'].items()
  ]
  head = ['data', 'vectors', *(m.replace('_', ', ') for m in measures)]
  return '\n'.join(lines + table(head, rows))


def clusters(path):
  """The table of scripts/scan.py."""
  result = json.loads(path.read_text())
  measures = ('accuracy', 'nmi', 'ari')
  steps = ' + '.join(str(stage['steps']) for stage in result['stages'].values())
  lines = [
    f'**{result["title"]}**',
    '',
    f'In %; accuracy is that of the best matching of clusters to classes. {result["encoder"]}, '
    f'{steps} steps; from `{path.relative_to(ROOT)}`.',
    '',
  ]
  rows = [
    [name, *(f'{100 * found[m]:.1f}' for m in measures)]
    for name, found in result['clusters'].items()
  ]
  return '\n'.join(lines + table(['', 'accuracy', 'NMI', 'ARI'], rows))


def copies(path):
  """The table of scripts/copy_detection.py."""
  result = json.loads(path.read_text())
  measures = ('plain/uap', 'plain/uap_normalized', 'whitened/uap_normalized')
  images, seeds = result['images'], len(result['seeds'])
  lines = [
    '**Edited copies found (SSCD)**',
    '',
    f'Micro average precision in %, {"one seed" if seeds == 1 else f"mean of {seeds} seeds"}; '
    f'{result["steps"]} steps of '
    f'{result["batch_size"]} images; {images["queries"]:,} queries, half of them copies, in '
    f'{images["references"]:,} references; from `{path.relative_to(ROOT)}`, which lists the edits.',
    '',
  ]
  rows = [
    [row['method'], row['descriptor'], *(f'{100 * row["mean"][m]:.1f}' for m in measures)]
    for row in result['rows']
  ]
  head = ['method', 'descriptor', 'micro-AP', 'scores normalised', 'and whitened']
  return '\n'.join(lines + table(head, rows))


def on_graphs(path):
  """The table of scripts/graph.py."""
  result = json.loads(path.read_text())
  lines = [
    f'**{result["title"]}**',
    '',
    'In %, mean ± standard deviation where there are several seeds; node-random-v1 is itself a '
    f'mean over 20 splits; from `{path.relative_to(ROOT)}`, which defines the protocols.',
    '',
  ]
  rows = []
  for row in result['rows']:
    minutes = f'{sum(row["seconds"]) / len(row["seconds"]) / 60:.1f}'
    minutes += f' ({row["device"]})' if row['device'] != 'cpu' else ''
    for name in sorted({n.rsplit('/', 1)[0] for n in row['mean'] if n.endswith('/learned')}):
      cells = [per_cent(row, f'{name}/{which}') for which in ('learned', 'random', 'raw')]
      published = row['published']
      if isinstance(published, dict):
        published = published.get(name)
      elif name != row['protocol']:
        published = None
      published = f'{published:.1f} ({row["published_in"]})' if published else ''
      rows.append(
        [row['method'], row['data'], name, *cells, published, str(len(row['seeds'])), minutes]
      )
  names = [
    'method',
    'data',
    'protocol',
    'learned',
    'random',
    'raw',
    'published',
    'seeds',
    'minutes',
  ]
  notes = [f'- {r["method"]}, {r["data"]}: {r["note"]}' for r in result['rows'] if r.get('note')]
  return '\n'.join([*lines, *table(names, rows), *notes, ''])


def discovered(path):
  """The table of scripts/discover.py: how often objects are found, by what is asked."""
  result = json.loads(path.read_text())
  scenes = result['scenes']
  lines = [
    f'**{result["title"]}**',
    '',
    f'CorLoc in %: scenes with a box that overlaps an object by at least {result["iou"]}, of '
    f'{scenes["count"]} with {scenes["objects"]} objects; keys of {result["method"]} '
    f'({result["encoder"]}, {result["step"]} steps on {result["data"]}). Centred: less their mean '
    f'over the image; from `{path.relative_to(ROOT)}`.',
    '',
  ]
  found = {n: f'{100 * row["corloc"]:.1f}' for n, row in result['discovery'].items()}
  kinds = [(kind, form) for form in ('plain', 'centred') for kind in ('learned', 'random', 'raw')]
  names = sorted({n.split('/')[0] for n in found if '/' in n})
  rows = [[name, *(found[f'{name}/{kind}/{form}'] for kind, form in kinds)] for name in names]
  square = 'a square in the middle'
  rows.append([square, found['centre square'], *[''] * (len(kinds) - 1)])
  return '\n'.join(lines + table(['', *(f'{kind}, {form}' for kind, form in kinds)], rows))


def segmented(path):
  """The table of scripts/dense.py."""
  result = json.loads(path.read_text())
  measures = list(next(iter(result['dense'].values())))
  lines = [
    f'**{result["title"]}**',
    '',
    f'In %; {result["method"]} ({result["encoder"]}, {result["step"]} steps on {result["data"]}), '
    f'classes {", ".join(result["classes"])}; from `{path.relative_to(ROOT)}`, which defines the '
    'protocols.',
    '',
  ]
  rows = [
    [*name.split('/'), *(f'{100 * found[m]:.1f}' for m in measures)]
    for name, found in result['dense'].items()
  ]
  most = result['most frequent class everywhere']
  rows.append(['most frequent class', '', *(f'{100 * most[m]:.1f}' for m in measures)])
  return '\n'.join(lines + table(['protocol', 'features', *measures], rows))


def headline():
  """What has been reached, in a few lines: see the tables for how."""

  def read(name):
    return json.loads((RESULTS / f'{name}.json').read_text())

  goldens = read('goldens')['goldens'].values()
  error = max(golden[key] for golden in goldens for key in ('value', 'gradient'))
  gpu = max(read('gpu_cifar10')['runs'], key=lambda run: run['minutes'])
  knn = {which: 100 * gpu['metrics'][f'knn-v1/{which}'] for which in WITHOUT_RAW}
  few = next(r for r in read('fashion_mnist')['rows'] if r['method'] == 'simclr')
  cifar = read('image_cifar10')['rows']
  above = sum(r['mean']['knn-v1/learned'] > r['mean']['knn-v1/random'] for r in cifar)
  parts = read('benchmark_cpu')['parts']
  rows = [
    [f"{len(goldens)} losses against their authors' code", f'error at most {error:.0e}', '0'],
    [
      'SimCLR, ResNet-18, CIFAR-10 as JPEG, one H200',
      f'{gpu["images_per_second"]:,.0f} images/s; kNN {knn["learned"]:.1f} % after '
      f'{gpu["minutes"]:.1f} minutes',
      f'{knn["random"]:.1f} % untrained',
    ],
    [
      'SimCLR, Fashion-MNIST, 100 labels a class, a small ResNet on two cores',
      f'{per_cent(few, "linear-v1-100/learned")} % linear',
      f'{per_cent(few, "linear-v1-100/random")} % untrained',
    ],
    [
      f'{len(cifar)} methods on CIFAR-10 as JPEG, 300 steps of a small encoder',
      f'{above} above their untrained encoder by kNN',
      str(len(cifar)),
    ],
  ]
  found = {(r['method'], r['data']): r for r in read('graph')['rows']}
  for method, data in ON_GRAPHS:
    row = found[method, data]
    score, published = row['protocol'], row['published']
    if isinstance(published, dict):
      ((score, published),) = published.items()
    rows.append(
      [
        f'{row["published_in"]}, {data}, {score}',
        f'{per_cent(row, f"{score}/learned")} %',
        f'{published:.1f} % published',
      ]
    )
  speeds = {
    'kmeans': 'k-means, 100,000 x 128 into 1,000 clusters, against scikit-learn',
    'nearest': 'exact kNN, 10,000 queries in 100,000 x 128, against scikit-learn',
    'grace_epoch': 'a step of GRACE on a CPU, against PyTorch Geometric',
  }
  rows += [
    [what, f'{parts[name]["speedup"]:.2f} times as fast', ''] for name, what in speeds.items()
  ]
  return '\n'.join(table(['what', 'ssljax', 'beside it'], rows))


def folded(text):
  """A table that opens on a click on its title, the first line."""
  title, _, body = text.partition('\n')
  return f'<details>\n<summary>{title.strip("*")}</summary>\n{body}\n</details>\n'


def between(text, name, made):
  """`text` with `made` between its comments of that name."""
  begin, end = f'<!-- {name} -->\n', f'<!-- /{name} -->'
  before, rest = text.split(begin)
  return before + begin + '\n' + made + '\n' + end + rest.split(end)[1]


def main():
  readme = ROOT / 'README.md'
  text = readme.read_text()
  tables = []
  for path in sorted(RESULTS.glob('*.json')):
    result = json.loads(path.read_text())
    makers = {
      'parts': benchmark,
      'protocols': comparison,
      'run_protocols': timed,
      'sets': reduction,
      'clusters': clusters,
      'edits': copies,
      'graph_protocols': on_graphs,
      'discovery': discovered,
      'dense': segmented,
    }
    tables += [folded(make(path)) for key, make in makers.items() if key in result]
  made = between(text, 'results', '\n'.join(tables))
  made = between(made, 'headline', headline())
  if '--check' in sys.argv:
    sys.exit(made != text)
  readme.write_text(made)


if __name__ == '__main__':
  main()
