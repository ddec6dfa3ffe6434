"""Scenes for finding objects: one or two digits on a larger canvas with clutter, and their boxes.

The digits of `digits`, drawn by the same rules on 64x64 canvases: one anywhere, or two, each in a
half of its own. What else is drawn are fragments, fainter than the digits. No glyph of the test
scenes is in the training scenes. No network, no files.
"""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssljax.data import digits, source
from ssljax.errors import InputError

CANVAS = 64


class Scenes(NamedTuple):
  """image: uint8 [N, 64, 64, 3]. boxes: int [n, 4] for each, of 1 or 2 digits, as x, y of the first
  pixel and of the first one beyond. mask: uint8 [N, 64, 64], 0 for ground and clutter, i for digit
  i. label: int32 [N], which digit the first is."""

  image: np.ndarray
  boxes: list[np.ndarray]
  mask: np.ndarray
  label: np.ndarray


def get_config(name: str = 'scenes') -> ConfigDict:
  """As of `digits`, and how many digits a scene has; the same config gives the same pixels."""
  config = digits.get_config(name)
  config.update(
    image_size=CANVAS,
    train_size=4000,
    test_size=1000,
    digit_pixels=(22.0, 36.0),  # at most 30 where there are two
    clutter=4,
    digits=(1, 2),  # fewest and most
    ink=0.3,  # share of its full contrast from which a pixel is the digit's
  )
  return config


def load(config: ConfigDict, split: str) -> source.ArraySource:
  """The images of the `train` or `test` split, labelled by their first digit, without boxes."""
  found = annotated(config, split)
  return source.ArraySource(
    {'image': found.image, 'label': found.label}, tuple(str(digit) for digit in range(10))
  )


def annotated(config: ConfigDict, split: str) -> Scenes:
  """The same scenes with what is in them."""
  digits.check(config, CANVAS)
  low, high = config.digits
  if not 1 <= low <= high <= 2:
    raise InputError(f'data.digits is {tuple(config.digits)}, wanted (fewest, most), each 1 or 2')
  glyphs, label = digits.glyphs(config.seed, split)
  size = config.train_size if split == 'train' else config.test_size
  rng = np.random.default_rng([config.seed, 2 + (split == 'train')])
  which = rng.integers(len(glyphs), size=(size, 2))
  both = rng.integers(low, high + 1, size) == 2
  chunks = np.array_split(np.arange(size), max(1, size // 250))
  drawn = [_render(glyphs, which[rows], both[rows], rng, config) for rows in chunks]
  image, mask = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
  return Scenes(image, [_boxes(m) for m in mask], mask, label[which[:, 0]].astype(np.int32))


def _render(glyphs, which, both, rng, config):
  n = len(which)
  pixels = rng.uniform(*config.digit_pixels, (n, 2))
  pixels[both] = np.minimum(pixels[both], 30)
  inks = []
  centre = _places(rng, both, pixels)
  for i in range(2):
    slant = rng.uniform(-1, 1, n) * config.slant
    ink = digits.paste(glyphs[which[:, i]], centre[:, i], pixels[:, i], slant, CANVAS)
    inks.append(ink if i == 0 else ink * both[:, None, None])
  mask = np.argmax([np.full_like(inks[0], config.ink), *inks], axis=0).astype(np.uint8)
  ink = digits.with_clutter(np.maximum(*inks), glyphs, rng, config)
  return digits.coloured(ink, rng, config), mask


def _places(rng, both, pixels):
  """Centres [n, 2, 2], row and column: of one digit anywhere, of two each in a half of its own."""
  n = len(both)
  within = np.full((n, 2, 2), float(CANVAS))  # what each has room in, high and wide
  start = np.zeros((n, 2, 2))
  along, order = rng.integers(2, size=n), rng.integers(2, size=n)
  rows = np.flatnonzero(both)
  within[rows, :, along[rows]] /= 2
  start[rows, order[rows], along[rows]] = CANVAS / 2
  room = within - pixels[..., None]
  return start + within / 2 - 0.5 + rng.uniform(-0.5, 0.5, room.shape) * np.maximum(room, 0)


def _boxes(mask):
  found = []
  for i in range(1, mask.max() + 1):
    rows, columns = (np.flatnonzero((mask == i).any(axis)) for axis in (1, 0))
    found.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
  return np.array(found)
