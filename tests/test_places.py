"""Places of patches in an image and in another view of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import ops
from ssljax.errors import InputError


def test_one_patch_of_every_window_at_every_corner():
  grid, window = (5, 7), 2
  sample = jax.jit(jax.vmap(lambda key: ops.stratified_places(key, grid, window)))
  found = np.asarray(sample(jax.random.split(jax.random.key(0), 64)))
  assert found.shape == (64, 6)
  tops, seen = set(), np.zeros(35, bool)
  for places in found:
    seen[places] = True
    rows, columns = places // 7, places % 7
    fits = [
      (top, left)
      for top in (0, 1)
      for left in (0, 1)
      if len({((r - top) // 2, (c - left) // 2) for r, c in zip(rows, columns, strict=True)}) == 6
      and rows.min() >= top and rows.max() < top + 4
      and columns.min() >= left and columns.max() < left + 6
    ]  # fmt: skip
    assert fits
    if len(fits) == 1:
      tops.add(fits[0])
  assert tops == {(0, 0), (0, 1), (1, 0), (1, 1)} and seen.all()


def test_a_window_larger_than_the_grid_is_an_error():
  with pytest.raises(InputError, match='window is 4'):
    ops.stratified_places(jax.random.key(0), (3, 5), 4)


@pytest.mark.parametrize('flips', [(False, False), (True, False), (False, True), (True, True)])
def test_another_view_is_read_at_the_same_places_of_the_image(flips):
  grid = (4, 5)
  mine, other = (jnp.array([3.0, 2.0, 20.0, 30.0]), jnp.array([8.0, 1.0, 25.0, 22.0]))
  places = jnp.arange(20)
  points = ops.image_places(places, grid, mine, flips[0])
  assert float(points[0, 0]) == 3 and float(points[-1, 0]) == 22
  assert float(points[0, 1]) == (31 if flips[0] else 2)
  weights, inside = ops.place_weights(points, grid, other, flips[1])
  # Reading where the other view's patches lie must give where these lie: bilinear is exact there.
  read = weights @ ops.image_places(places, grid, other, flips[1])
  np.testing.assert_allclose(read[inside], points[inside], rtol=1e-5)
  within = (points > other[:2]).all(1) & (points < other[:2] + other[2:] - 1).all(1)
  np.testing.assert_array_equal(inside, within)
  assert 0 < inside.sum() < 20
  np.testing.assert_allclose(weights.sum(1), inside, rtol=1e-6)
