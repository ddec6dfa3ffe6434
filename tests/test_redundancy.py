"""What the common suite does not ask: SimSiam's heads, whitening, HOG, permutations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_distance import numpy_distance_correlation

from ssljax import losses, ops
from ssljax.errors import InputError
from ssljax.models import heads
from ssljax.net import chain, over_views


def test_simsiam_heads_equal_the_authors(golden):
  """Projector, predictor and loss together, from features on."""
  (case,) = golden('simsiam_model')
  x, hp = case['in'], case['hp']
  dim = int(hp['dim'])
  network = chain(
    projector=heads.mlp(
      (dim,) * 3, hidden_bias=False, last_bias=False, last_norm='batch_no_affine'
    ),
    predictor=heads.mlp((int(hp['pred_dim']), dim), hidden_bias=False),
  )
  viewed = over_views(network, view_stats='separate')

  def dense(name, bias=False):
    weight = {'kernel': x[f'{name}_weight'].T}
    return weight | ({'bias': x[f'{name}_bias']} if bias else {})

  def norm(name):
    return {'scale': x[f'{name}_scale'], 'bias': x[f'{name}_bias']}

  with jax.enable_x64(True):
    views = jnp.stack([x['x1'], x['x2']], axis=1)
    params, state = viewed.init(jax.random.key(0), views)
    wanted = {
      'projector': {
        'linear_0': dense('proj0'),
        'bn_0': norm('proj1'),
        'linear_1': dense('proj3'),
        'bn_1': norm('proj4'),
        'linear_2': dense('proj6'),
      },
      'predictor': {
        'linear_0': dense('pred0'),
        'bn_0': norm('pred1'),
        'linear_1': dense('pred3', True),
      },
    }
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, wanted)

    def loss(params, views):
      outputs, _ = viewed.apply(params, state, views, train=True)
      p, z = outputs['predictor'], outputs['projector']
      return losses.simsiam(p[:, 0], p[:, 1], z[:, 0], z[:, 1]), (p, z)

    grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, (p, z)), (grads, view_grads) = grad(wanted, views)

  close = dict(rtol=1e-6, atol=1e-9)
  np.testing.assert_allclose(value, case['out']['loss'], rtol=1e-6)
  for i, view in enumerate('12'):
    np.testing.assert_allclose(p[:, i], case['out'][f'p{view}'], **close)
    np.testing.assert_allclose(z[:, i], case['out'][f'z{view}'], **close)
    np.testing.assert_allclose(view_grads[:, i], case['grad'][f'x{view}'], **close)
  seen = grads['projector'], grads['predictor']
  expected = case['grad']
  for layer, name in {'linear_0': 'proj0', 'linear_1': 'proj3', 'linear_2': 'proj6'}.items():
    np.testing.assert_allclose(seen[0][layer]['kernel'], expected[f'{name}_weight'].T, **close)
  for layer, name in {'linear_0': 'pred0', 'linear_1': 'pred3'}.items():
    np.testing.assert_allclose(seen[1][layer]['kernel'], expected[f'{name}_weight'].T, **close)
  for part, layer, name in (
    (0, 'bn_0', 'proj1'), (0, 'bn_1', 'proj4'), (1, 'bn_0', 'pred1'), (1, 'linear_1', 'pred3')
  ):  # fmt: skip
    for kind in seen[part][layer].keys() - {'kernel'}:
      wanted = expected[f'{name}_{kind}']
      np.testing.assert_allclose(seen[part][layer][kind], wanted, **close)


def test_simsiam_does_not_train_its_targets():
  z = np.random.default_rng(0).normal(size=(4, 8, 6)).astype(np.float32)
  grads = jax.grad(losses.simsiam, argnums=(0, 1, 2, 3))(*z)
  assert np.any(grads[0]) and np.any(grads[1]) and not np.any(grads[2]) and not np.any(grads[3])


def test_whitened_rows_have_the_identity_as_covariance():
  generator = np.random.default_rng(0)
  x = generator.normal(size=(3, 200, 8)) @ generator.normal(size=(8, 8)) + 5
  y = ops.whiten(x.astype(np.float32))
  for rows in np.asarray(y, np.float64):
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(rows.T), np.eye(8), atol=1e-3)


@pytest.mark.parametrize('rank', [0, 1, 20])
def test_whitening_fewer_directions_than_features_is_finite(rank):
  generator = np.random.default_rng(rank)
  x = generator.normal(size=(2, 128, rank)) @ generator.normal(size=(rank, 32))

  def loss(x):
    return losses.w_mse(x.swapaxes(0, 1), np.arange(128)[None], w_size=128)

  value, grad = jax.value_and_grad(loss)(jnp.asarray(x, jnp.float32))
  assert np.isfinite(value) and np.isfinite(grad).all()


def test_tico_detaches_the_moment_unless_told():
  z1, z2 = np.random.default_rng(0).normal(size=(2, 16, 6)).astype(np.float32)
  zero = np.zeros((6, 6), np.float32)

  def slope(through):
    return jax.grad(lambda z: losses.tico(z, z2, zero, beta=0.0, grad_through_b=through)[0])(z1)

  # With C = M alone the second term is |M|^2: half of its gradient is M's.
  pull = jax.grad(lambda z: losses.tico(z, z2, zero, rho=0.0)[0])(z1)
  np.testing.assert_allclose(slope(True) - pull, 2 * (slope(False) - pull), rtol=1e-3, atol=1e-6)


def test_distance_correlation_of_a_turned_and_of_an_independent_set():
  generator = np.random.default_rng(0)
  x = generator.normal(size=(400, 5))
  turn, _ = np.linalg.qr(generator.normal(size=(5, 5)))
  np.testing.assert_allclose(losses.distance_correlation(x, 3 * x @ turn + 1), 1, rtol=1e-4)
  one = generator.normal(size=(400, 1))
  assert losses.distance_correlation(one, generator.normal(size=(400, 1))) < 0.15
  assert losses.distance_correlation(one, one**2) > 0.4  # a dependence without correlation


def test_distance_correlation_takes_equal_rows_for_equal():
  # Of rows in pairs |a|^2 + |b|^2 - 2ab is rounding, and the root of that is much larger.
  generator = np.random.default_rng(1)
  x, y = (generator.normal(size=(32, width)).repeat(2, 0).astype(np.float32) for width in (512, 64))
  wanted = numpy_distance_correlation(*(rows.astype(np.float64) for rows in (x, y)))
  np.testing.assert_allclose(losses.distance_correlation(x, y), wanted, rtol=1e-6)


def test_sigreg_of_a_gaussian_is_small_and_of_others_grows_with_the_batch():
  generator = np.random.default_rng(0)
  slices = ops.l2_normalize(generator.normal(size=(4, 64)), axis=0)
  for count in (256, 4096):
    z = generator.normal(size=(count, 4))
    assert losses.sigreg(z, slices) < 3
    assert losses.sigreg(2 * z, slices) > 0.02 * count
    assert losses.sigreg(z + 1, slices) > 0.02 * count


def test_mmcr_of_orthogonal_centroids_is_the_least_there_is():
  z = np.repeat(np.eye(8, dtype=np.float32)[:, None], 3, axis=1)
  np.testing.assert_allclose(losses.mmcr(z), -8, rtol=1e-6)
  assert np.isfinite(jax.grad(losses.mmcr)(z)).all()  # all singular values are equal


def test_hog_of_stripes_votes_for_their_direction():
  y, x = np.mgrid[:16, :16].astype(np.float32)
  for angle in (0.0, 0.7, 2.0, 3.0):
    image = np.sin(0.5 * (x * np.cos(angle) + y * np.sin(angle)))[None, ..., None]
    histogram = np.asarray(ops.hog(image, bins=12, cell=8))
    assert histogram.shape == (1, 2, 2, 12)
    assert histogram.sum((0, 1, 2)).argmax() in {
      int(angle / np.pi * 12),
      (int(angle / np.pi * 12) + 1) % 12,
    }
  brighter = ops.hog(image + 3, bins=12)
  np.testing.assert_allclose(brighter, histogram, rtol=1e-3, atol=1e-5)
  with pytest.raises(InputError, match='images are 4 x 4, wanted sides of at least a cell, 8'):
    ops.hog(np.zeros((1, 4, 4, 1), np.float32))


def test_partners_are_a_permutation_that_follows_its_rows():
  noise = np.asarray(jax.random.uniform(jax.random.key(0), (32, 2)))
  partner = np.asarray(ops.random_partner(noise))
  np.testing.assert_array_equal(np.sort(partner), np.arange(32))
  order = np.random.default_rng(0).permutation(32)
  moved = np.asarray(ops.random_partner(noise[order]))
  np.testing.assert_array_equal(order[moved], partner[order])
  perms = np.asarray(ops.permutations(noise))
  np.testing.assert_array_equal(order[np.asarray(ops.permutations(noise[order]))], perms)


def test_mistakes_are_named():
  z = np.zeros((6, 2, 3), np.float32)
  for w_size, sentence in {4: 'w_size is 4, wanted a divisor of 6'}.items():
    with pytest.raises(InputError, match=sentence):
      losses.w_mse(z, np.arange(6)[None], w_size=w_size)
  with pytest.raises(InputError, match=r'wanted at least 2 views'):
    losses.w_mse(z[:, :1], np.arange(6)[None], w_size=6)
  with pytest.raises(InputError, match=r'z has shape \(3,\), wanted \(B, D\) or \(B, V, D\)'):
    losses.sigreg(z[0, 0], np.ones((3, 2)))
