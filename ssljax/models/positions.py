"""Where a patch is: tables that are added to tokens, and angles by which queries and keys turn."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.errors import InputError


def sincos_positions(rows, columns, dim, *, rows_first=False):
  """Fixed 2-D positions [rows columns, dim], as in MAE.

  The first half of the channels encodes the column x, the second the row y, each as
  [sin(x w_0), sin(x w_1), ..., cos(x w_0), ...] with w_i = 10000^(-i / (dim / 4)); with rows_first
  the row comes first, as in MoCo v3.

  Raises InputError if dim is no multiple of 4.
  """
  if dim % 4:
    raise InputError(f'dim is {dim}, wanted a multiple of 4')
  frequencies = 10000.0 ** (-np.arange(dim // 4) / (dim / 4))
  y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing='ij')
  angles = [v.reshape(-1, 1) * frequencies for v in ((y, x) if rows_first else (x, y))]
  table = np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1)
  return jnp.asarray(table, jnp.float32)


def resize_positions(table, old, new, *, offset=0.0, antialias=False):
  """A table of positions for another grid, by torch's bicubic interpolation.

  Args:
    table: [rows columns, D], for a grid `old` = (rows, columns).
    new: (rows, columns) wanted.
    offset: 0.1 for DINO and DINOv2, whose code adds it to the sizes before it takes the ratio.
    antialias: widen the kernel when the grid shrinks, as torch's option of that name does; its
      cubic then has the constant -0.5 in the place of -0.75.

  Returns:
    [new rows new columns, D], in the dtype of `table`; the table itself if the grids are equal.
  """
  if tuple(old) == tuple(new):
    return table
  rows, columns = (_bicubic_matrix(o, n, offset, antialias) for o, n in zip(old, new, strict=True))
  grid = table.reshape(*old, -1).astype(jnp.float32)
  grid = jnp.einsum('yh,xw,hwd->yxd', rows, columns, grid, precision=jax.lax.Precision.HIGHEST)
  return grid.reshape(-1, table.shape[-1]).astype(table.dtype)


def resize_table(table, rows, **options):
  """A table of first tokens and a square grid, [1 + s^2, D] say, for another grid: [rows, D].

  The first tokens stay as they are. options: of `resize_positions`.

  Raises InputError if the rows are not as many first tokens and another square.
  """
  side = math.isqrt(len(table))
  first = len(table) - side**2
  new = math.isqrt(max(rows - first, 0))
  if first + new**2 != rows or not new:
    raise InputError(
      f'the table of positions has {len(table)} rows, {first} and a grid of {side} x {side}: '
      f'wanted {rows}, but {rows - first} beside the {first} make no square'
    )
  grid = resize_positions(table[first:], (side, side), (new, new), **options)
  return jnp.concatenate([table[:first], grid])


def _bicubic_matrix(old, new, offset, antialias):
  scale = old / (new + offset)
  a, width = (-0.5, max(scale, 1.0)) if antialias else (-0.75, 1.0)
  matrix = np.zeros((new, old))
  for out in range(new):
    center = (out + 0.5) * scale - 0.5
    taps = np.arange(int(np.floor(center - 2 * width)) - 1, int(np.ceil(center + 2 * width)) + 2)
    weights = _cubic(np.abs(taps - center) / width, a)
    if antialias:  # pixels outside do not count
      weights = np.where((taps >= 0) & (taps < old), weights, 0)
      weights /= weights.sum()
    np.add.at(matrix[out], np.clip(taps, 0, old - 1), weights)  # else the border is repeated
  return matrix.astype(np.float32)


def _cubic(x, a):
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = ((x - 5) * x + 8) * x * a - 4 * a
  return np.where(x <= 1, near, np.where(x < 2, far, 0))


def box_coordinates(rows, columns):
  """Centres of the patches of a grid in the box [-1, 1]^2: [rows columns, 2], row then column."""
  y, x = ((2 * np.arange(n) + 1) / n - 1 for n in (rows, columns))
  return np.stack(np.meshgrid(y, x, indexing='ij'), -1).reshape(-1, 2).astype(np.float32)


def jitter_box(rng, coordinates, *, shift=0.0, jitter=1.0, rescale=1.0):
  """Box coordinates moved at random, one draw for all patches (DINOv3, section 3.2).

  shift: both coordinates move by up to this much; jitter: each is stretched by a factor from
  1 / jitter to jitter, log-uniform; rescale: so are both together.
  """
  moves = jax.random.uniform(rng, (5,), minval=-1.0, maxval=1.0)
  stretch = jnp.exp(moves[2:4] * np.log(jitter) + moves[4] * np.log(rescale))
  return (coordinates + shift * moves[:2]) * stretch


def rope_box_angles(coordinates, head_dim, base=100.0):
  """DINOv3's rotary angles of box coordinates [L, 2]: [L, head_dim / 2].

  2 pi (row, column) / base^(2 i / (head_dim / 2)), i from 0 to head_dim / 4 - 1: those of the row
  come first. Channel c turns with channel c + head_dim / 2.
  """
  periods = base ** (np.arange(head_dim // 4) / (head_dim / 4))
  angles = 2 * jnp.pi * coordinates[..., None] / periods
  return angles.reshape(*coordinates.shape[:-1], -1)


def rope_axial_angles(rows, columns, head_dim, base=100.0):
  """CroCo v2's rotary angles of a grid (base 100): [rows columns, 2, head_dim / 4].

  The first half of a head's channels turns with the row, the second with the column, each by
  position / base^(2 i / (head_dim / 2)); in each half, channel c turns with c + head_dim / 4.
  """
  frequencies = base ** (-np.arange(head_dim // 4) / (head_dim / 4))
  grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing='ij'), -1)
  return jnp.asarray(grid.reshape(-1, 2)[..., None] * frequencies, jnp.float32)


def rotate(x, angles):
  """Turns pairs of channels of x [N, L, heads, D] by angles [(N,) L, D/2] or [(N,) L, 2, D/4]."""
  axial = angles.shape[-1] * 4 == x.shape[-1]
  parts = x.reshape(*x.shape[:-1], 2, -1) if axial else x[..., None, :]
  angles = (angles if axial else angles[..., None, :])[..., None, :, :]
  first, second = jnp.split(parts.astype(jnp.float32), 2, axis=-1)
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return turned.reshape(x.shape).astype(x.dtype)
