"""Where the objects of a page are, by classic image processing."""

import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.ops._check import check_shape

GREY = (0.299, 0.587, 0.114)


def layout_mask(image, grid, *, threshold=239 / 255, kernel=3, iters=2):
  """What is printed on a bright page, its letters and lines grown together.

  Places not brighter than `threshold` are ink; ink grows `iters` times by a square of `kernel`
  pixels (the page is eroded), and the grid takes the nearest pixels of that.

  Args:
    image: [H, W, C] in [0, 1]; three channels are made grey, of any other number the mean is taken.
    grid: (h, w) of the mask.
    threshold: the brightest ink, in [0, 1].
    kernel: side of the square by which ink grows in one round, in pixels, odd.
    iters: rounds.

  Returns:
    bool [h, w], True where there is ink.

  Raises:
    InputError: the image is not [H, W, C], or the kernel has no centre.

  Reference: SelfDocSeg (https://arxiv.org/abs/2305.00795), Section 3.1; `process` of its code.
  """
  check_shape('image', image, ('H', 'W', 'C'))
  if kernel < 1 or kernel % 2 == 0:
    raise InputError(f'kernel is {kernel} pixels, wanted an odd number')
  grey = image @ jnp.array(GREY) if image.shape[2] == 3 else image.mean(-1)
  ink = grey <= threshold
  reach = iters * (kernel - 1) + 1  # squares grown from squares are squares
  ink = lax.reduce_window(ink, False, lax.bitwise_or, (reach, reach), (1, 1), 'SAME')
  rows, columns = (jnp.arange(n) * old // n for n, old in zip(grid, ink.shape, strict=True))
  return ink[rows][:, columns]


def objects(mask, count):
  """The separate objects of a mask, holes filled.

  Places that touch, by a side or a corner, are one object; what lies in a hole belongs to the
  object around it. They come in the order of their first places, row by row; only the first `count`
  are given. The second array says which there are; the others are empty.

  Args:
    mask: bool [h, w].
    count: how many objects are given at most.

  Returns:
    (objects, found): bool [count, h, w], a mask of each, and bool [count].

  Raises:
    InputError: `mask` is not [h, w].

  Reference: SelfDocSeg (https://arxiv.org/abs/2305.00795), Section 3.1: the outer contours that
  `cv2.findContours` gives, filled.
  """
  check_shape('mask', mask, ('h', 'w'))
  height, width = mask.shape
  inner = jnp.zeros_like(mask).at[1:-1, 1:-1].set(True)

  def leak(outside):
    up = jnp.pad(outside, 1)
    beside = up[:-2, 1:-1] | up[2:, 1:-1] | up[1:-1, :-2] | up[1:-1, 2:]
    return ~mask & (outside | beside)

  filled = ~_until_still(leak, ~mask & ~inner)
  none = height * width
  index = jnp.arange(none).reshape(mask.shape)

  def join(label):
    least = lax.reduce_window(label, none, lax.min, (3, 3), (1, 1), 'SAME')
    return jnp.where(filled, least, none)

  label = _until_still(join, jnp.where(filled, index, none))
  first = jnp.sort(jnp.where(filled & (label == index), index, none).reshape(-1))
  first = jnp.pad(first, (0, max(0, count - none)), constant_values=none)[:count]
  found = first < none
  return (label == first[:, None, None]) & found[:, None, None], found


def _until_still(step, x):
  def moves(pair):
    return jnp.any(pair[0] != pair[1])

  return lax.while_loop(moves, lambda pair: (step(pair[0]), pair[0]), (step(x), x))[0]
