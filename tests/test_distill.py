"""What DINO's family is made of: heads, masks, the terms of its loss, anchors, outliers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from cases_copy import numpy_koleo
from cases_self_distillation import (
  MASK,
  PATCH,
  TEMPS,
  codes,
  cross_entropy,
  numpy_dino,
  numpy_patch,
)
from ml_collections import ConfigDict

from ssljax import methods, models, ops, optim, program, sharding
from ssljax.errors import InputError
from ssljax.methods.image import _distill, _hide, dinov2, dinov3
from ssljax.models import heads


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize('unit_rows', [True, False])
@pytest.mark.parametrize('weight_norm', [True, False])
def test_prototypes_by_hand(unit_rows, weight_norm):
  x = np.random.default_rng(0).normal(size=(5, 3, 8)).astype(np.float32)
  net = heads.prototypes((16, 4), 7, unit=unit_rows, weight_norm=weight_norm)
  params, _ = net.init(jax.random.key(0), x)
  seen, _ = net.apply(params, {}, x, train=True)
  p = jax.device_get(params)
  hidden = x @ p['linear_0']['kernel'] + p['linear_0']['bias']
  hidden = np.asarray(jax.nn.gelu(hidden, approximate=False))
  z = unit(hidden @ p['linear_1']['kernel'] + p['linear_1']['bias'])
  rows = unit(p['prototypes']) if weight_norm else p['prototypes']
  np.testing.assert_allclose(seen, z @ rows.T, atol=1e-5)
  # With weight norm prototypes have length one at first; only without `unit` may that change.
  assert ('lengths' in p) == (weight_norm and not unit_rows)
  if 'lengths' in p:
    doubled, _ = net.apply(params | {'lengths': 2 * params['lengths']}, {}, x, train=True)
    np.testing.assert_allclose(doubled, 2 * seen, atol=1e-5)
    assert params['lengths'].ndim == 2  # so that weight decay acts on them, as in torch


def test_prototypes_are_held_with_their_lengths():
  held = _distill.held_prototypes(ConfigDict({'freeze_prototypes_steps': 7}))
  params = {'head': {'prototypes': 2.0, 'lengths': 3.0, 'linear_0': {'kernel': 5.0}}}
  assert list(held.values()) == [7]
  matched = optim.matches(held, params)
  assert matched == {'head': {'prototypes': True, 'lengths': True, 'linear_0': {'kernel': False}}}
  c = small.small_config('dino')
  c.method.freeze_prototypes_steps = 2
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  assert program.make_program(c, mesh, small.SOURCE, steps=8).method.held.keys() == held.keys()
  assert not _distill.held_prototypes(ConfigDict({'freeze_prototypes_steps': 0}))


def hidden(batch=64, size=56, **fields):
  config = ConfigDict(_hide.MASKS | {'patch_size': 4} | fields)
  images = {'global': jnp.zeros((batch, 2, size, size, 1))}
  return jax.device_get(jax.jit(lambda rng: _hide.hide(rng, images, config))(jax.random.key(0)))


@pytest.mark.parametrize('shape', _hide.SHAPES)
def test_hidden_places_are_those_of_the_mask(shape):
  found = hidden(mask_shape=shape)
  mask, index, counted = found['mask'], found['hidden'], found['counted']
  assert index.shape == counted.shape == (64, 2, 98)
  count = mask.sum(-1)
  np.testing.assert_array_equal(counted.sum(-1), count)
  rebuilt = np.zeros_like(mask)
  for b, v in np.ndindex(64, 2):
    rebuilt[b, v, index[b, v][counted[b, v]]] = True
  np.testing.assert_array_equal(rebuilt, mask)
  # Half of the crops, as chance has it, from a tenth to half of 196 patches.
  some = count[count > 0]
  assert 40 < len(some) < 88 and some.min() >= 19 and some.max() <= 98
  assert abs(some.mean() - 0.3 * 196) < 8


def test_shares_of_a_batch_are_spread_evenly():
  count = hidden(mask_evenly=True)['mask'].sum(-1).ravel()
  some = np.sort(count[count > 0])
  assert len(some) == 64
  # One share from each 64th part of the range, rounded down to whole patches.
  edges = 196 * (0.1 + 0.4 * np.arange(65) / 64)
  assert (some >= np.floor(edges[:-1])).all() and (some <= edges[1:]).all()


def test_masks_that_cannot_be_are_named():
  with pytest.raises(InputError, match='mask_ratio is .*, wanted'):
    hidden(mask_ratio=(0.5, 0.1))
  with pytest.raises(InputError, match="mask_shape is 'round', wanted one of"):
    hidden(mask_shape='round')


@pytest.mark.parametrize('local_weight', [1.0, 0.5])
def test_terms_of_dinov2(local_weight):
  rng = np.random.default_rng(0)
  student = rng.normal(size=(8, 5, 7)).astype(np.float32)
  teacher = rng.normal(size=(8, 2, 7)).astype(np.float32)
  features = rng.normal(size=(8, 2, 6)).astype(np.float32)
  patches = [x.reshape(8, 2, 5, 7) for x in PATCH[:2]]
  counted = MASK.reshape(8, 2, 5)
  centers = rng.normal(size=(2, 7)).astype(np.float32)
  state = {'center': jnp.array(centers[0]), 'patch_center': jnp.array(centers[1])}
  config = ConfigDict(dinov2.TERMS | TEMPS | {'local_weight': local_weight, 'patch_weight': 2.0})
  z = {'student': student, 'teacher': teacher, 'features': features}
  z |= {'student_patch': patches[0], 'teacher_patch': patches[1]}
  loss, new, metrics = dinov2.total(
    config, state, jax.tree.map(jnp.array, z), {'counted': counted}, TEMPS['teacher_temp']
  )
  one = numpy_dino(student, teacher, centers[0], (1, 1, *(local_weight,) * 3))
  two = numpy_patch(*PATCH[:2], MASK, centers[1])
  # Both large crops count, as in the authors' code.
  three = sum(numpy_koleo(features[:, v]) for v in range(2))
  np.testing.assert_allclose(loss, one + 2.0 * two + 0.1 * three, rtol=1e-5)
  # DINOv2's centre of the patches is of those that are hidden.
  mean = patches[1][counted].mean(0)
  np.testing.assert_allclose(new['patch_center'], 0.9 * centers[1] + 0.1 * mean, rtol=1e-4)
  q = codes(teacher, centers[0])
  entropy = cross_entropy(q, np.log(q)).mean()
  np.testing.assert_allclose(metrics['teacher_entropy'], entropy, rtol=1e-5)
  np.testing.assert_allclose(metrics['center_norm'], np.linalg.norm(centers[0]), rtol=1e-5)
  if local_weight == 1:
    np.testing.assert_allclose(metrics['student_kl'], one - entropy, rtol=1e-4)


def test_divergence_is_none_where_the_student_agrees():
  teacher = np.random.default_rng(1).normal(size=(8, 1, 7)).astype(np.float32)
  teacher = np.repeat(teacher, 2, axis=1)
  agrees = TEMPS['student_temp'] * np.log(codes(teacher, np.zeros(7)))[:, [0, 0, 0, 0]]
  config = ConfigDict(dinov2.TERMS | TEMPS | {'local_weight': 0.5})
  patch = jnp.zeros((8, 2, 3, 7))
  z = {'student': jnp.array(agrees), 'teacher': jnp.array(teacher), 'student_patch': patch}
  z |= {'teacher_patch': patch, 'features': jax.random.normal(jax.random.key(0), (8, 2, 6))}
  state = {'center': jnp.zeros(7), 'patch_center': jnp.zeros(7)}
  batch = {'counted': np.zeros((8, 2, 3), bool)}
  _, _, metrics = dinov2.total(config, state, z, batch, TEMPS['teacher_temp'])
  assert abs(float(metrics['student_kl'])) < 1e-5


def test_anchors_are_renewed_when_they_are_due():
  config = ConfigDict(dict(gram_anchor=5, gram_start=20, gram_every=10, gram_updates=3))
  due = [step for step in range(100) if dinov3.is_due(config, jnp.array(step))]
  assert due == [5, 30, 40, 50]
  config.gram_every = 0
  assert [step for step in range(100) if dinov3.is_due(config, jnp.array(step))] == [5]


def prepared(name, **fields):
  """A method at the suite's size with other options; nothing is compiled."""
  c = small.small_config(name)
  with c.unlocked():
    c.method.update(fields)
  method = program.make_method(c, steps=8, num_examples=64)
  spec = program.example_batch(small.SOURCE, rows=4)
  batch = jax.eval_shape(method.views, jax.random.key(0), spec)
  params, state = jax.eval_shape(method.init, jax.random.key(0), batch)
  return method, params, state, batch


@pytest.mark.parametrize(
  'name, fields',
  [
    ('ibot', {'separate_heads': True}),
    ('dinov2', {'separate_heads': False, 'centering': 'center'}),
    ('dinov3', {'gram_weight': 0.0}),
    ('dinov3', {'centering': 'center'}),
    ('dino', {'unit_prototypes': False}),
  ],
)
def test_options_keep_what_a_method_remembers(name, fields):
  method, params, state, batch = prepared(name, **fields)
  loss, (new, _) = jax.eval_shape(method.loss, params, state, batch, jax.random.key(0), 0)
  assert loss.shape == ()
  assert jax.tree.map(lambda x: x.shape, new) == jax.tree.map(lambda x: x.shape, state)
  assert ('patch_head' in params) == (name != 'dino' and fields.get('separate_heads', True))
  assert ('anchor' in state) == (name == 'dinov3' and 'gram_weight' not in fields)
  assert ('lengths' in params['head']) == (name == 'dino')


def test_what_cannot_be_is_named():
  with pytest.raises(InputError, match='gram_anchor is 9, wanted at most gram_start 4'):
    prepared('dinov3', gram_anchor=9, gram_start=4)
  with pytest.raises(InputError, match="centering is 'none', wanted one of sinkhorn, center"):
    prepared('dinov2', centering='none')


def test_centre_of_ibot_is_of_all_patches():
  made = small.make('ibot')
  method, train_state = made.method, made.init(small.key())
  batch = jax.jit(method.views)(small.key(), small.seen(made))
  z, _ = jax.jit(method.forward)(train_state.params, train_state.state, batch, small.key(), 0)
  _, (new, _) = method.objective(
    train_state.params, train_state.state, z, batch, small.key(), jnp.array(0)
  )
  mean = np.asarray(z['patch_mean'], np.float64).mean((0, 1))
  np.testing.assert_allclose(new['patch_center'], 0.1 * mean, rtol=1e-4, atol=1e-6)
  hidden = np.asarray(z['teacher_patch'])[np.asarray(batch['counted'])].mean(0)
  assert np.linalg.norm(hidden - mean) > 1e-3 * np.linalg.norm(mean)


def test_outliers_by_hand():
  lengths = np.ones((2, 10), np.float32)
  lengths[0, :2] = 5.0, 3.0
  share, ratio = ops.outliers(lengths)
  np.testing.assert_allclose(share, [0.1, 0.0])
  np.testing.assert_allclose(ratio, [5.0, 1.0])
  np.testing.assert_allclose(ops.outliers(lengths, factor=2.0)[0], [0.2, 0.0])
  np.testing.assert_allclose(ops.outliers(100 * lengths, cutoff=250)[0], [0.2, 0.0])
  np.testing.assert_allclose(ops.outliers(100 * lengths)[0], share)
  assert np.isfinite(ops.outliers(np.zeros((1, 4)))[1]).all()
  with pytest.raises(InputError, match='factor is 1, wanted more than 1'):
    ops.outliers(lengths, factor=1)


@pytest.mark.parametrize('uniform', [False, True])
def test_blocks_are_dropped_alike_or_the_later_the_more(uniform):
  config = models.get_config('vit_micro')
  config.update(dim=16, depth=2, heads=2, drop_path=0.5, drop_path_uniform=uniform, image_size=8)
  net = models.make(config, dtype=jnp.float32)
  x = jax.random.normal(jax.random.key(0), (16, 8, 8, 3))
  params, state = net.init(jax.random.key(1), x)
  run = jax.jit(lambda rng: net.apply(params, state, x, train=True, rng=rng)[0]['layers'])
  first, second = run(jax.random.key(2)), run(jax.random.key(3))
  assert bool((first[0] != second[0]).any()) == uniform  # the first block has no drops otherwise
  assert bool((first[1] != second[1]).any())


def test_presets_have_the_authors_settings():
  for name in ('dinov2', 'dinov3'):
    imagenet = methods.load(name).get_config('imagenet')
    assert imagenet.encoder.drop_path_uniform and imagenet.optim.clip_by == 'module'
  gram = dinov3.get_config('imagenet_gram')
  assert gram.method.local_weight == 0.5 and gram.method.gram_weight == 2.0
  assert gram.method.views['global'].flip == (0.0,)
