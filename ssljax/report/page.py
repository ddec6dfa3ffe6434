"""Pieces of HTML. Text is escaped here and nowhere else; what is markup already is `Markup`."""

import html
from collections.abc import Iterable

from ssljax.report import tiles
from ssljax.report.style import CSS


class Markup(str):
  """A string that is HTML."""


def text(value) -> Markup:
  """Anything as HTML: escaped, unless it is Markup."""
  return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(parts: Iterable) -> Markup:
  return Markup(''.join(text(part) for part in parts))


def tag(name: str, *content, **attributes) -> Markup:
  """`tag('td', 3, cls='best')` -> <td class="best">3</td>; attributes of None are left out."""
  named = {'class' if k == 'cls' else k: v for k, v in attributes.items() if v is not None}
  inside = ''.join(f' {k}="{html.escape(str(v))}"' for k, v in named.items())
  return Markup(f'<{name}{inside}>{join(content)}</{name}>')


def section(title: str, *content) -> Markup:
  """A section, or nothing where there is no content."""
  return tag('section', tag('h2', title), *content) if any(content) else Markup()


def figure(content: Markup, caption: str, cls: str = '') -> Markup:
  return tag('figure', content, tag('figcaption', caption), cls=cls or None)


def panels(named: dict[str, str], notes: dict[str, str] | None = None) -> Markup:
  """Titled SVGs side by side, as many as the width allows."""
  notes = notes or {}
  return tag(
    'div',
    *(
      tag(
        'div',
        tag('h3', name),
        Markup(svg),
        tag('p', notes[name], cls='note') if name in notes else '',
        cls='panel',
      )
      for name, svg in named.items()
    ),
    cls='panels',
  )


def table(head: list, rows: list[list], cls: str = '') -> Markup:
  """A table that scrolls by itself if it is too wide; cells may be whole <td>."""

  def cell(value):
    whole = isinstance(value, Markup) and value.startswith(('<td', '<th'))
    return value if whole else tag('td', value)

  top = tag('thead', tag('tr', *(tag('th', h) for h in head))) if head else ''
  body = tag('tbody', *(tag('tr', *map(cell, row)) for row in rows))
  return tag('div', tag('table', top, body, cls=cls or None), cls='scroll')


def tile_rows(rows, kinds=None, titles=None) -> Markup:
  """Rows of pictures, short ones side by side; kinds and titles, shaped like rows, are the tiles'
  classes and texts."""
  done = []
  for i, row in enumerate(rows):
    images = []
    for j, image in enumerate(row):
      pixels = 'pixels' if max(image.shape[:2]) <= tiles.PIXELS else ''
      title = titles[i][j] if titles else ''
      attributes = {
        'alt': title,
        'title': title or None,
        'cls': ' '.join(filter(None, (pixels, kinds[i][j] if kinds else ''))) or None,
      }
      # An <img> has no end tag.
      images.append(Markup(tag('img', src=tiles.data_uri(image), **attributes)[: -len('</img>')]))
    done.append(tag('div', *images, cls='row'))
  return tag('div', *done, cls='tiles', style=f'--n:{max(map(len, rows))}')


def document(title: str, *content) -> str:
  """The whole page."""
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
    f'{tag("title", title)}\n<style>{CSS}</style>\n</head>\n'
    f'<body>\n{tag("main", *content)}\n</body>\n</html>\n'
  )
