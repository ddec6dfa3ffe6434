"""The sections made of numbers: headline, doctor, probes, curves, facts, config."""

import math
import numbers

import numpy as np

from ssljax.report import page, plots, words
from ssljax.report.page import Markup, tag

COLUMNS = ('learned', 'random', 'raw')
# A difference below half a point is called none.
EVEN = 0.005


def probes(metrics: dict) -> dict[str, dict[str, float]]:
  """{'knn-v1': {'learned': 0.71, ...}} of flat metrics 'knn-v1/learned', kNN first."""
  found = {}
  for key, value in metrics.items():
    name, _, column = key.rpartition('/')
    if name and column in COLUMNS and math.isfinite(value):
      found.setdefault(name, {})[column] = value
  return dict(sorted(found.items(), key=lambda item: not item[0].startswith('knn')))


def title(summary: dict) -> str:
  return f'{summary.get("method", "method")} on {summary.get("dataset", "data")}'


def headline(summary: dict, config: dict, raw: str) -> Markup:
  """Title, what was done, the verdict and the key numbers; `raw` is what raw inputs are called."""
  metrics = summary.get('metrics', {})
  about = summary.get('about') or 'Features learned without labels.'
  done = [
    config.get('encoder', {}).get('name'),
    f'{summary["steps"]:,} steps' if 'steps' in summary else '',
    f'batch size {config["batch_size"]}' if 'batch_size' in config else '',
    f'seed {summary["seed"]}' if 'seed' in summary else '',
  ]
  return page.join(
    [
      tag('h1', title(summary)),
      tag('p', about, cls='about'),
      tag('p', ' · '.join(filter(None, done)), cls='about'),
      _verdict(probes(metrics), raw),
      _cards(summary, metrics),
    ]
  )


def _verdict(found: dict, raw: str) -> Markup:
  names = {'random': 'a random encoder', 'raw': raw}
  learned = {name: row for name, row in found.items() if 'learned' in row}
  if not learned:
    return tag(
      'p', 'No labels to judge the features by: see the maps and neighbours.', cls='verdict'
    )
  name, row = next(iter(learned.items()))
  gains = [f'{words.gain(row["learned"], row[c])} over {names[c]}' for c in COLUMNS[1:] if c in row]
  said = f'{words.protocol(name)} {words.score(row["learned"])}'
  said += f': {", ".join(gains)}.' if gains else '.'
  behind = [
    f'{names[c]} by {words.protocol(n)}'
    for n, r in learned.items()
    for c in COLUMNS[1:]
    if c in r and r['learned'] - r[c] < EVEN
  ]
  if behind:
    return tag('p', f'{said} Not ahead of {", nor of ".join(behind)}.', cls='verdict bad')
  if gains:
    compared = 'both baselines' if len(gains) == 2 else 'the baseline'
    protocols = 'every protocol' if len(learned) > 1 else 'this protocol'
    return tag('p', f'{said} Ahead of {compared} by {protocols}.', cls='verdict good')
  return tag('p', f'{said} No baseline was measured.', cls='verdict')


def _cards(summary, metrics) -> Markup:
  cards = [
    (words.score(r['learned']), words.protocol(n))
    for n, r in probes(metrics).items()
    if 'learned' in r
  ]
  cards += [(words.number(metrics[k]), words.metric(k)) for k in ('rankme', 'loss') if k in metrics]
  for key, name, say in _MEASURED:
    if summary.get(key):
      cards.append((say(summary[key]), name))
  return tag(
    'div', *(tag('div', tag('b', v), tag('span', n), cls='card') for v, n in cards), cls='cards'
  )


_MEASURED = (
  ('seconds', 'training time', words.duration),
  ('images_per_second', 'images/s', words.number),
  ('peak_memory_bytes', 'peak memory', words.size),
)


def doctor(warnings) -> Markup:
  if not warnings:
    return page.section('Doctor', tag('p', 'No warnings.', cls='doctor'))
  return page.section('Doctor', tag('ul', *(tag('li', w) for w in warnings), cls='doctor warn'))


def probe_table(metrics: dict, raw: str, chance: float | None) -> Markup:
  """One row a protocol, the best of learned, random and raw marked."""
  rows = []
  for name, row in probes(metrics).items():
    best = max(row.values())
    cells = [tag('th', words.protocol(name), ' ', tag('span', name, cls='note'))]
    for column in COLUMNS:
      if column not in row:
        cells.append('–')
        continue
      cls = ('bar' if 0 <= row[column] <= 1 else '') + (' best' if row[column] == best else '')
      style = f'--v:{100 * row[column]:.1f}%'
      cells.append(tag('td', words.score(row[column]), cls=cls, style=style))
    rows.append(cells)
  if not rows:
    return Markup()
  said = 'Test accuracy of the same protocol on three kinds of features, ★ the best: training was '
  said += 'worth its time where "learned" leads.'
  if chance is not None:
    said += f' Always naming the most frequent class gives {words.score(chance)}.'
  table = page.table(['protocol', 'learned', 'random encoder', raw], rows, cls='probes')
  return page.section('Probes', page.figure(table, said))


def metric_table(metrics: dict) -> Markup:
  rows = [
    [tag('th', words.metric(name)), words.number(value), words.METRICS.get(name, ('', ''))[1]]
    for name, value in metrics.items()
    if name.rpartition('/')[2] not in COLUMNS
  ]
  if not rows:
    return Markup()
  return page.section('Without labels', page.table(['metric', 'value', 'how to read it'], rows))


def curves(history: list[dict], metrics: dict) -> Markup:
  """One panel for every metric that was looked at more than once."""
  series = {}
  for line in history:
    for name, value in line.items():
      value = math.nan if value is None else value
      if isinstance(value, numbers.Real) and name != 'step':
        series.setdefault(name, []).append((line['step'], value))
  chance = [v for _, v in series.pop('chance_loss', []) if math.isfinite(v)]
  drawn, notes = {}, {}
  for name in sorted(series, key=lambda name: (_rank(name), name)):
    x, y = np.array(series[name], float).T
    protocol, _, column = name.rpartition('/')
    finite = np.isfinite(y)
    if finite.sum() < 2 or column in COLUMNS[1:]:
      continue
    levels, percent = [], name in words.FRACTIONS
    if column == 'learned':
      heading = f'{words.protocol(protocol)} ({protocol})'
      levels = [
        (c, metrics[f'{protocol}/{c}']) for c in COLUMNS[1:] if f'{protocol}/{c}' in metrics
      ]
      percent = bool((y[finite] <= 1).all())
    else:
      heading = words.metric(name)
    if name == 'loss' and chance:
      levels = [('chance', chance[-1])]
    if not finite.all():
      notes[heading] = f'{(~finite).sum()} not finite, the first at step {x[~finite][0]:.0f}'
    # Schedules and shares start at or fall to nothing, which a logarithm would blow up.
    wide = y[finite].min() > 0 and y[finite].max() > 30 * y[finite].min()
    log = bool(wide) and not percent and 'rate' not in name
    drawn[heading] = plots.curve(heading, x, y, levels=levels, log=log, percent=percent)
  if not drawn:
    return Markup()
  said = 'The loss should fall and settle'
  said += ', and probes rise above the dashed baselines' if probes(metrics) else ''
  said += '; where there are many steps, the shade is their range and the line their mean.'
  return page.section('Training', page.figure(page.panels(drawn, notes), said))


def _rank(name: str) -> int:
  """Loss first, then probes, then the metrics words.py knows in its order, then others."""
  if name == 'loss':
    return 0
  if name.endswith('/learned'):
    return 1
  known = list(words.METRICS)
  return 2 + known.index(name) if name in known else 2 + len(known)


def facts(summary: dict) -> Markup:
  """Everything the summary says but the metrics."""
  say = {key: say for key, _, say in _MEASURED}
  rows = []
  for key, value in summary.items():
    if isinstance(value, dict) and key != 'metrics':
      value = ', '.join(f'{name} {v}' for name, v in value.items())
    if key != 'about' and isinstance(value, (str, numbers.Real)):
      value = say[key](value) if key in say else value
      long = isinstance(value, str) and len(value) > 20 and ' ' not in value
      rows.append([tag('th', key.replace('_', ' ')), tag('code', value) if long else value])
  return page.section('The run', page.table([], rows, cls='facts')) if rows else Markup()


def config_table(config: dict) -> Markup:
  """Every field, folded away."""

  def flat(tree, prefix=''):
    for key, value in tree.items():
      if isinstance(value, dict) and value:
        yield from flat(value, f'{prefix}{key}.')
      else:
        yield f'{prefix}{key}', value

  rows = [[tag('code', name), tag('code', value)] for name, value in flat(config)]
  if not rows:
    return Markup()
  inside = tag('details', tag('summary', f'{len(rows)} fields'), page.table([], rows))
  return page.section('Config', inside)
