"""Presets of methods that the common suite, which takes the tiny ones, does not reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from ssljax import config, program, sharding
from ssljax.errors import InputError


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


def test_supcon_projects_features_of_length_one():
  made = make('supcon,digits,preset=imagenet,encoder=convnet_small')
  train_state = made.init(small.key())
  named = made.embed(train_state.params, train_state.state, small.placed(made))
  features = named['features']
  unit = features / jnp.linalg.norm(features, axis=1, keepdims=True)
  kernel = train_state.params['projector']['linear_0']['kernel']
  np.testing.assert_allclose(named['projection'], unit @ kernel, rtol=1e-4, atol=1e-5)
