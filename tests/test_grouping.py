"""The encoder of grouping layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import models
from ssljax.errors import InputError


def build(**options):
  config = models.get_config('pgt_micro')
  config.update(dict(dim=16, depth=2, heads=2, groups=5) | options)
  net = models.make(config, dtype=jnp.float32)
  x = jax.random.normal(jax.random.key(1), (3, 32, 32, 3))
  params, state = jax.jit(net.init)(jax.random.key(0), x)
  assert not state
  return net, params, x


def test_patches_are_shared_out_among_groups():
  net, params, x = build()
  found, _ = net.apply(params, {}, x, train=False)
  assert found['tokens'].shape == (3, 64, 16) and found['groups'].shape == (3, 5, 16)
  shares = np.asarray(found['assignments'])
  assert shares.shape == (3, 2, 5, 64) and (shares > 0).all()
  np.testing.assert_allclose(shares.sum(2), 1, rtol=1e-5)
  np.testing.assert_allclose(found['features'], found['tokens'].mean(1), rtol=1e-5)


def test_groups_and_rounds_may_change_after_training():
  net, params, x = build()
  usual, _ = net.apply(params, {}, x, train=False)
  for options in ({'groups': 9}, {'rounds': 3}):
    found, _ = net.apply(params, {}, x, train=False, **options)
    assert found['groups'].shape[1] == options.get('groups', 5)
    assert 1e-4 < float(jnp.abs(found['features'] - usual['features']).max()) < 5


def test_groups_are_drawn_in_training_and_fixed_otherwise():
  net, params, x = build()
  rngs = [jax.random.key(i) for i in range(2)]
  seen = [
    net.apply(params, {}, x, train=t, rng=r)[0]['features'] for t in (True, False) for r in rngs
  ]
  assert (seen[0] != seen[1]).any()
  np.testing.assert_array_equal(seen[2], seen[3])
  still, params, x = build(sample_groups=False)
  same = [still.apply(params, {}, x, train=True, rng=r)[0]['features'] for r in rngs]
  np.testing.assert_array_equal(*same)


def test_order_of_patches_matters_only_by_their_positions():
  net, params, x = build()
  params['pos_embed'] = jnp.zeros_like(params['pos_embed'])
  turned = x[:, ::-1].reshape(3, 8, 4, 32, 3)[:, :, ::-1].reshape(x.shape)  # rows of patches
  one, two = (net.apply(params, {}, y, train=False)[0] for y in (x, turned))
  np.testing.assert_allclose(one['features'], two['features'], rtol=1e-4, atol=1e-5)
  tokens = one['tokens'].reshape(3, 8, 8, 16)[:, ::-1].reshape(3, 64, 16)
  np.testing.assert_allclose(tokens, two['tokens'], rtol=1e-3, atol=1e-4)


def test_other_sizes_pass_and_wrong_ones_are_errors():
  net, params, x = build()
  found, _ = net.apply(params, {}, x[:, :16, :24], train=False)
  assert found['tokens'].shape == (3, 24, 16)
  with pytest.raises(InputError, match='patch_size 4'):
    net.apply(params, {}, x[:, :30], train=False)
  with pytest.raises(InputError, match='encoder.dim is 15'):
    build(dim=15)
