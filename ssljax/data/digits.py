"""The embedded set: handwritten digits in random places, sizes and colours, with clutter.

The UCI digits that scikit-learn brings (1,797 glyphs of 8x8) are drawn on 32x32 canvases at random
position, size, slant and colours, always lighter than the ground, among fragments of other digits
and noise. Pixels are alike where colours and places are, whatever the digit: raw, they say little
about it. What crops, jitter and greyscale leave as it was says a lot. No network, no files.
"""

import numpy as np
from ml_collections import ConfigDict

from ssljax.data import source
from ssljax.errors import InputError

CANVAS = 32


def get_config(name: str = 'digits') -> ConfigDict:
  """The set's size, difficulty and seed; the same config gives the same pixels."""
  return source.base_config(
    name,
    preset='tiny',
    image_size=CANVAS,
    channels=3,
    mean=(0.4,),
    std=(0.2,),
    seed=0,
    train_size=9000,
    test_size=2000,
    digit_pixels=(16.0, 23.0),  # height of the digit, smallest and largest
    slant=0.35,  # largest shear, columns per row
    clutter=2,  # fragments of other digits in each image
    clutter_strength=(0.2, 0.5),  # of the digit's contrast
    ground=(0.2, 0.5),  # luma of the canvas, from black to white
    contrast=(0.2, 0.4),  # luma of the digit above it
    colour=0.2,  # how far the channels of canvas and ink are from grey, a standard deviation
    noise=0.03,  # standard deviation, of the range from black to white
  )


def load(config: ConfigDict, split: str) -> source.ArraySource:
  """The `train` or `test` split; no glyph, whole or in parts, is in both."""
  check(config, CANVAS)
  mine, label = glyphs(config.seed, split)
  size = config.train_size if split == 'train' else config.test_size
  rng = np.random.default_rng([config.seed, split == 'train'])
  which = np.resize(rng.permutation(len(mine)), size)
  chunks = np.array_split(which, max(1, size // 500))  # small enough to stay in the cache
  image = np.concatenate([_render(mine, rows, rng, config) for rows in chunks])
  return source.ArraySource(
    {'image': image, 'label': label[which].astype(np.int32)},
    tuple(str(digit) for digit in range(10)),
  )


def glyphs(seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
  """Glyphs float32 [n, 8, 8] in [0, 1] of a split, and which digit each is."""
  from sklearn.datasets import load_digits

  drawn, label = load_digits(return_X_y=True)
  drawn = drawn.reshape(-1, 8, 8).astype(np.float32) / 16
  order = np.random.default_rng(seed).permutation(len(drawn))
  held_out = len(drawn) // 5
  mine = order[held_out:] if split == 'train' else order[:held_out]
  return drawn[mine], label[mine]


def check(config, canvas: int) -> None:
  """Raises InputError for a field that nothing can be drawn by on a canvas of that many pixels."""
  source.check_range(
    config, train_size=(2, None), test_size=(1, None), seed=(0, None), clutter=(0, None)
  )
  limits = {'digit_pixels': canvas, 'clutter_strength': 1, 'ground': 1, 'contrast': 1}
  for field, high in limits.items():
    if len(config[field]) != 2 or not 0 < config[field][0] <= config[field][1] <= high:
      raise InputError(
        f'data.{field} is {tuple(config[field])}, wanted two rising values above 0, up to {high}'
      )


def _render(glyphs, which, rng, config) -> np.ndarray:
  """uint8 [n, 32, 32, 3]: the glyphs `which`, each on its own canvas."""
  n = len(which)
  pixels = rng.uniform(*config.digit_pixels, n)
  room = (CANVAS - pixels[:, None]) / 2
  ink = paste(
    glyphs[which],
    CANVAS / 2 - 0.5 + rng.uniform(-1, 1, (n, 2)) * room,
    pixels,
    rng.uniform(-1, 1, n) * config.slant,
    CANVAS,
  )
  return coloured(with_clutter(ink, glyphs, rng, config), rng, config)


def with_clutter(ink, glyphs, rng, config) -> np.ndarray:
  """Ink [n, h, h] in [0, 1] with fragments of glyphs, fainter, wherever they fall."""
  n, canvas = ink.shape[:2]
  for _ in range(config.clutter):
    fragment = glyphs[rng.integers(len(glyphs), size=n)] * _window(rng, n)
    strength = rng.uniform(*config.clutter_strength, n).astype(np.float32)[:, None, None]
    where = rng.uniform(0, canvas, (n, 2))
    pixels, slant = rng.uniform(*config.digit_pixels, n), rng.uniform(-1, 1, n)
    np.maximum(ink, paste(fragment, where, pixels, slant, canvas) * strength, out=ink)
  return ink


def coloured(ink, rng, config) -> np.ndarray:
  """uint8 [n, h, h, 3]: ink in a colour of its own on a darker ground of another, with noise."""
  n = len(ink)
  ground, contrast = rng.uniform(*config.ground, n), rng.uniform(*config.contrast, n)
  luma = np.array([0.299, 0.587, 0.114])
  hues = config.colour * rng.standard_normal((2, n, 3))
  hues -= (hues @ luma)[..., None]  # of no luma of their own
  colours = np.stack([ground, contrast])[..., None] + hues
  ground, contrast = colours.astype(np.float32)[:, :, None, None]
  image = ground + contrast * ink[..., None]
  image += config.noise * rng.standard_normal(image.shape, np.float32)
  return np.round(image.clip(0, 1) * 255).astype(np.uint8)


def _window(rng, n: int, side: int = 4) -> np.ndarray:
  """Masks [n, 8, 8] that keep a random `side` x `side` window."""
  corner = rng.integers(0, 9 - side, (n, 2, 1))
  inside = (np.arange(8) >= corner) & (np.arange(8) < corner + side)
  return (inside[:, 0, :, None] & inside[:, 1, None, :]).astype(np.float32)


def paste(glyphs, centre, pixels, slant, canvas: int) -> np.ndarray:
  """Bilinear drawing of glyphs [n, 8, 8] on canvases [n, canvas, canvas], sheared by `slant`.

  centre: [n, 2] row and column on the canvas. pixels: [n] height and width drawn. A point
  (y, x) of the canvas shows the glyph's (3.5 + (y - cy) / s, 3.5 + (x - cx - slant (y - cy)) / s)
  with s = pixels / 8.
  """
  grid = np.arange(canvas, dtype=np.float32)
  scale = (8 / pixels).astype(np.float32)[:, None]
  dy = grid - centre[:, :1].astype(np.float32)
  dx = grid - centre[:, 1:].astype(np.float32)
  row = 3.5 + dy * scale
  weight = np.maximum(0, 1 - abs(row[..., None] - np.arange(8, dtype=np.float32)))
  rows = np.pad(weight @ glyphs, ((0, 0), (0, 0), (1, 1)))  # [n, canvas, 10], empty at both ends
  shear = (slant.astype(np.float32)[:, None] * dy)[..., None]
  column = (4.5 + (dx[:, None, :] - shear) * scale[..., None]).clip(0, 8.999)
  left = column.astype(np.int64)
  share = column - left
  return (1 - share) * np.take_along_axis(rows, left, 2) + share * np.take_along_axis(
    rows, left + 1, 2
  )
