"""Pictures of patches show what is in the features: attention, components, matches."""

import numpy as np
import pytest

from ssljax import config, looking, program, sharding
from ssljax.data import digits
from ssljax.errors import InputError
from ssljax.report import patches

GRID = 6, 6


def tokens(n=8, dim=12, noise=0.05, seed=0):
  """Patches of an object of two halves somewhere on a ground that is each image's own."""
  rng = np.random.default_rng(seed)
  axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
  where = np.zeros((n, *GRID), int)
  for mask in where:
    top, left = rng.integers(1, 3, 2)
    mask[top : top + 2, left : left + 2], mask[top + 2, left : left + 2] = 1, 2
  ground = 3 * rng.normal(size=(n, 1, 1, dim)) @ np.diag(np.arange(dim) > 5)
  objects = np.stack([0 * axes[0], 2 * axes[0] + axes[1], 2 * axes[0] - axes[1]])
  x = ground + objects[where] + noise * rng.normal(size=(*where.shape, dim))
  return x.reshape(n, -1, dim).astype(np.float32), where


def test_class_attention_is_the_row_of_the_class_token():
  rng = np.random.default_rng(0)
  q, k = rng.normal(size=(2, 3, 38, 2, 4)).astype(np.float32)  # class token, a register, 36 patches
  found = patches.class_attention((q, k), GRID)
  scores = np.einsum('nhd,nkhd->nhk', q[:, 0], k) / 2
  wanted = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  np.testing.assert_allclose(found.reshape(3, 2, 36), wanted[..., 2:], rtol=1e-4)
  all_of_them = patches.class_attention((q, k), GRID, class_token=False)
  assert all_of_them.shape == found.shape and not np.allclose(all_of_them, found)


def test_components_colour_objects_alike_in_all_images():
  x, where = tokens()
  colours = patches.pca_rgb(patches.within(x), GRID, foreground=True)
  assert colours.shape == (8, *GRID, 3) and colours.min() >= 0 and colours.max() <= 1
  black = (colours == 0).all(-1)
  np.testing.assert_array_equal(black, where == 0)
  first, second = (colours[where == part] for part in (1, 2))
  apart = np.abs(first.mean(0) - second.mean(0)).max()
  assert apart > 0.5 and first.std(0)[np.argmax(np.abs(first.mean(0) - second.mean(0)))] < apart / 3


@pytest.mark.parametrize('foreground', [False, True])
def test_features_without_differences_make_a_plain_picture(foreground):
  for x in (np.zeros((2, 36, 4)), np.ones((2, 36, 1))):
    assert not patches.pca_rgb(x, GRID, foreground=foreground).any()
  narrow = patches.pca_rgb(np.random.default_rng(0).normal(size=(2, 36, 1)), GRID)
  assert narrow.shape == (2, *GRID, 3) and np.isfinite(narrow).all()


def test_matches_of_a_permutation_are_found():
  x = np.random.default_rng(0).normal(size=(36, 8))
  order = np.random.default_rng(1).permutation(36)
  index, cosine, mutual = patches.match(x, x[order])
  np.testing.assert_array_equal(order[index], np.arange(36))
  np.testing.assert_allclose(cosine, 1, rtol=1e-5)
  assert mutual.all()
  _, _, mutual = patches.match(np.ones((3, 2)), np.ones((3, 2)))
  np.testing.assert_array_equal(mutual, [True, False, False])


def test_an_image_is_pieced_together_from_itself():
  rng = np.random.default_rng(0)
  image, x = rng.random((24, 24, 3)), rng.normal(size=(36, 8))
  a, b, pieced = patches.matched(image, image, x, x, GRID, np.arange(36.0))
  assert a.shape == (96, 96, 3)
  np.testing.assert_array_equal(pieced, image.repeat(4, 0).repeat(4, 1))
  np.testing.assert_array_equal(a, b)
  changed = (a != pieced).any(-1).reshape(6, 16, 6, 16).any((1, 3))
  assert changed.sum() == len(patches.MARKS) and changed[5, 5]  # the heaviest patch is framed


def test_a_run_with_a_vit_is_looked_at():
  c = config.get_config('mae,digits')
  c.encoder.depth, c.batch_size = 2, 8
  c.data.update(train_size=8, test_size=12)
  source = digits.load(c.data, 'test')
  run = program.make_program(c, sharding.make_mesh(), source, steps=1)
  import jax

  state, images = run.init(jax.random.key(0)), source.arrays['image']
  see = looking.make(c, state, run.mesh, lambda out: (out['tokens'], out['cls']), batch_size=8)
  seen, cls = see(images)
  embedded = run.embed(state.params, state.state, {'image': images[:8], 'index': np.arange(8)})
  np.testing.assert_allclose(cls[:8], embedded['cls'], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(see(images[8:])[0], seen[8:], rtol=1e-4, atol=1e-5)
  wide = np.concatenate([images, images], axis=2)
  assert see(wide)[0].shape == (12, 8 * 16, 64) and looking.grid_of(c, wide) == (8, 16)
  by_block = looking.make(c, state, run.mesh, lambda out: out['layers'])(images[:8])
  for i, tokens in enumerate(by_block, 1):  # the class token is not of the patches
    np.testing.assert_allclose(embedded[f'block_{i}'], tokens[:, 1:].mean(1), rtol=1e-4, atol=1e-5)
  assert not np.allclose(embedded['block_1'], embedded['block_2'], atol=1e-2)
  large = images.repeat(2, 1).repeat(2, 2)
  assert looking.at_best_size(c, large) is large
  for other in (wide, large.repeat(2, 1).repeat(2, 2)):  # not square; four times the side
    assert looking.at_best_size(c, other).shape == images.shape
  shown, numbers = looking.look(c, state, run.mesh, images, cls)
  assert [x.shape[1] for x in shown.values()] == [5, 3, 3]
  assert all(len(x) == 8 and x.min() >= 0 and x.max() <= 1 for x in shown.values())
  assert {name: len(x) for name, x in numbers.items()} == dict.fromkeys(
    ('attention_distance', 'attention_nmi', 'high_frequency'), 2
  )
  larger, measured = looking.look(c, state, run.mesh, large, cls)
  assert [x.shape[2] for x in larger.values()][:2] == [2 * images.shape[1]] * 2
  _, wanted = looking.look(c, state, run.mesh, looking.at_view_size(c, large), cls)
  for name, values in wanted.items():  # numbers are those of the size of training
    np.testing.assert_allclose(measured[name], values, rtol=1e-5)
  resnet = config.get_config('simclr,digits')
  assert looking.has_patches(c) and not looking.has_patches(resnet)
  with pytest.raises(InputError, match='encoder is resnet10, wanted a ViT'):
    looking.make(resnet, state, run.mesh)
