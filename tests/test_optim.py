"""Schedules against hand-computed values; what decay and LARS leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import models, optim
from ssljax.convert.writing import stack
from ssljax.errors import InputError

PARAMS = {
  'dense': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)},
  'norm': {'scale': jnp.ones(3)},
  'token': jnp.ones((1, 1, 3)),
}


def rates(steps, batch_size=512, **fields):
  config = optim.get_config(**fields)
  schedule = optim.make_schedule(config, total_steps=100, batch_size=batch_size)
  return [float(schedule(s)) for s in steps]


def test_schedules_by_hand():
  warm = dict(learning_rate=0.1, batch_scaling='linear', warmup_fraction=0.1)
  # Peak 0.1 * 512/256 = 0.2, reached after 10 steps; the cosine then has 90 steps to fall.
  np.testing.assert_allclose(
    rates([0, 5, 10, 55, 100], schedule='cosine', final_fraction=0.1, **warm),
    [0.0, 0.1, 0.2, 0.2 * (0.9 * 0.5 + 0.1), 0.02],
    rtol=1e-5,
  )
  np.testing.assert_allclose(rates([0, 10, 99], schedule='constant', **warm), [0.0, 0.2, 0.2])
  np.testing.assert_allclose(
    rates([5, 10, 80, 90, 100], schedule='infinite', anneal_fraction=0.2, **warm),
    [0.1, 0.2, 0.2, 0.1, 0.0],
    atol=1e-7,
  )
  np.testing.assert_allclose(
    rates([50], batch_size=4096, schedule='constant', learning_rate=0.075, batch_scaling='sqrt'),
    [0.075 * 64],
    rtol=1e-6,
  )


@pytest.mark.parametrize('name', optim.OPTIMIZERS)
def test_decay_skips_biases_and_norms(name):
  config = optim.get_config(
    name=name, learning_rate=1.0, warmup_fraction=0.0, schedule='constant', weight_decay=0.1
  )
  tx = optim.make(config, total_steps=10, batch_size=256)
  zero = jax.tree.map(jnp.zeros_like, PARAMS)
  updates, _ = tx.update(zero, tx.init(PARAMS), PARAMS)
  assert np.all(updates['dense']['bias'] == 0) and np.all(updates['norm']['scale'] == 0)
  assert np.all(updates['dense']['kernel'] < 0) and np.all(updates['token'] < 0)
  everywhere = optim.get_config(**{**config, 'decay_all': True})
  tx = optim.make(everywhere, total_steps=10, batch_size=256)
  updates, _ = tx.update(zero, tx.init(PARAMS), PARAMS)
  assert np.all(updates['norm']['scale'] < 0)


def test_lars_by_hand():
  # Trust ratio 0.001 |w| / |g + wd w| for the kernel; the plain rate for the bias.
  config = optim.get_config(
    name='lars', learning_rate=2.0, warmup_fraction=0.0, schedule='constant', weight_decay=0.5
  )
  tx = optim.make(config, total_steps=10, batch_size=256)
  grads = jax.tree.map(lambda x: 3.0 * jnp.ones_like(x), PARAMS)
  updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
  decayed = 3.0 + 0.5
  np.testing.assert_allclose(
    updates['dense']['kernel'], -2.0 * 0.001 * (1 / decayed) * decayed * np.ones((2, 3)), rtol=1e-5
  )
  np.testing.assert_allclose(updates['dense']['bias'], -6.0 * np.ones(3), rtol=1e-6)
  slower = optim.make(
    optim.get_config(**{**config, 'vector_multiplier': 0.1}), total_steps=10, batch_size=256
  )
  found, _ = slower.update(grads, slower.init(PARAMS), PARAMS)
  np.testing.assert_array_equal(found['dense']['kernel'], updates['dense']['kernel'])
  np.testing.assert_allclose(found['dense']['bias'], -0.6 * np.ones(3), rtol=1e-6)


def test_held_parameters_wait_and_then_take_ordinary_steps():
  config = optim.get_config(
    learning_rate=0.1, warmup_fraction=0.0, schedule='constant', weight_decay=0.5
  )
  tx = optim.make(config, total_steps=10, batch_size=256, held={'^dense/kernel$': 4})
  grads, state, seen = jax.tree.map(jnp.ones_like, PARAMS), tx.init(PARAMS), []
  for _ in range(6):
    updates, state = tx.update(grads, state, PARAMS)
    seen.append(updates)
  held = [float(updates['dense']['kernel'][0, 0]) for updates in seen]
  # Adam's step for a gradient that stays the same is the rate; decay is half of it.
  np.testing.assert_allclose(held, [0, 0, 0, 0, -0.15, -0.15], rtol=1e-5)
  np.testing.assert_allclose([u['token'] for u in seen], -0.15 * np.ones((6, 1, 1, 3)), rtol=1e-5)


@pytest.mark.parametrize('name', optim.OPTIMIZERS)
def test_constant_parameters_keep_the_peak_rate(name):
  fields = dict(name=name, learning_rate=0.1, batch_scaling='linear', warmup_fraction=0.2)
  fields |= dict(weight_decay=0.0, momentum=0.0, decay_all=True)
  grads = jax.tree.map(lambda x: 3.0 * jnp.ones_like(x), PARAMS)

  def steps(**more):
    tx = optim.make(optim.get_config(**fields, **more), total_steps=20, batch_size=512)
    state, found = tx.init(PARAMS), []
    for _ in range(20):
      updates, state = tx.update(grads, state, PARAMS)
      found.append(jax.tree.map(lambda u: float(u.ravel()[0]), updates))
    return found

  plain = steps()
  held = steps(constant=('^dense/',))
  rates = [step['norm']['scale'] for step in plain]
  assert rates[0] == 0 and rates[4] == min(rates) and rates[-1] > 0.1 * min(rates)
  for one, other in zip(plain, held, strict=True):
    assert one['norm'] == other['norm'] and one['token'] == other['token']
    for part in ('kernel', 'bias'):  # as in the step whose rate is the peak
      np.testing.assert_allclose(other['dense'][part], plain[4]['dense'][part], rtol=1e-4)


def test_clipping_is_of_the_whole_gradient():
  config = optim.get_config(
    name='sgd',
    learning_rate=1.0,
    momentum=0.0,
    warmup_fraction=0.0,
    schedule='constant',
    weight_decay=0.0,
    clip_norm=1.0,
  )
  tx = optim.make(config, total_steps=10, batch_size=256)
  grads = jax.tree.map(lambda x: 10.0 * jnp.ones_like(x), PARAMS)
  updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
  norm = np.sqrt(sum(float((u**2).sum()) for u in jax.tree.leaves(updates)))
  np.testing.assert_allclose(norm, 1.0, rtol=1e-5)


@pytest.mark.parametrize('field', ['name', 'schedule', 'batch_scaling', 'clip_by'])
def test_unknown_choices_are_named(field):
  config = optim.get_config(**{field: 'nope'})
  with pytest.raises(InputError, match=f"optim.{field} is 'nope', wanted one of"):
    optim.make(config, total_steps=10, batch_size=256)


VIT = {
  'encoder': {
    'patch_embed': {'kernel': jnp.ones((4, 2))},
    'cls_token': jnp.ones((1, 2)),
    'blocks_0': {'attn': {'kernel': jnp.ones((2, 2))}},
    'blocks_1': {'attn': {'kernel': jnp.ones((2, 2))}},
    'norm': {'scale': jnp.ones(2)},
  },
  'head': {'kernel': jnp.ones((2, 2))},
}


def test_rates_fall_from_block_to_block():
  stacked = VIT['encoder'] | {'blocks': {'attn': {'kernel': jnp.ones((2, 2, 2))}}}
  stacked = {k: v for k, v in stacked.items() if not k.startswith('blocks_')}
  for encoder in (VIT['encoder'], stacked):
    found = optim.layer_multipliers({**VIT, 'encoder': encoder}, 0.5, patch_embed=0.2)
    assert found['head']['kernel'] == found['encoder']['norm']['scale'] == 1.0
    assert found['encoder']['cls_token'] == 0.5**3
    np.testing.assert_allclose(found['encoder']['patch_embed']['kernel'], 0.2 * 0.5**3)
    if 'blocks' in encoder:
      rates = found['encoder']['blocks']['attn']['kernel']
      np.testing.assert_allclose(rates[:, 0, 0], [0.25, 0.5])
    else:
      seen = [found['encoder'][f'blocks_{i}']['attn']['kernel'] for i in (0, 1)]
      assert seen == [0.25, 0.5]


def test_layer_decay_and_moving_weight_decay_reach_the_update():
  fields = dict(name='sgd', learning_rate=1.0, momentum=0.0, warmup_fraction=0.0)
  fields |= dict(schedule='constant', layer_decay=0.5, weight_decay=0.1, weight_decay_final=0.3)
  tx = optim.make(optim.get_config(**fields), total_steps=2, batch_size=256)
  state, zero = tx.init(VIT), jax.tree.map(jnp.zeros_like, VIT)
  for decay in (0.1, 0.2):  # at step 1 of 2 half the way
    updates, state = tx.update(zero, state, VIT)
    np.testing.assert_allclose(updates['head']['kernel'], -decay, rtol=1e-6)
    np.testing.assert_allclose(
      updates['encoder']['blocks_0']['attn']['kernel'], -decay * 0.25, rtol=1e-6
    )
    assert not np.any(updates['encoder']['norm']['scale'])


def test_undecayed_parameters_are_left_alone():
  fields = dict(name='adamw', learning_rate=1.0, warmup_fraction=0.0, schedule='constant')
  config = optim.get_config(weight_decay=0.1, undecayed=('^head/',), **fields)
  tx = optim.make(config, total_steps=2, batch_size=256)
  updates, _ = tx.update(jax.tree.map(jnp.zeros_like, VIT), tx.init(VIT), VIT)
  assert not np.any(updates['head']['kernel'])
  np.testing.assert_allclose(updates['encoder']['blocks_0']['attn']['kernel'], -0.1, rtol=1e-6)


def test_clipping_is_of_each_module_or_array():
  fields = dict(name='sgd', learning_rate=1.0, momentum=0.0, warmup_fraction=0.0, weight_decay=0.0)
  fields |= dict(schedule='constant', clip_norm=1.0)
  grads = {
    'dense': {'kernel': 3 * jnp.ones((2, 3)), 'bias': jnp.array([3.0, 1.0, 0.0])},
    'norm': {'scale': jnp.array([0.6, 0.0, 0.0])},
    'token': jnp.zeros((1, 1, 3)),
  }
  # Kernel and bias together have the norm 8, the kernel alone 3 sqrt(6); what is short stays.
  for by, norm in {'module': 8, 'array': 3 * 6**0.5}.items():
    tx = optim.make(optim.get_config(**fields, clip_by=by), total_steps=10, batch_size=256)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates['dense']['kernel'], -3 * np.ones((2, 3)) / norm, rtol=1e-6)
    np.testing.assert_allclose(updates['norm']['scale'], [-0.6, 0, 0], rtol=1e-6)
    assert not np.any(updates['token'])


def test_lamb_scales_each_matrix_by_its_own_length():
  fields = dict(learning_rate=0.5, warmup_fraction=0.0, schedule='constant', weight_decay=0.1)
  tx = optim.make(optim.get_config(name='lamb', **fields), total_steps=10, batch_size=256)
  gradient = jax.tree.map(lambda x: 3 * jnp.ones_like(x), PARAMS)
  updates, _ = tx.update(gradient, tx.init(PARAMS), PARAMS)
  # Adam's first step is 1 in every place; with the decay 1.1, which is made as long as the matrix.
  np.testing.assert_allclose(updates['dense']['kernel'], -0.5, rtol=1e-5)
  np.testing.assert_allclose(updates['dense']['bias'], -0.5, rtol=1e-5)
  double = jax.tree.map(lambda x: 2 * x, PARAMS)
  updates, _ = tx.update(gradient, tx.init(double), double)
  np.testing.assert_allclose(updates['dense']['kernel'], -1.0, rtol=1e-5)
  np.testing.assert_allclose(updates['dense']['bias'], -0.5, rtol=1e-5)  # Adam's alone


def test_decay_of_adam_is_in_the_gradient_and_of_adamw_is_not():
  params = {'kernel': jnp.full((2, 2), 3.0)}
  gradient = {'kernel': jnp.full((2, 2), 1e-3)}
  moved = {}
  for name in ('adam', 'adamw'):
    config = optim.get_config(
      name=name, learning_rate=0.1, weight_decay=0.5, warmup_fraction=0.0, schedule='constant'
    )
    tx = optim.make(config, total_steps=4, batch_size=1)
    updates, _ = tx.update(gradient, tx.init(params), params)
    moved[name] = float(updates['kernel'][0, 0])
  np.testing.assert_allclose(moved['adam'], -0.1, rtol=1e-5)  # the sign of gradient + decay
  np.testing.assert_allclose(moved['adamw'], -0.1 - 0.1 * 0.5 * 3, rtol=1e-5)


@pytest.fixture(scope='module')
def blocks():
  """Parameters and a gradient of a ViT of two blocks with every kind of vector, random numbers."""
  config = models.get_config('vit_micro')
  config.update(dim=8, depth=2, heads=2, layer_scale=0.1, qkv_bias='no_key', qk_norm=True)
  net = models.make(config, dtype=jnp.float32)
  shapes, _ = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  rng = np.random.default_rng(0)
  return [jax.tree.map(lambda s: rng.normal(size=s.shape).astype('f'), shapes) for _ in range(2)]


def test_masks_of_stacked_blocks_are_those_of_each(blocks):
  plain = optim.is_matrix({'encoder': blocks[0]})['encoder']
  stacked = optim.is_matrix({'encoder': stack(blocks[0])})['encoder']
  block = stacked.pop('blocks')['block']
  assert block == plain.pop('blocks_0') == plain.pop('blocks_1') and plain == stacked
  assert block['attn']['qkv'] == {'kernel': True, 'bias_q': False, 'bias_v': False}
  assert not (block['ls1'] or block['ls2'])


@pytest.mark.parametrize(
  'fields',
  [{'name': 'lamb'}, {'name': 'lars'}, {'name': 'sgd', 'clip_norm': 1, 'clip_by': 'array'}],
)
def test_stacked_blocks_are_each_scaled_by_their_own_length(blocks, fields):
  config = optim.get_config(weight_decay=0.1, warmup_fraction=0.0, **fields)
  tx = optim.make(config, total_steps=10, batch_size=256)

  def step(arrays):
    params, gradient = ({'encoder': tree} for tree in arrays)
    return tx.update(gradient, tx.init(params), params)[0]['encoder']

  wanted, seen = stack(step(blocks)), step([stack(tree) for tree in blocks])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9), seen, wanted)
