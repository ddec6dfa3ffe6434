"""Objects are found where they are, the authors' numbers are met, and nothing comes of nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import list as listing
from ssljax.data import scenes
from ssljax.discovery import (
  box_iou,
  box_recall,
  cl_vs_mim,
  corloc,
  lost,
  mask_iou,
  most_localization,
  token_cut,
)
from ssljax.errors import InputError

METHODS = {'lost': lost, 'token_cut': token_cut, 'most_localization': most_localization}
GRID = 12, 10


def scene(*objects, grid=GRID, dim=16, noise=0.1, seed=0):
  """Features [N, D] of a ground and objects (rows, columns), unlike it and unlike each other."""
  rng = np.random.default_rng(seed)
  axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
  x = np.broadcast_to(axes[0], (*grid, dim)) + noise * rng.normal(size=(*grid, dim)) / dim**0.5
  for i, (rows, columns) in enumerate(objects):
    x[rows, columns] += 2 * axes[i + 1] - 1.5 * axes[0]
  return x.reshape(-1, dim)


def box(rows, columns, patch=8):
  return [patch * v for v in (columns.start, rows.start, columns.stop, rows.stop)]


ONE = slice(2, 6), slice(5, 9)
OTHER = slice(8, 11), slice(1, 4)


def numbers(case):
  hp = case['hp']
  grid = int(hp['height']), int(hp['width'])
  options = {
    'patch_size': int(hp['patch_size']),
    'image_size': (int(hp['image_height']), int(hp['image_width'])),
  }
  return case['in']['features'], grid, options, case['out']


def test_lost_is_the_authors(golden):
  for case in golden('lost'):
    features, grid, options, out = numbers(case)
    found = lost.discover(features, grid, k_patches=int(case['hp']['k_patches']), **options)
    np.testing.assert_array_equal(found.boxes, [out['box_xyxy']])
    assert found.seed == out['seed']
    np.testing.assert_array_equal(found.degree, np.abs(out['degree']))


def test_token_cut_is_the_authors(golden):
  for case in golden('token_cut'):
    features, grid, options, out = numbers(case)
    hp = case['hp']
    found = token_cut.discover(
      features, grid, tau=float(hp['tau']), eps=float(hp['eps']), **options
    )
    np.testing.assert_array_equal(found.boxes, [out['box_xyxy']])
    assert found.seed == out['seed']
    np.testing.assert_array_equal(found.mask, out['mask'] > 0)
    np.testing.assert_array_equal(found.foreground, out['objects'] > 0)
    np.testing.assert_allclose(found.eigenvector, out['eigenvector'], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.eigenvalue, out['smallest_eigenvalues'][1], rtol=1e-6)


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('where', [ONE, OTHER, (slice(0, 3), slice(0, 3)), (slice(9, 12), ONE[1])])
def test_an_object_is_found_where_it_is(name, where):
  found = METHODS[name].discover(scene(where), GRID, patch_size=8)
  np.testing.assert_array_equal(found.boxes, [box(*where)])
  mask = np.zeros(GRID, bool)
  mask[where] = True
  np.testing.assert_array_equal(found.masks[0] if name == 'most_localization' else found.mask, mask)


def test_only_most_finds_both_of_two_objects():
  features = scene(ONE, OTHER)
  both = [box(*ONE), box(*OTHER)]
  found = most_localization.discover(features, GRID, patch_size=8)
  np.testing.assert_array_equal(found.boxes, both)
  assert found.pool.max() == 1 and (found.pool[ONE] == 0).all() and (found.pool[OTHER] == 1).all()
  single = [METHODS[n].discover(features, GRID, patch_size=8).boxes for n in ('lost', 'token_cut')]
  assert all(len(boxes) == 1 and boxes[0].tolist() in both for boxes in single)
  assert box_recall([found.boxes], [both]) == 1 and box_recall([single[0]], [both]) == 0.5


def test_an_object_in_two_parts_is_cut_at_the_gap_and_corners_do_not_join():
  x = scene(ONE)
  grid = x.reshape(*GRID, -1).copy()
  grid[6:8, 9:10] = grid[2, 5]  # touches by a corner
  for method in (lost, token_cut):
    found = method.discover(grid.reshape(x.shape), GRID, patch_size=8)
    assert found.boxes.tolist() in ([box(*ONE)], [box(slice(6, 8), slice(9, 10))])


def test_boxes_are_clipped_to_the_image():
  where = slice(9, 12), slice(7, 10)
  for method in METHODS.values():
    found = method.discover(scene(where), GRID, patch_size=8, image_size=(91, 77))
    np.testing.assert_array_equal(found.boxes, [[56, 72, 77, 91]])


@pytest.mark.parametrize('name', METHODS)
def test_features_of_nothing(name):
  discover = METHODS[name].discover
  zeros = discover(np.zeros((120, 4)), GRID, patch_size=8)
  assert zeros.boxes.shape == (0, 4)
  same = discover(np.ones((120, 4)), GRID, patch_size=8)
  whole = [[0, 0, 80, 96]] if name == 'lost' else np.zeros((0, 4))
  np.testing.assert_array_equal(same.boxes, whole)
  one = discover(np.ones((1, 4)), (1, 1), patch_size=8)
  assert one.boxes.shape == ((1, 4) if name == 'lost' else (0, 4))
  strip = discover(scene((slice(0, 1), slice(3, 6)), grid=(1, 10)), (1, 10), patch_size=32)
  assert strip.boxes.shape[1] == 4
  with pytest.raises(InputError, match=r'features has shape \[120, 4\], wanted \[121, D\]'):
    discover(np.ones((120, 4)), (11, 11), patch_size=8)
  with pytest.raises(InputError, match='features has NaN'):
    discover(np.full((120, 4), np.nan), GRID, patch_size=8)


def test_sums_over_the_company_of_the_seed_grow_the_object():
  # Along a line the similarity to the seed alone ends too early; its company reaches further.
  angle = np.deg2rad([0, 50, 100, 200, 200, 200, 200, 200])
  x = np.stack([np.cos(angle), np.sin(angle)], 1)
  wide = lost.discover(x, (1, 8), patch_size=1)
  assert wide.seed == 0 and wide.boxes.tolist() == [[0, 0, 3, 1]]
  assert lost.discover(x, (1, 8), patch_size=1, k_patches=1).boxes.tolist() == [[0, 0, 2, 1]]


# MOST's pieces against loops.


def test_average_is_over_adaptive_windows():
  x = np.random.default_rng(0).normal(size=(2, 7, 9))
  for k in (1, 2, 3, 5):
    h, w = 7 - k + 1, 9 - k + 1
    wanted = np.empty((2, h, w))
    for i, j in np.ndindex(h, w):
      rows = slice(i * 7 // h, -(-(i + 1) * 7 // h))
      columns = slice(j * 9 // w, -(-(j + 1) * 9 // w))
      wanted[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(most_localization.average(x, k), wanted)
  np.testing.assert_array_equal(most_localization.average(x, 1), x)


def test_entropy_counts_values_that_are_the_same():
  values = np.array([[0, 0, 0, 0, 1, 2, 3, 4], [5] * 8, np.arange(8), [1, 1, 2, 2, 3, 3, 4, 4]])
  np.testing.assert_allclose(most_localization.entropy(values * 1.0), [2.0, 0, 3, 2])


def test_most_drops_what_is_small_or_everything():
  small = slice(3, 5), slice(3, 5)
  discover = most_localization.discover
  assert len(discover(scene(small), GRID, patch_size=8).boxes) == 0
  assert len(discover(scene(small), GRID, patch_size=8, min_side=8).boxes) == 1
  assert len(discover(scene(ONE), GRID, patch_size=8, max_area=0.1).boxes) == 0


# Measures.


def test_box_iou_by_hand():
  a = [[0, 0, 4, 4], [2, 2, 2, 9]]
  b = [[2, 0, 6, 4], [0, 0, 4, 4], [5, 5, 9, 9]]
  np.testing.assert_allclose(box_iou(a, b), [[1 / 3, 1, 0], [0, 0, 0]])
  assert box_iou(np.zeros((0, 4)), b).shape == (0, 3)
  with pytest.raises(InputError, match=r'b has shape \[4\]'):
    box_iou(a, [0, 0, 1, 1])


def test_corloc_and_recall_by_hand():
  truth = [[[0, 0, 4, 4], [5, 5, 9, 9]], [[0, 0, 4, 4]], [[0, 0, 2, 2]]]
  predicted = [[[5, 5, 9, 9]], [[0, 0, 4, 2], [9, 9, 10, 10]], np.zeros((0, 4))]
  assert corloc(predicted, truth) == 2 / 3  # exactly half counts
  assert corloc(predicted, truth, threshold=0.51) == 1 / 3
  assert box_recall(predicted, truth) == 2 / 4
  with pytest.raises(InputError, match='boxes of 3 and 2 images seen'):
    corloc(predicted, truth[:2])
  with pytest.raises(InputError, match='no box in image 1'):
    corloc(predicted[:2], [truth[0], np.zeros((0, 4))])


def test_mask_iou_by_hand():
  truth = np.zeros((3, 2, 2), bool)
  truth[0], truth[1, 0] = True, True
  predicted = np.zeros_like(truth)
  predicted[0, 0], predicted[1, :, 0] = True, True
  np.testing.assert_allclose(mask_iou(predicted, truth), (1 / 2 + 1 / 3 + 1) / 3)
  with pytest.raises(InputError, match=r'shapes \[2, 2\] and'):
    mask_iou(predicted[0], truth)


# What separates contrastive from masked pre-training.


def test_attention_is_that_of_the_network():
  rng = np.random.default_rng(0)
  q, k, v = rng.normal(size=(3, 2, 5, 3, 4)).astype(np.float32)
  a = cl_vs_mim.attention((q, k, v))
  np.testing.assert_allclose(a.sum(-1), 1, rtol=1e-5)
  seen = jnp.einsum('nhqk,nkhd->nqhd', a, v)
  np.testing.assert_allclose(seen, jax.nn.dot_product_attention(q, k, v), rtol=1e-4, atol=1e-5)


def with_first(a):
  """An attention between patches with a class token before them, which nothing should change."""
  return np.pad(0.5 * a, ((0, 0), (0, 0), (1, 0), (1, 0)), constant_values=0.5)


def test_distance_and_nmi_of_known_attention():
  grid, count = (3, 4), 12
  own = np.eye(count)[None, None]
  even = np.full((1, 1, count, count), 1 / count)
  first = np.zeros((1, 1, count, count))
  first[..., 0] = 1
  right = np.eye(count)[np.where(np.arange(count) % 4 < 3, np.arange(count) + 1, np.arange(count))]
  every = with_first(np.concatenate([own, even, first, right[None, None]]))
  y, x = np.unravel_index(np.arange(count), grid)
  apart = np.hypot(y[:, None] - y, x[:, None] - x)
  wanted = [0, apart.mean(), apart[0].mean(), 9 / 12]
  found = cl_vs_mim.attention_distance(every, grid, patch_size=16)
  np.testing.assert_allclose(found[:, 0], 16 * np.array(wanted), rtol=1e-5)
  nmi = np.asarray(cl_vs_mim.attention_nmi(every, grid))[:, 0]
  np.testing.assert_allclose(nmi[:3], [1, 0, 0], atol=1e-5)
  # Moved by one, three keys have no query and three have two.
  keys = np.bincount(right.argmax(1), minlength=count) / count
  entropy = -np.sum(keys[keys > 0] * np.log(keys[keys > 0]))
  np.testing.assert_allclose(nmi[3], np.sqrt(entropy / np.log(count)), rtol=1e-5)
  with pytest.raises(InputError, match='with T at least 16'):
    cl_vs_mim.attention_nmi(every, (4, 4))


def test_log_amplitude_tells_smooth_from_rough():
  grid = 8, 8
  y, x = np.mgrid[:8, :8]
  smooth = 1 + 0.5 * np.cos(2 * np.pi * (x + y) / 8)
  rough = 1 + 0.5 * np.cos(2 * np.pi * 3 * (x + y) / 8)
  flat = [np.pad(m.reshape(1, 64, 1), ((0, 0), (1, 0), (0, 0))) for m in (smooth, rough)]
  low, high = (np.asarray(cl_vs_mim.log_amplitude(m, grid)) for m in flat)
  assert low.shape == (4,) and low[0] == high[0] == 0
  np.testing.assert_allclose([low[1], high[3]], np.log(0.25), atol=1e-5)  # 0.5 / 2 at either sign
  assert low[3] < -10 and high[1] < -10
  with pytest.raises(InputError, match='at least 3 of each'):
    cl_vs_mim.log_amplitude(flat[0], (2, 2))


def test_by_depth_has_a_number_for_each_block():
  rng = np.random.default_rng(0)
  layers = tuple(rng.normal(size=(3, 2, 17, 8)).astype(np.float32))
  qkv = tuple((x.reshape(2, 17, 2, 4),) * 3 for x in layers)
  found = jax.jit(lambda *a: cl_vs_mim.by_depth(*a, (4, 4)))(layers, qkv)
  assert {k: v.shape for k, v in found.items()} == dict.fromkeys(
    ('attention_distance', 'attention_nmi', 'high_frequency'), (3,)
  )
  assert set(cl_vs_mim.by_depth(layers, (), (4, 4))) == {'high_frequency'}


def test_separability_sees_the_block_that_knows_the_label():
  rng = np.random.default_rng(0)
  label = np.arange(60) % 2
  noise = rng.normal(size=(60, 5, 3))
  told = noise + 4 * label[:, None, None]
  found = cl_vs_mim.separability((noise, told), label, (noise[::-1], told), label, num_classes=2)
  assert found[1] == 1 and found[0] < 0.8


# Scenes, and the list.


def test_scenes_have_boxes_and_masks_of_their_digits():
  config = scenes.get_config()
  config.update(train_size=60, test_size=40, noise=0.0, clutter=0)
  found = scenes.annotated(config, 'test')
  assert found.image.shape == (40, 64, 64, 3) and found.mask.shape == (40, 64, 64)
  counts = [len(boxes) for boxes in found.boxes]
  assert set(counts) == {1, 2}
  for image, boxes, mask in zip(found.image, found.boxes, found.mask, strict=True):
    for i, (x1, y1, x2, y2) in enumerate(boxes, 1):
      rows, columns = np.nonzero(mask == i)
      assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [x1, y1, x2, y2]
      assert 10 < x2 - x1 < 60 and 14 < y2 - y1 < 50
      luma = image @ [0.299, 0.587, 0.114]
      assert luma[mask == i].mean() > luma[mask == 0].mean() + 15
  again = scenes.load(config, 'test')
  np.testing.assert_array_equal(again.arrays['image'], found.image)
  assert set(again.arrays) == {'image', 'label'} and len(scenes.load(config, 'train')) == 60
  config.digits = (2, 1)
  with pytest.raises(InputError, match='data.digits is'):
    scenes.load(config, 'train')


def test_pixels_that_stand_out_are_found_in_scenes():
  config = scenes.get_config()
  config.update(test_size=12, noise=0.0, clutter=0, colour=0.0, digits=(1, 1))
  found = scenes.annotated(config, 'test')
  ink = (found.mask > 0).reshape(12, 16, 4, 16, 4).mean((2, 4))
  features = np.stack([1 - 2 * ink, ink, np.full_like(ink, 0.05)], -1).reshape(12, 256, 3)
  predicted = [token_cut.discover(x, (16, 16), patch_size=4).boxes for x in features]
  assert corloc(predicted, found.boxes) > 0.8


def test_the_list_has_what_does_not_train():
  rows = {row['name']: row for row in listing.rows()}
  for name in (*METHODS, 'cl_vs_mim'):
    assert rows[name]['module'] == f'ssljax.discovery.{name}'
    assert rows[name]['modality'] == 'image' and rows[name]['summary'].endswith(('.', ','))
  assert rows['simclr']['module'] == 'ssljax.methods.image.simclr'
