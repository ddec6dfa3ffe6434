"""What of the methods that predict representations, or paint with a second view or convolutions,
neither the losses' suite nor the contract sees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from ssljax import methods, models, ops, program
from ssljax.errors import InputError
from ssljax.models import decoders, predictors
from ssljax.models.conv import conv2d_xla
from ssljax.models.norm import BatchNorm
from ssljax.models.sparse import Double, light_decoder, sparse
from ssljax.net import from_linen

KEY = jax.random.key(0)


def normal(i, *shape):
  return jax.random.normal(jax.random.fold_in(KEY, i), shape)


def make(name, steps=1000, **fields):
  config = small.small_config(name)
  config.method.update(fields)
  return config, program.make_method(config, steps=steps, num_examples=64)


# ---- I-JEPA's masks


def test_blocks_have_the_authors_sizes(golden):
  for case in golden('ijepa_masks'):
    hp, out = case['hp'], case['out']
    grid = tuple(int(hp[f'input_{side}'] // hp['patch_size']) for side in ('height', 'width'))
    for step in range(int(hp['steps'])):
      first, second = out[f'step{step}_uniforms']
      target = ops.block_size(grid, hp['pred_mask_scale'], hp['aspect_ratio'], uniform=first)
      context = ops.block_size(grid, hp['enc_mask_scale'], (1.0, 1.0), uniform=second)
      assert target == tuple(out[f'step{step}_pred_block_hw'])
      assert context == tuple(out[f'step{step}_enc_block_hw'])


def test_blocks_in_the_authors_places_are_their_masks(golden):
  case = golden('ijepa_masks')[0]  # one context, that targets are taken out of
  grid, draws = (14, 14), jnp.zeros(196)
  for step in range(int(case['hp']['steps'])):
    seen = {name: case['out'][f'step{step}_masks_{name}'] for name in ('pred', 'enc')}
    target, context = (
      tuple(map(int, case['out'][f'step{step}_{name}_block_hw'])) for name in ('pred', 'enc')
    )
    first = seen['pred'].min(-1)  # [images, targets], the corners
    corners = np.stack([first // 14, first % 14], -1)
    uniforms = (corners + 0.5) / (np.array(grid) - target)
    uniforms = np.concatenate([np.full((len(first), 1, 2), 0.5), uniforms], axis=1)
    lay = functools.partial(ops.lay_blocks, grid=grid, target=target, context=context)
    kept, hidden = jax.vmap(lay, (0, None))(jnp.asarray(uniforms), draws)
    np.testing.assert_array_equal(hidden, seen['pred'])
    np.testing.assert_array_equal(kept, seen['enc'][:, 0, : kept.shape[1]])  # theirs is longer


@pytest.mark.parametrize('inner', [True, False])
@pytest.mark.parametrize('truncate', ['raster', 'random'])
def test_a_context_has_nothing_of_its_targets(inner, truncate):
  grid, sizes = (14, 14), {'target': (6, 5), 'context': (13, 13)}
  hide = functools.partial(ops.multiblock_mask, grid=grid, inner=inner, truncate=truncate, **sizes)
  kept, hidden = map(np.asarray, jax.jit(jax.vmap(hide))(jax.random.split(KEY, 500)))
  assert kept.shape == (500, 169 - 4 * 30) and hidden.shape == (500, 4, 30)
  for context, targets in zip(kept, hidden, strict=True):
    assert len(set(context)) == 49 and not set(context) & set(targets.ravel())
    for block in targets:
      rows, columns = np.unique(block // 14), np.unique(block % 14)
      assert len(rows) == 6 and len(columns) == 5 and np.ptp(rows) == 5 and np.ptp(columns) == 4
  seen = np.union1d(kept, hidden)
  assert len(seen) == (13 * 13 if inner else 14 * 14)
  # Every corner of a target is about equally likely.
  places = (14 - 6) * (14 - 5) if inner else (14 - 5) * (14 - 4)
  _, counts = np.unique(hidden.min(-1), return_counts=True)
  assert len(counts) == places and counts.max() < 3 * 2000 / places
  # The first patches of the image stay more often than the last only where one cuts in order.
  early = (kept < 98).mean()
  assert early > 0.8 if truncate == 'raster' else 0.4 < early < 0.7, early


def test_masks_that_do_not_fit_are_named():
  with pytest.raises(InputError, match='targets is 4, of 2 x 2 patches'):
    ops.multiblock_mask(KEY, (4, 4), target=(2, 2), context=(3, 3))
  with pytest.raises(InputError, match='target is 5 x 2 patches'):
    ops.multiblock_count((4, 4), targets=1, target=(5, 2), context=(4, 4))
  with pytest.raises(InputError, match="truncate is 'last'"):
    ops.multiblock_mask(KEY, (14, 14), target=(2, 2), context=(13, 13), truncate='last')


def test_a_predicted_block_sees_the_context_and_itself_alone():
  net = predictors.block_predictor(num_patches=16, dim=16, depth=2, heads=2)
  tokens, context = normal(0, 2, 5, 8), jnp.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
  targets = jnp.array([[[10, 11], [14, 15]], [[0, 1], [2, 3]]])
  params, _ = net.init(KEY, tokens, context, targets)
  apply = jax.jit(lambda *inputs: net.apply(params, {}, *inputs, train=False)[0])
  found = apply(tokens, context, targets)
  assert found.shape == (2, 2, 2, 8)
  other = apply(tokens, context, targets.at[:, 1].add(-2))
  np.testing.assert_allclose(other[:, 0], found[:, 0], atol=1e-5)
  assert float(jnp.abs(other[:, 1] - found[:, 1]).max()) > 1e-3
  # The order in which patches come does not matter, only their places.
  turned = apply(tokens[:, ::-1], context[:, ::-1], targets[..., ::-1])
  np.testing.assert_allclose(turned[..., ::-1, :], found, atol=1e-5)


# ---- teachers


@pytest.mark.parametrize(
  'name, fields, table',
  [
    # 0.996 to 1 in a straight line over 1000 steps
    ('i_jepa', dict(momentum=0.996), {0: 0.996, 1: 0.996004, 500: 0.998, 1000: 1.0}),
    # the authors' command for images keeps one decay
    (
      'data2vec',
      dict(momentum=0.9998, momentum_final=0.9998, momentum_ramp=0.0),
      {0: 0.9998, 1000: 0.9998},
    ),
    # as section 4 says: rising in the first part, here 300 steps, then still
    (
      'data2vec',
      dict(momentum=0.999, momentum_final=0.9998, momentum_ramp=0.3),
      {0: 0.999, 150: 0.9994, 300: 0.9998, 1000: 0.9998},
    ),
  ],
)
def test_teachers_move_as_in_the_papers(name, fields, table):
  _, method = make(name, **fields)
  state = {'stats': {}, 'target': {'params': {'w': jnp.zeros(2)}, 'stats': {}}}
  for step, decay in table.items():
    moved = method.update({'encoder': {'w': 1000 * jnp.ones(2)}}, state, step)
    np.testing.assert_allclose(moved['target']['params']['w'], 1000 * (1 - decay), atol=2e-4)


def test_data2vec_says_how_many_layers_there_are():
  _, method = make('data2vec', layers=3)
  batch = small.rows(method)
  with pytest.raises(InputError, match='layers is 3, wanted 1 to 2'):
    jax.eval_shape(method.init, KEY, jax.eval_shape(method.views, KEY, batch))


# ---- SAR-JEPA


def test_gradients_are_the_authors(golden):
  for case in golden('sar_jepa'):
    images = case['in']['images'].transpose(0, 2, 3, 1)
    for radius in map(int, case['hp']['kernel_radii']):
      seen = ops.gradient_ratio(images, radius)
      wanted = case['out'][f'feature_map_r{radius}'].transpose(0, 2, 3, 1)
      np.testing.assert_allclose(seen, wanted, atol=2e-6)


def test_gradients_by_ratio_do_not_see_a_factor():
  images = jnp.exp(normal(0, 2, 12, 10, 2))
  seen = [ops.gradient_ratio(factor * images, 3, offset=0.0) for factor in (1.0, 50.0)]
  np.testing.assert_allclose(seen[1], seen[0], atol=1e-5)
  difference = [ops.gradient_ratio(images + shift, 3, offset=0.0) for shift in (0.0, 50.0)]
  assert float(difference[1].mean()) < 0.1 * float(difference[0].mean())


def test_windows_of_an_image_are_its_own_squares():
  _, method = make('sar_jepa')
  views = jax.jit(method.views)(KEY, small.rows(method))
  places, mask = np.asarray(views['places']), np.asarray(views['mask'])
  assert places.shape == mask.shape == (small.ROWS, 2, 9) and (mask.sum(-1) == 7).all()
  first = places[..., :1]
  np.testing.assert_array_equal(
    places - first, np.broadcast_to([0, 1, 2, 4, 5, 6, 8, 9, 10], places.shape)
  )
  rows, columns = first[..., 0] // 4, first[..., 0] % 4
  assert (rows[:, 0] != rows[:, 1]).all() and (columns[:, 0] != columns[:, 1]).all()
  assert len({tuple(x) for x in first[..., 0]}) > 1
  with pytest.raises(InputError, match='num_windows is 3'):
    make('sar_jepa', num_windows=3)


# ---- CroCo


def test_a_pair_of_the_data_is_the_second_view():
  _, method = make('croco_v2')
  batch = small.rows(method)
  alone = jax.jit(method.views)(KEY, batch)
  other = np.full_like(batch['image'], 255)
  paired = jax.jit(method.views)(KEY, {**batch, 'pair_image': other})
  assert set(paired) == set(alone) and paired['image'].shape == alone['image'].shape
  np.testing.assert_array_equal(paired['image'][:, 0], alone['image'][:, 0])
  np.testing.assert_allclose(paired['image'][:, 1], paired['image'].max(), rtol=1e-5)
  assert float(alone['image'][:, 1].std()) > 0.01
  params, state = jax.jit(method.init)(KEY, alone)
  loss = jax.jit(lambda batch: method.loss(params, state, batch, KEY, 0)[0])
  assert abs(float(loss(alone)) - float(loss(paired))) > 1e-6  # it is looked at


def test_a_view_is_painted_from_places_of_the_other():
  """Patches of the second view count with their places, and the visible ones in any order."""
  net = decoders.cross_view_decoder(grid=(2, 3), patch_dim=5, dim=16, depth=2, heads=2)
  tokens, other = normal(0, 2, 2, 8), normal(1, 2, 6, 8)
  kept, restore, _ = ops.random_mask(jax.random.uniform(KEY, (2, 6)), 2)
  params, _ = net.init(KEY, tokens, restore, other)
  apply = jax.jit(lambda *inputs: net.apply(params, {}, *inputs, train=False)[0])
  found = apply(tokens, restore, other)
  assert found.shape == (2, 6, 5)
  swapped = jnp.where(restore < 2, 1 - restore, restore)
  np.testing.assert_allclose(apply(tokens[:, ::-1], swapped, other), found, atol=1e-5)
  assert float(jnp.abs(apply(tokens, restore, other[:, ::-1]) - found).max()) > 1e-3


# ---- SparK


def test_batch_norm_of_some_places_is_that_of_these_alone():
  x, where = 3 + 2 * normal(0, 4, 3, 5, 2), jax.random.bernoulli(KEY, 0.4, (4, 3, 5, 1))
  net = from_linen(BatchNorm())
  params, stats = net.init(KEY, x)
  for train in (True, False):
    seen, new = net.apply(params, stats, x, train=train, where=where)
    alone, wanted = net.apply(params, stats, x[where[..., 0]], train=train)
    np.testing.assert_allclose(seen[where[..., 0]], alone, atol=1e-5)
    assert not np.any(seen[~where[..., 0]])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), new, wanted)


@pytest.mark.parametrize(
  'name, fields',
  [
    ('resnet10', {'width': 4}),  # with its max pool
    ('convnet_small', {'width': 4, 'depth': 5}),
  ],
)
def test_sparse_networks_see_the_active_cells_alone(name, fields):
  config = models.get_config(name)
  config.update(fields)
  dense = models.make(config, dtype=jnp.float32)
  net, x = sparse(dense), normal(0, 2, 128, 128, 3)
  params, stats = jax.jit(dense.init)(KEY, x)
  apply = jax.jit(lambda x, active: net.apply(params, stats, x, active, train=True))
  active = jax.random.bernoulli(KEY, 0.5, (2, 4, 4))
  pixels = jnp.repeat(jnp.repeat(active, 32, 1), 32, 2)[..., None]
  one = apply(x, active)
  two = apply(jnp.where(pixels, x, 7.0), active)
  jax.tree.map(np.testing.assert_array_equal, one, two)  # what is hidden has no effect
  for y in one[0]['maps']:
    side = y.shape[1] // 4
    seen = np.repeat(np.repeat(active, side, 1), side, 2)
    assert not np.any(y[~seen]) and np.any(y[seen])  # and nothing spreads there
  whole = jax.jit(lambda x: dense.apply(params, stats, x, train=True))(x)
  all_of_it = apply(x, jnp.ones_like(active))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), all_of_it, whole)


def test_the_light_decoder_doubles_maps_up_to_the_image():
  maps = tuple(normal(i, 2, side, side, 4) for i, side in enumerate((16, 8, 4)))
  active = jax.random.bernoulli(KEY, 0.5, (2, 4, 4))
  net = light_decoder(size=16, channels=3, width=8)
  params, stats = net.init(KEY, maps, active)
  assert {name for name in params if name.startswith('densify')} == {'densify_0', 'densify_1'}
  seen, _ = net.apply(params, stats, maps, active, train=False)
  assert seen.shape == (2, 16, 16, 3)
  # A hidden cell's features do not matter: a learned vector stands there.
  hidden = jnp.where(active[..., None], maps[-1], 9.0)
  other, _ = net.apply(params, stats, (*maps[:-1], hidden), active, train=False)
  np.testing.assert_array_equal(other, seen)
  with pytest.raises(InputError, match='decoder.width is 6'):
    light_decoder(size=16, channels=3, width=6).init(KEY, maps, active)
  with pytest.raises(InputError, match='the last map has 4 pixels a side'):
    light_decoder(size=24, channels=3, width=8).init(KEY, maps, active)


def test_a_transposed_convolution_is_the_gradient_of_the_ordinary_one():
  x, y = normal(0, 2, 3, 3, 4), normal(1, 2, 6, 6, 4)
  w = normal(2, 4, 4, 4, 4)
  seen = Double().apply({'params': {'kernel': w, 'bias': jnp.zeros(4)}}, x)
  # Its kernel is the mirrored one of the convolution that it is the transpose of.
  ordinary = functools.partial(
    conv2d_xla, w=jnp.flip(w, (0, 1)).swapaxes(2, 3), strides=(2, 2), padding=(1, 1)
  )
  (wanted,) = jax.linear_transpose(ordinary, y)(x)
  np.testing.assert_allclose(seen, wanted, atol=1e-4)


def test_spark_needs_maps():
  config = small.small_config('spark_ct')
  vit = models.make(small.small_config('mae').encoder, dtype=jnp.float32)
  with pytest.raises(InputError, match='needs its feature maps'):
    methods.load('spark_ct').make(config.method, {'encoder': vit})
