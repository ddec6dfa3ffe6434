"""Figures as inline SVG that takes its colours and fonts from the page, light or dark."""

import html
import re

import numpy as np

# Stand-ins that matplotlib writes and `_inline` replaces by the page's variables.
_COLOURS = {
  '#010101': 'var(--muted)',
  '#020202': 'var(--line)',
  '#030303': 'var(--accent)',
  '#040404': 'var(--ink)',
}
_MUTED, _LINE, _ACCENT, _INK = _COLOURS
_STYLE = {
  'svg.fonttype': 'none',
  'font.size': 8,
  'text.color': _INK,
  'axes.edgecolor': _LINE,
  'axes.labelcolor': _MUTED,
  'axes.linewidth': 0.8,
  'axes.axisbelow': True,
  'axes.grid': True,
  'axes.grid.axis': 'y',
  'grid.color': _LINE,
  'grid.linewidth': 0.6,
  'xtick.color': _MUTED,
  'ytick.color': _MUTED,
  'xtick.major.size': 0,
  'ytick.major.size': 0,
  'ytick.minor.size': 0,
}


def curve(title, x, y, *, xlabel='step', levels=(), log=False, percent=False):
  """A line as SVG; a long one as its mean and its range in 200 stretches.

  title: unique on the page. levels: (name, value) of horizontal lines. log: logarithmic y axis.
  percent: fractions written as per cent. Values that are not finite are gaps.
  """
  import matplotlib
  from matplotlib.figure import Figure

  scale = 100 if percent else 1
  x, y = np.asarray(x, float), scale * np.asarray(y, float)
  y = np.where(np.isfinite(y), y, np.nan)
  with matplotlib.rc_context(_STYLE | {'svg.hashsalt': title}):
    figure = Figure(figsize=(3.4, 2.0), layout='constrained')
    axes = figure.add_subplot()
    if log:
      axes.set_yscale('log')
    if len(x) > 300:
      x, y, low, high = _stretches(x, y, 200)
      axes.fill_between(x, low, high, color=_ACCENT, alpha=0.2, linewidth=0)
    few = np.isfinite(y).sum() <= 12
    axes.plot(x, y, color=_ACCENT, linewidth=1.4, marker='o' if few else '', markersize=2.5)
    _draw_levels(axes, [(name, scale * value) for name, value in levels])
    _ticks(axes, log, percent)
    axes.set_xlabel(xlabel)
    return _inline(figure, title)


def _stretches(x, y, count):
  """x, mean, minimum and maximum of y over `count` stretches of equally many points."""
  parts = [p for p in np.array_split(np.arange(len(x)), count) if np.isfinite(y[p]).any()]
  stats = [(x[p].mean(), np.nanmean(y[p]), np.nanmin(y[p]), np.nanmax(y[p])) for p in parts]
  return np.array(stats).T


def _draw_levels(axes, levels):
  for i, (name, value) in enumerate(sorted(levels, key=lambda level: level[1])):
    # The lowest name goes below its line, so that two close levels can both be read.
    below = i == 0 and len(levels) > 1
    axes.axhline(value, color=_MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
      name, (1, value), (-2, -2 if below else 2), xycoords=('axes fraction', 'data'),
      textcoords='offset points', ha='right', va='top' if below else 'bottom', color=_MUTED,
      size=7,
    )  # fmt: skip
  if levels:
    axes.margins(y=0.16)


def _ticks(axes, log, percent):
  from matplotlib import ticker

  axes.spines[['top', 'right', 'left']].set_visible(False)
  axes.margins(x=0.02)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
  axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  if log:
    axes.yaxis.set_major_locator(ticker.LogLocator(numticks=5))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
  else:
    axes.yaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
  axes.yaxis.set_major_formatter(lambda v, _: f'{v:.6g}{"%" if percent else ""}'.replace('-', '−'))


def _inline(figure, title):
  """The figure as an <svg> that scales to its column; ids are those of `title` alone."""
  import io

  file = io.StringIO()
  figure.savefig(file, format='svg', transparent=True, metadata={'Date': None})
  svg = file.getvalue()
  svg = svg[svg.index('<svg') :]
  # What the page has no use for, or what would leak into it.
  for pattern in (
    r'<metadata>.*?</metadata>',
    r'<style.*?</style>',
    r'<!--.*?-->',
    r' xmlns(:\w+)?="[^"]*"',
    r'(?<=<g) id="[^"]*"',
    r'(?<=<svg) (width|height)="[^"]*"',
    r' (width|height)="[^"]*pt"',
    r' version="[^"]*"',
  ):
    svg = re.sub(pattern, '', svg, flags=re.DOTALL)
  svg = svg.replace('xlink:href', 'href')
  for stand_in, variable in _COLOURS.items():
    svg = svg.replace(stand_in, variable)
  svg = re.sub(r"'DejaVu Sans'[^;\"]*", 'var(--font)', svg)
  svg = re.sub(r'"[^"]*"', lambda m: re.sub(r'(\d\.\d\d)\d+', r'\1', m[0]), svg)
  svg = re.sub(r'\s*\n\s*', ' ', svg)
  return svg.replace('<svg', f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def palette(count: int) -> list[str]:
  """`count` colours that can be told apart on white and on black."""
  named = ('#4e79a7', '#f28e2b', '#e15759', '#3fa7a0', '#59a14f', '#d4a514', '#b07aa1', '#ff8fa3')
  named += ('#9c755f', '#8c8c8c')
  if count <= len(named):
    return list(named[:count])
  tones = ((65, 50), (45, 62), (80, 42))
  return [
    'hsl({:.0f} {}% {}%)'.format(360 * i / count, *tones[i % len(tones)]) for i in range(count)
  ]


def scatter(title, points, colours):
  """Points [N, 2] as SVG without axes, point i in colours[i].

  One path for all neighbours in the list of one colour: a hundred times smaller than a mark each.
  """
  points = np.asarray(points, float)
  low, span = points.min(0), np.ptp(points, axis=0).max() or 1.0
  low = low - (span - np.ptp(points, axis=0)) / 2  # centred, and equal scales
  xy = 8 + 304 * (points - low) / span
  xy[:, 1] = 320 - xy[:, 1]
  radius = float(np.clip(110 / np.sqrt(len(points)), 3.2, 8))
  # In four layers, so that no class lies on top of all others.
  layers = np.arange(len(points)) * 4 // len(points)
  paths = {}
  for layer, colour, (x, y) in zip(layers, colours, xy, strict=True):
    paths.setdefault((int(layer), colour), []).append(f'M{x:.1f} {y:.1f}h0')
  drawn = ''.join(f'<path stroke="{c}" d="{"".join(d)}"/>' for (_, c), d in paths.items())
  return (
    f'<svg role="img" aria-label="{html.escape(title)}" viewBox="0 0 320 320" fill="none" '
    f'stroke-width="{radius:.1f}" stroke-linecap="round" stroke-opacity="0.75">{drawn}</svg>'
  )
