"""Objects of a page, against SciPy and on a page that we print."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from ssljax import ops
from ssljax.errors import InputError

EIGHT = np.ones((3, 3))


def wanted_objects(mask, count):
  """SciPy's components of the mask with its holes filled, in the order of their first places."""
  label, _ = ndimage.label(ndimage.binary_fill_holes(mask), EIGHT)
  order = [i for i in dict.fromkeys(label.ravel()) if i]
  parts = [label == i for i in order[:count]]
  blank = [np.zeros(mask.shape, bool)] * (count - len(parts))
  return np.array(parts + blank), np.arange(count) < len(order)


def test_objects_are_scipys_components():
  rng = np.random.default_rng(0)
  masks = np.concatenate([rng.random((20, 9, 11)) < p for p in (0.0, 0.15, 0.35, 0.6, 1.0)])
  found, real = jax.jit(jax.vmap(lambda m: ops.objects(m, 6)))(masks)
  for mask, parts, some in zip(masks, found, real, strict=True):
    parts_wanted, some_wanted = wanted_objects(mask, 6)
    np.testing.assert_array_equal(parts, parts_wanted)
    np.testing.assert_array_equal(some, some_wanted)
  assert len(set(np.asarray(real).sum(1))) > 4


def test_a_winding_object_is_one_and_what_lies_in_a_ring_belongs_to_it():
  snake = np.zeros((9, 9), bool)
  snake[::2] = True
  snake[1::4, -1] = snake[3::4, 0] = True
  parts, real = ops.objects(jnp.array(snake), 3)
  assert real.tolist() == [True, False, False] and not parts[1:].any()
  ring = np.zeros((9, 9), bool)
  ring[1:8, 1:8] = True
  ring[2:7, 2:7] = False
  ring[4, 4] = True
  parts, real = ops.objects(jnp.array(ring), 3)
  assert real.sum() == 1 and int(parts[0].sum()) == 49


@pytest.mark.parametrize(('kernel', 'iters'), [(3, 2), (5, 1), (3, 0)])
def test_layout_mask_is_ink_grown(kernel, iters):
  image = np.random.default_rng(1).random((20, 24, 3)).astype(np.float32)
  image[image.mean(-1) > 0.3] = 1.0
  ink = image @ np.array([0.299, 0.587, 0.114]) <= 0.9
  if iters:
    ink = ndimage.binary_dilation(ink, np.ones((kernel, kernel)), iterations=iters)
  seen = ops.layout_mask(jnp.array(image), (10, 8), threshold=0.9, kernel=kernel, iters=iters)
  np.testing.assert_array_equal(seen, ink[::2, ::3])
  assert 0 < ink.mean() < 1


def test_blocks_of_a_printed_page_are_found():
  # Lines of letters, two columns and a figure: what the mask should cover is the blocks.
  rng = np.random.default_rng(2)
  page, truth = np.ones((96, 96, 3), np.float32), np.zeros((96, 96), bool)
  blocks = [(6, 8, 36, 34), (6, 54, 36, 34), (56, 8, 30, 80)]
  for top, left, height, width in blocks:
    truth[top : top + height, left : left + width] = True
    for row in range(top, top + height, 3):
      page[row : row + 2, left : left + width] = rng.random((2, width, 1)) < 0.4
  seen = np.asarray(ops.layout_mask(jnp.array(page), (96, 96)))
  iou = (seen & truth).sum() / (seen | truth).sum()
  assert iou > 0.7 > 2 * truth.mean() * (1 - truth.mean())
  parts, real = ops.objects(jnp.array(seen), 8)
  assert int(real.sum()) == 3
  for (top, left, height, width), part in zip(blocks, parts, strict=False):
    assert part[top + height // 2, left + width // 2]


def test_a_kernel_without_a_centre_is_an_error():
  with pytest.raises(InputError, match='kernel is 2'):
    ops.layout_mask(jnp.ones((8, 8, 3)), (8, 8), kernel=2)
