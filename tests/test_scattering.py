"""The scattering transform against kymatio's numbers, and the encoder on it.

data/scattering_kymatio.npz was made by kymatio 0.3.0 with numpy 2.1 and scipy 1.14:

  from kymatio.numpy import Scattering2D
  image = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)[0]
  j2_l8 = Scattering2D(J=2, shape=(32, 32), L=8)(image)
  j3_l4 = Scattering2D(J=3, shape=(32, 24), L=4)(image[:, :24])
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import models, ops
from ssljax.errors import InputError
from ssljax.models import scattering

scatter = jax.jit(scattering.scatter, static_argnums=(1, 2))


@functools.cache
def kymatio():
  with np.load(pathlib.Path(__file__).parent / 'data' / 'scattering_kymatio.npz') as file:
    return dict(file)


@pytest.mark.parametrize(
  ('name', 'scales', 'orientations', 'columns'), [('j2_l8', 2, 8, 32), ('j3_l4', 3, 4, 24)]
)
def test_scattering_is_kymatios(name, scales, orientations, columns):
  image = kymatio()['image'][:, :columns]
  # A second channel, other than the first, shows which coefficients are whose.
  images = np.stack([image, 2 * image], -1)[None]
  seen = np.moveaxis(np.asarray(scatter(images, scales, orientations))[0], -1, 0)
  wanted = kymatio()[name]
  assert len(wanted) == 1 + scales * orientations + scales * (scales - 1) // 2 * orientations**2
  np.testing.assert_allclose(seen[: len(wanted)], wanted, atol=1e-4)
  np.testing.assert_allclose(seen[len(wanted) :], 2 * wanted, atol=2e-4)
  # Far enough apart that an exchange of two coefficients would show.
  assert np.abs(wanted[1] - wanted[2]).max() > 1e-2


def test_constants_have_order_zero_alone():
  seen = np.asarray(scatter(np.full((1, 16, 16, 1), 0.7, np.float32), 2, 8))[0]
  np.testing.assert_allclose(seen[..., 0], 0.7, atol=1e-4)
  np.testing.assert_allclose(seen[..., 1:], 0, atol=1e-4)


def test_shifts_move_little_and_waves_find_their_orientation():
  x = np.arange(64)
  wave = np.cos(0.75 * np.pi * x)[None, :].repeat(64, 0)[None, ..., None].astype(np.float32)
  across, along = scatter(wave, 2, 8), scatter(wave.swapaxes(1, 2), 2, 8)
  strongest = [
    int(np.asarray(s)[0, 4:-4, 4:-4, 1:9].mean((0, 1)).argmax()) for s in (across, along)
  ]
  assert abs(strongest[0] - strongest[1]) == 4  # a quarter of the circle, in eighths of a half
  moved = scatter(np.roll(wave, 1, 2), 2, 8)
  inside = np.s_[:, 4:-4, 4:-4, 1:17]
  assert np.abs(moved[inside] - across[inside]).max() < 0.05 * np.abs(across[inside]).max()


def test_sides_that_cannot_be_halved_are_refused():
  with pytest.raises(InputError, match=r'images are 18 x 16, wanted sides that 2\^2 divides'):
    scattering.scatter(jnp.zeros((1, 18, 16, 1)), 2, 8)
  config = models.get_config('scattering_2')
  config.pool = 3
  with pytest.raises(InputError, match='encoder.pool is 3 for maps of 4 x 4'):
    models.make(config, dtype=jnp.float32).init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


@pytest.mark.parametrize('name', ['scattering_2', 'scattering_8'])
def test_encoder_has_the_documented_outputs(name):
  config = models.get_config(name)
  config.width = 8
  net = models.make(config, dtype=jnp.float32)
  images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)
  params, state = jax.eval_shape(net.init, jax.random.key(0), images)
  outputs, _ = jax.eval_shape(lambda p, s, x: net.apply(p, s, x, train=True), params, state, images)
  assert outputs['map'].shape == (4, 8, 8, 32) and outputs['features'].shape == (4, 16 * 32)
  assert len(outputs['maps']) == 2
  assert params['conv1']['kernel'].shape[2] == 3 * 81  # nothing else depends on the transform


# The transform below it.


@pytest.mark.parametrize('shape', [(2, 3, 12, 9), (5, 40)])
def test_dft2_is_numpys(shape):
  generator = np.random.default_rng(0)
  x = generator.normal(size=shape).astype(np.float32)
  z = (x + 1j * generator.normal(size=shape)).astype(np.complex64)
  for array in (x, z):
    np.testing.assert_allclose(jax.jit(ops.dft2)(array), np.fft.fft2(array), atol=2e-4)
    np.testing.assert_allclose(jax.jit(ops.idft2)(array), np.fft.ifft2(array), atol=1e-5)


def test_transforms_stay_on_their_device():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  images = jax.ShapeDtypeStruct((16, 16, 16, 3), jnp.float32, sharding=place)
  text = scatter.lower(images, 2, 8).compile().as_text()
  for collective in ('all-gather', 'all-to-all', 'collective-permute', 'all-reduce'):
    assert f'{collective}(' not in text
