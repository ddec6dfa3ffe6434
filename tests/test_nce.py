"""What of the memory, the jigsaw and the kernels no common suite sees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import losses, ops
from ssljax.augment import jigsaw
from ssljax.errors import InputError


@pytest.mark.parametrize('chunk_size', [None, 3])
def test_the_gaussian_kernel_is_nt_xent(chunk_size):
  z1, z2 = np.random.default_rng(0).normal(size=(2, 10, 8)).astype(np.float32)
  kernel = functools.partial(
    losses.kernel_info_nce,
    kernel='exponential',
    gamma=2.0,
    temperature=0.4,
    chunk_size=chunk_size,
  )
  nt_xent = functools.partial(losses.nt_xent, temperature=0.2)
  with jax.enable_x64(True):
    arrays = jnp.float64(z1), jnp.float64(z2)
    seen, wanted = (jax.value_and_grad(f, argnums=(0, 1))(*arrays) for f in (kernel, nt_xent))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), seen, wanted)
  np.testing.assert_allclose(kernel(z1, z2), nt_xent(z1, z2), rtol=1e-6)


def test_mixtures_of_one_kernel_with_itself_are_that_kernel():
  z1, z2 = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
  one = losses.kernel_info_nce(z1, z2, kernel='exponential', gamma=2.0)
  for mixture in ('losses', 'kernels'):
    both = losses.kernel_info_nce(z1, z2, gamma=2.0, weight=0.3, mixture=mixture)
    np.testing.assert_allclose(both, one, rtol=1e-6)


@pytest.mark.parametrize(
  ('fields', 'sentence'),
  [
    ({'kernel': 'cosine'}, "kernel is 'cosine', wanted one of exponential, sum, concatenation"),
    ({'mixture': 'both'}, "mixture is 'both', wanted one of losses, kernels"),
    ({'weight': 1.0}, 'weight is 1.0, wanted between 0 and 1'),
    ({'gamma': 0}, 'gamma is 0, wanted more than 0'),
    ({'kernel': 'concatenation'}, 'z1 has 3 dimensions, wanted an even number'),
  ],
)
def test_kernel_mistakes_are_named(fields, sentence):
  z = np.zeros((4, 3), np.float32)
  with pytest.raises(InputError, match=sentence):
    losses.kernel_info_nce(z, z, **fields)


def test_memory_mistakes_are_named():
  z, bank = np.zeros((4, 3), np.float32), np.zeros((9, 3), np.float32)
  with pytest.raises(InputError, match=r'candidates has shape \(3, 2\), wanted \(4, 1 \+ M\)'):
    losses.nce(z, bank, np.zeros((3, 2), int), normalizer=1.0)
  with pytest.raises(InputError, match='topk is 10, wanted 1 to 9'):
    losses.mls(z, z, bank, bank, topk=10)
  with pytest.raises(InputError, match="form is 'square', wanted one of hinge, logistic"):
    losses.curl(z, z[:, None], z[:, None, None], form='square')


def test_constant_embeddings_score_chance_and_the_normalizer_stays():
  z = ops.l2_normalize(np.ones((8, 5), np.float32))
  bank = ops.l2_normalize(np.ones((20, 5), np.float32))
  candidates = np.random.default_rng(0).integers(0, 20, (8, 1 + 6))
  z_constant = losses.nce_normalizer(z, bank, candidates, -1.0)
  np.testing.assert_allclose(z_constant, 20 * np.exp(1 / 0.07), rtol=1e-5)
  assert losses.nce_normalizer(z, bank, candidates, jnp.float32(7)) == 7
  loss = losses.nce(z, bank, candidates, normalizer=z_constant)
  np.testing.assert_allclose(loss, 7 * np.log(7) - 6 * np.log(6), rtol=1e-5)


def test_remembered_rows_are_of_length_one_and_others_stay():
  bank, rows = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
  moved = ops.remember(jnp.asarray(bank), np.array([4, 1]), rows[:2], 0.5, unit=True)
  np.testing.assert_allclose(moved[4], ops.l2_normalize(bank[4] + rows[0]), rtol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(moved[np.array([1, 4])], axis=1), 1, rtol=1e-6)
  np.testing.assert_array_equal(moved[np.array([0, 2, 3, 5])], bank[[0, 2, 3, 5]])


def test_of_rows_with_one_index_the_last_is_remembered():
  bank, rows = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
  index = np.array([3, 1, 3, 0, 1, 3])
  remember = jax.jit(ops.remember)
  moved = remember(bank, index, rows, 0.5)
  for place, last in {0: 3, 1: 4, 3: 5}.items():
    np.testing.assert_allclose(moved[place], (bank[place] + rows[last]) / 2, rtol=1e-6)
  np.testing.assert_array_equal(moved[np.array([2, 4, 5])], bank[[2, 4, 5]])
  # CPUs write in order, others need not: no place may be written twice.
  assert 'unique_indices = true' in remember.lower(bank, index, rows, 0.5).as_text()


def test_a_jigsaw_has_a_patch_of_every_cell_in_random_order():
  # Each pixel tells its place, and at scale 1 nothing but the whole fits.
  y, x = np.mgrid[:30, :30] / 30
  images = np.repeat(np.stack([y, x, 0 * x], -1)[None].astype(np.float32), 8, axis=0)
  patches = jigsaw.make(size=30, grid=3, jitter=2, scale=(1.0, 1.0))(jax.random.key(0), images)
  assert patches.shape == (8, 9, 8, 8, 3)
  corner = np.rint(30 * np.asarray(patches[:, :, 0, 0, :2])).astype(int)
  assert set(np.unique(corner % 10)) == {0, 1}, 'the jitter is 0 or 1 pixels'
  cells = 3 * (corner[..., 0] // 10) + corner[..., 1] // 10
  np.testing.assert_array_equal(np.sort(cells), np.tile(np.arange(9), (8, 1)))
  assert len({tuple(row) for row in cells}) == 8, 'one order for all'
  # Inside, a patch is as it was: one pixel down is 1/30 more.
  down = np.asarray(patches[:, :, 1:, :, 0] - patches[:, :, :-1, :, 0])
  np.testing.assert_allclose(down, 1 / 30, atol=1e-5)
  with pytest.raises(InputError, match='jigsaw.jitter is 10, wanted 0 to 9'):
    jigsaw.make(size=30, grid=3, jitter=10)
