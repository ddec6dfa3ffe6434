"""Presets of methods that the common suite, which takes the tiny ones, does not reach."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from ml_collections import ConfigDict

from ssljax import config, models, program, sharding
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.methods.image import _pair, mv_mr
from ssljax.net import Net


def make(arg, **fields):
  c = config.get_config(arg)
  with c.unlocked():
    c.update(batch_size=small.ROWS, steps=8)
    c.method.update({'projector': tuple(min(n, 32) for n in c.method.projector), **fields})
    for field, value in small.SHRUNK['views'].items():
      c.method.views[field] = value
    c.encoder.update({k: v for k, v in small.SHRUNK['encoder'].items() if k in c.encoder})
    if 'patch_size' in c.encoder:
      c.encoder.patch_size = 4
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  return program.make_program(c, mesh, small.SOURCE, steps=8)


def test_moco_v3_keeps_the_patch_projection_of_a_vit():
  made = make('moco_v3,digits,preset=imagenet_vit', predictor=(32, 32))
  before = made.init(small.key())
  start = jax.device_get(before.params)
  after, losses = small.run(made, before, 0, 2)
  assert np.isfinite(losses).all()
  jax.tree.map(
    np.testing.assert_array_equal,
    after.params['encoder']['patch_embed'],
    start['encoder']['patch_embed'],
  )
  assert (after.params['encoder']['norm']['scale'] != start['encoder']['norm']['scale']).any()
  # Sine-cosine positions, and a predictor that ends in batch norm: neither has parameters.
  assert 'pos_embed' not in start['encoder'] and 'bn_1' not in start['predictor']
  assert 'bn_1' in after.state['stats']['predictor']['batch_stats']


def test_moco_v3_says_that_a_resnet_has_no_patches_to_freeze():
  with pytest.raises(InputError, match="no parameters 'patch_embed' to freeze"):
    make('moco_v3,digits,preset=tiny,encoder=convnet_small', freeze_patch_embed=True)


def test_another_encoder_has_its_own_size_and_the_options_of_the_presets():
  def encoder(arg):
    return config.get_config(arg).encoder.to_dict()

  seen = encoder('simclr,npz,preset=imagenet,encoder=resnet18')
  assert seen == models.get_config('resnet18').to_dict() | {'zero_init_residual': True}
  seen = encoder('simclr,npz,preset=tiny,encoder=resnet50')  # not the 16 channels of its resnet10
  assert seen == models.get_config('resnet50').to_dict() | {'stem': 'small'}
  seen = encoder('moco_v3,npz,preset=imagenet_vit,encoder=vit_large')  # nor the 12 heads
  assert (seen['positions'], seen['heads'], seen['depth']) == ('sincos_rows', 16, 24)
  assert encoder('simmim,digits,encoder=vit_micro') == encoder('simmim,digits')
  assert encoder('simmim,digits,encoder=vit_tiny')['mask_token']
  with pytest.raises(InputError, match='mae hides patches'):  # 'pool' there is no word
    encoder('mae,digits,encoder=scattering_2')


def test_supcon_projects_features_of_length_one():
  made = make('supcon,digits,preset=imagenet,encoder=convnet_small')
  train_state = made.init(small.key())
  named = made.embed(train_state.params, train_state.state, small.placed(made))
  features = named['features']
  unit = features / jnp.linalg.norm(features, axis=1, keepdims=True)
  kernel = train_state.params['projector']['linear_0']['kernel']
  np.testing.assert_allclose(named['projection'], unit @ kernel, rtol=1e-4, atol=1e-5)


def test_groups_of_images_share_batch_statistics_as_on_as_many_devices():
  """MoCo's shuffled batch norm: the student's groups are strides, the teacher's are drawn."""

  def init(rng, x):
    return {'w': jnp.ones(())}, {}

  def standardized(params, stats, x, *, train, rng=None, bn_groups=1):
    groups = x.reshape(-1, bn_groups, x.shape[-1])
    groups = (groups - groups.mean(0)) / groups.std(0)
    return params['w'] * groups.reshape(x.shape), stats

  method = _pair.with_teacher(
    ConfigDict({'views': image.get_config(8), 'view_stats': 'separate'}), None, lambda step: 0.5,
    student_views=slice(0, 1), teacher_views=slice(1, 2), bn_splits=4,
    encoder=Net(init, standardized),
  )  # fmt: skip
  x = np.random.default_rng(0).normal(size=(16, 2, 3)).astype(np.float32)
  params, state = method.init(small.key(), {'image': x})
  found, _ = method.forward(params, state, {'image': x}, small.key(), 0)

  def deviations(rows, view):
    return (x[rows, view] - x[rows, view].mean(0)) / x[rows, view].std(0)

  z, target = found['z'][:, 0], found['target'][:, 0]
  for i in range(4):
    np.testing.assert_allclose(z[i::4], deviations(slice(i, None, 4), 0), atol=1e-5)
  assert not np.allclose(target[::4], deviations(slice(0, None, 4), 1), atol=0.1)
  # Every teacher's row is standardised among itself and three others: some group of four fits.
  mates = [set(c) | {0} for c in itertools.combinations(range(1, 16), 3)]
  mates = [np.array(sorted(m)) for m in mates]
  fits = [m for m in mates if np.allclose(target[m], deviations(m, 1), atol=1e-4)]
  assert len(fits) == 1
  with pytest.raises(InputError, match='bn_splits is 4, wanted a divisor of the 6 images'):
    method.forward(params, state, {'image': x[:6]}, small.key(), 0)
  with pytest.raises(InputError, match='views.num_views makes 1 view, wanted 2'):
    method.forward(params, state, {'image': x[:, :1]}, small.key(), 0)


def test_a_view_is_not_taken_for_the_other():
  with pytest.raises(InputError, match='views.num_views makes 1 views, wanted 2'):
    _pair.two(np.zeros((4, 1, 3)))


def test_self_distillation_keeps_batch_statistics_where_others_do():
  c = config.get_config('dino,digits,preset=tiny,encoder=resnet10')
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  state = program.make_program(c, mesh, small.SOURCE, steps=8).abstract.state
  for part in (state, state['target']):
    assert 'batch_stats' in part['stats']['encoder']


def test_mmcr_with_a_moving_average():
  made = make('mmcr,digits,preset=tiny,encoder=convnet_small', momentum=0.9)
  state = made.init(small.key())
  start = jax.device_get(state.params)
  after, losses = small.run(made, state, 0, 2)
  assert np.isfinite(losses).all()
  target = jax.device_get(after.state['target']['params'])
  moved = jax.tree.map(lambda a, b, t: (np.abs(b - a).max(), np.abs(t - a).max()), start,
                       jax.device_get(after.params), target)  # fmt: skip
  for student, teacher in jax.tree.leaves(moved, is_leaf=lambda x: isinstance(x, tuple)):
    assert 0 < teacher < student


def test_mv_mr_depends_on_every_representation():
  arg, losses = 'mv_mr,digits,preset=tiny,encoder=convnet_small', set()
  made = make(arg, representations=mv_mr.REPRESENTATIONS)
  batch = jax.jit(made.method.views)(small.key(), small.seen(made))
  z = jax.random.normal(small.key(), (small.ROWS, 2, 32))
  for name in mv_mr.REPRESENTATIONS:
    objective = make(arg, representations=(name,)).method.objective
    losses.add(float(objective({}, {}, z, batch, small.key(), 0)[0]))
  assert np.isfinite(list(losses)).all() and len(losses) == len(mv_mr.REPRESENTATIONS)


def test_deviation_of_a_neighbourhood_by_hand():
  x = np.random.default_rng(0).random((1, 5, 6, 1)).astype(np.float32)
  seen = mv_mr.deviation(x)
  np.testing.assert_allclose(seen[0, 2, 3, 0], x[0, 1:4, 2:5, 0].std(), rtol=1e-4)
  corner = np.pad(x[0, :, :, 0], 1, mode='reflect')[:3, :3]
  np.testing.assert_allclose(seen[0, 0, 0, 0], corner.std(), rtol=1e-4)


def test_instdisc_proximal_term_is_the_distance_to_ones_memory():
  arg = 'instdisc,digits,preset=tiny,encoder=convnet_small'
  methods = [make(arg, proximal=weight).method for weight in (0.0, 3.0)]
  made = make(arg)
  train_state = made.init(small.key())
  params, state = train_state.params, train_state.state
  batch = jax.jit(made.method.views)(small.key(), small.seen(made))
  z, _ = made.method.forward(params, state, batch, small.key(), 0)
  without, with_it = (m.objective(params, state, z, batch, small.key(), 0)[0] for m in methods)
  v = np.asarray(z[:, 0] / jnp.linalg.norm(z[:, 0], axis=1, keepdims=True))
  gap = v - np.asarray(state['bank'])[np.asarray(batch['index'])]
  np.testing.assert_allclose(with_it - without, 3 * (gap**2).sum(1).mean(), rtol=1e-4)
