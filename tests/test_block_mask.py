"""Block-wise masks: exact counts, in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import ops
from ssljax.errors import InputError

GRID = 14, 14


@pytest.fixture(scope='module')
def masks():
  counts = jnp.arange(0, 98)
  keys = jax.random.split(jax.random.key(0), len(counts))
  one = jax.jit(jax.vmap(lambda key, count: ops.block_mask(key, GRID, count=count)))
  return np.asarray(one(keys, counts)), np.asarray(counts)


def test_counts_are_exact(masks):
  found, counts = masks
  np.testing.assert_array_equal(found.sum(1), counts)


def test_hidden_patches_lie_together(masks):
  """Far more neighbours of a hidden patch are hidden than if as many were drawn one by one."""
  found, counts = masks
  found, counts = found[30:].reshape(-1, *GRID), counts[30:]
  right = (found[:, :, 1:] & found[:, :, :-1]).sum((1, 2)) / (GRID[0] * (GRID[1] - 1))
  chance = (counts / 196) ** 2
  assert (right > 1.3 * chance).mean() > 0.95


def test_every_patch_is_hidden_at_times(masks):
  found, _ = masks
  assert found.any(0).all() and not found.all(0).any()


def test_mistakes_are_named():
  with pytest.raises(InputError, match='aspect is 0, wanted more than 0 and at most 1'):
    ops.block_mask(jax.random.key(0), GRID, count=3, aspect=0)
