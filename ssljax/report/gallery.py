"""The sections made of pictures: views, maps, neighbours, spectrum, pictures of the method."""

import numpy as np

from ssljax.report import embed2d, page, plots, words
from ssljax.report.page import Markup, tag

ROWS, COLUMNS, NEIGHBOURS = 8, 12, 8
MAP_POINTS = 1500


def views(arrays) -> Markup:
  """Views [n, V, H, W, C], or {name: such}."""
  named = arrays if isinstance(arrays, dict) else {'': [] if arrays is None else arrays}
  named = {name: np.asarray(x)[:ROWS] for name, x in named.items() if np.size(x)}
  grids = [
    page.join(
      [
        tag('h3', name) if len(named) > 1 else '',
        page.tile_rows([list(row[:COLUMNS]) for row in x]),
      ]
    )
    for name, x in named.items()
  ]
  several = any(x.shape[1] > 1 for x in named.values())
  said = 'Tiles side by side are random views of one image' if several else 'A view of each image'
  said += ', as training sees them: they should vary, and still show what the image shows.'
  return page.section('Views', page.figure(page.join(grids), said)) if grids else Markup()


def pictures(named, heading='What the method makes') -> Markup:
  """{title: [n, k, H, W, C]}; a title names the k pictures of an image."""
  done = []
  for title, array in (named or {}).items():
    array = np.asarray(array)[:ROWS, :COLUMNS]
    if array.size:
      grid = page.tile_rows([list(row) for row in array])
      done.append(page.figure(grid, f'For each image, from left to right: {title}.'))
  return page.section(heading, *done)


BLOCKS = {
  'attention_distance': (
    'attention distance, pixels',
    'how far from a patch the patches lie that it attends to',
  ),
  'attention_nmi': (
    'attention depends on the query',
    'normalised mutual information of query and key: 0 where all patches attend to the same',
  ),
  'high_frequency': (
    'high frequencies',
    'log amplitude of the tokens at the highest frequency, less that at zero',
  ),
}


def blocks(numbers) -> Markup:
  """{name of BLOCKS: [depth]}."""
  named = {BLOCKS[name]: np.asarray(y) for name, y in (numbers or {}).items()}
  drawn = {
    title: plots.curve(title, np.arange(1, len(y) + 1), y, xlabel='block')
    for (title, _), y in named.items()
    if len(y) > 1
  }
  said = '; '.join(f'{title}: {what}' for title, what in named)
  said += '. Contrastive methods look far, at the same places whatever the query, and keep low '
  said += 'frequencies in late blocks; masked modelling does the opposite (Park et al. 2023).'
  return (
    page.section('Block by block', page.figure(page.panels(drawn), said)) if drawn else Markup()
  )


def maps(x: np.ndarray, label, classes) -> Markup:
  """PCA, t-SNE and, where there is one, UMAP of a sample of features."""
  if len(x) < 3:
    return Markup()
  chosen = embed2d.sample(len(x), MAP_POINTS)
  x, label = embed2d.unit(x[chosen]), None if label is None else label[chosen]
  if embed2d.is_constant(x):
    said = 'All features point the same way: the encoder has collapsed, and there is no map.'
    return page.section('Feature map', tag('p', said))
  colours, legend = _colours(label, len(x), classes)
  drawn = {name: plots.scatter(name, points, colours) for name, points in embed2d.maps(x).items()}
  said = f'{len(x):,} examples, their features scaled to length 1'
  said += ' and coloured by class' if label is not None else ''
  said += ': good features put like with like, in groups that come apart; the distance between '
  said += 'groups means little outside PCA.'
  return page.section(
    'Feature map', page.figure(page.join([page.panels(drawn), legend]), said, cls='map')
  )


def _colours(label, count, classes):
  """A colour for each example, and the legend."""
  if label is None:
    return ['var(--accent)'] * count, Markup()
  present = [int(c) for c in np.unique(label) if c >= 0]
  colour = dict(zip(present, plots.palette(len(present)), strict=True))
  legend = [
    tag('span', tag('i', style=f'background:{c}'), class_name(k, classes))
    for k, c in colour.items()
  ]
  if len(present) > 30:
    legend = [f'{len(present)} classes']
  return [colour.get(int(k), 'var(--line)') for k in label], tag('div', *legend, cls='legend')


def class_name(k: int, classes) -> str:
  return str(classes[k]) if classes is not None and 0 <= k < len(classes) else str(k)


def neighbours(x: np.ndarray, label, classes, images) -> Markup:
  """Some images and those nearest to them by the cosine of their features."""
  if images is None or min(len(images), len(x)) < 2 or images.ndim != 4:
    return Markup()
  count = min(len(images), len(x))
  x, label = x[:count], None if label is None else label[:count]
  queries = _spread(label, count)
  nearest, cosine = embed2d.neighbours(x, queries, NEIGHBOURS)
  rows, kinds, titles = [], [], []
  for q, found, cosines in zip(queries, nearest, cosine, strict=True):
    rows.append([images[i] for i in (q, *found)])
    named = ['' if label is None else class_name(int(label[i]), classes) for i in (q, *found)]
    kinds.append(['query'] + [_kind(label, q, i) for i in found])
    titles.append([f'query {named[0]}'.strip()])
    titles[-1] += [f'{n} {c:.2f}'.strip() for n, c in zip(named[1:], cosines, strict=True)]
  said = 'Each row: an image and the eight nearest to it by the cosine of their features'
  if label is not None:
    same = np.mean([k == 'same' for row in kinds for k in row[1:]])
    said += f', green of its class, dashed orange of another: here {100 * same:.0f}% are green'
  grid = page.tile_rows(rows, kinds, titles)
  return page.section('Nearest neighbours', page.figure(grid, said + '.'))


def _spread(label, count):
  """Random examples, of as many classes as there are."""
  order = embed2d.sample(count, count)
  if label is None:
    return order[:ROWS]
  turn = np.zeros(count, int)  # how many of its class come before each
  for c in np.unique(label):
    mine = label[order] == c
    turn[mine] = np.arange(mine.sum())
  chosen = order[np.argsort(turn, kind='stable')[:ROWS]]
  return chosen[np.argsort(label[chosen], kind='stable')]


def _kind(label, query, other):
  if label is None or label[query] < 0:
    return ''
  return 'same' if label[query] == label[other] else 'other'


def spectrum(x: np.ndarray) -> Markup:
  """Singular values of the centred features and the variance they add up to."""
  if len(x) < 3 or x.shape[1] < 2 or embed2d.is_constant(x):
    return Markup()
  values = embed2d.spectrum(x[embed2d.sample(len(x), MAP_POINTS)])
  index, share = np.arange(1, len(values) + 1), np.cumsum(values**2) / np.sum(values**2)
  # Below float32's precision there is only noise.
  shown = np.where(values > 1e-7, values, np.nan)
  drawn = {
    'singular values, of the largest': plots.curve(
      'singular values', index, shown, xlabel='direction', log=True
    ),
    'variance in the first directions': plots.curve(
      'variance', index, share, xlabel='directions', percent=True
    ),
  }
  most = int(np.searchsorted(share, 0.9)) + 1
  said = f'{most} of {x.shape[1]} directions hold 90% of the variance: a slow decay uses the whole '
  said += 'space, a cliff is (dimensional) collapse.'
  return page.section('Spectrum', page.figure(page.panels(drawn), said))


def confusion(x: np.ndarray, label, classes) -> Markup:
  """Which classes lie among which, by the 20 nearest neighbours."""
  if label is None:
    return Markup()
  labelled = np.flatnonzero(label >= 0)
  chosen = labelled[embed2d.sample(len(labelled), MAP_POINTS)]
  if len(np.unique(label[chosen])) < 2 or len(chosen) < 3:
    return Markup()
  present, share = embed2d.confusion(x[chosen], label[chosen])
  names = [class_name(int(c), classes) for c in present]
  said = 'Of each class (row), the share in per cent whose 20 nearest others are mostly of the '
  said += 'class above: the diagonal should be dark, and what lies beside it is taken for another.'
  if len(names) <= 16:
    rows = [
      [tag('th', name)]
      + [tag('td', f'{100 * v:.0f}' if v >= 0.005 else '', style=f'--a:{0.7 * v:.2f}') for v in row]
      for name, row in zip(names, share, strict=True)
    ]
    table = page.table(['', *names], rows, cls='confusion')
  else:
    off = share - np.diag(np.diag(share))
    worst = np.argsort(-off, axis=None)[:12]
    pairs = [np.unravel_index(i, off.shape) for i in worst if off.flat[i] > 0]
    rows = [[tag('th', names[i]), names[j], words.score(off[i, j])] for i, j in pairs]
    table = page.table(['class', 'lies among', 'share'], rows)
    said = 'The pairs of classes that are most often mixed up by the 20 nearest neighbours.'
  return page.section('Classes among classes', page.figure(table, said))
