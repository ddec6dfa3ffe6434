"""Rotation, shared draws, vectors of parameters, amplitude swaps and saliency."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ssljax.augment import fourier, saliency
from ssljax.augment import image as augment
from ssljax.errors import InputError


def pictures(count=6, height=20, width=24, seed=1):
  return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


# Rotation.


@pytest.mark.parametrize('shape', [(16, 16), (13, 22)])
def test_rotate_is_pillows(shape):
  x = np.random.default_rng(0).random((*shape, 2), np.float32) + np.float32(0.1)
  rotate = jax.jit(augment.rotate)
  for degrees in (0.0, 12.5, -40.0, 77.0, 163.0, 301.0):
    got = rotate(x, degrees)
    for channel in range(2):
      turned = Image.fromarray(x[..., channel]).rotate(degrees, Image.Resampling.BILINEAR)
      np.testing.assert_allclose(got[..., channel], np.asarray(turned), atol=1e-5)
  square = x[:, :13] if shape[0] == 13 else x
  np.testing.assert_allclose(rotate(square, 90.0), np.rot90(square), atol=1e-5)


def test_angles_are_uniform_and_views_follow_them():
  config = augment.get_config(16, flip=0.0, rotate=(-30.0, 60.0), rotate_prob=(0.0, 0.5))
  keys = jax.random.split(jax.random.key(3), 4000)
  draw = jax.jit(jax.vmap(lambda k, v: augment.sample(k, config, (20, 24), v), (0, None)))
  assert not draw(keys, 0)['angle'].any()
  angle = np.asarray(draw(keys, 1)['angle'])
  turned = angle[angle != 0]
  assert abs(len(turned) / 4000 - 0.5) < 0.04
  quantiles = np.quantile(turned, np.linspace(0, 1, 7))
  np.testing.assert_allclose(quantiles, np.linspace(-30, 60, 7), atol=3)

  x, parameters = augment.make(config, with_parameters=True)(jax.random.key(0), pictures())
  shown = augment.to_display(x, config)
  for b, v in itertools.product(range(6), range(2)):
    image = pictures()[b].astype(np.float32) / 255
    y = augment.crop_resize(image, parameters['box'][b, v], 16)
    y = Image.fromarray(np.asarray(y[..., 1])).rotate(
      float(parameters['angle'][b, v]), Image.Resampling.BILINEAR
    )
    np.testing.assert_allclose(shown[b, v, ..., 1], np.clip(np.asarray(y), 0, 1), atol=2e-5)


def test_without_rotation_nothing_else_is_drawn_than_before():
  plain = augment.get_config(16, jitter_prob=0.8, grayscale_prob=0.2)
  turned = augment.get_config(16, jitter_prob=0.8, grayscale_prob=0.2, rotate_prob=1.0)
  draws = [
    jax.jit(lambda k, c=config: augment.sample(k, c, (20, 24)))(jax.random.key(0))
    for config in (plain, turned)
  ]
  assert set(draws[1]) - set(draws[0]) == {'angle'}
  for name, value in draws[0].items():
    np.testing.assert_array_equal(value, draws[1][name])
  sines = [
    str(jax.make_jaxpr(augment.make(config))(jax.random.key(0), pictures())).count('= sin ')
    for config in (plain, turned)
  ]
  assert sines == [0, 1]


@pytest.mark.parametrize(
  'overrides, message',
  [
    (dict(rotate=(10.0, -10.0)), r'views.rotate is \(10.0, -10.0\), wanted \(low, high\)'),
    (dict(rotate_prob=2.0), r'views.rotate_prob is \(2.0,\), wanted numbers from 0 to 1'),
    (dict(shared_by=0), 'views.shared_by is 0, wanted at least 1'),
  ],
)
def test_fields_that_cannot_be_are_refused(overrides, message):
  with pytest.raises(InputError, match=message):
    augment.make(augment.get_config(16, **overrides))


# Sharing.


def test_parts_of_the_batch_share_their_draws():
  config = augment.get_config(16, jitter_prob=0.8, rotate_prob=0.5, shared_by=4)
  images = pictures(10)
  views = augment.make(config, with_parameters=True)
  x, parameters = views(jax.random.key(0), images)
  vectors = np.asarray(augment.parameter_vector(parameters, images.shape[1:]))
  for part in (slice(0, 4), slice(4, 8), slice(8, 10)):
    np.testing.assert_array_equal(vectors[part], vectors[part][:1].repeat(len(vectors[part]), 0))
  heads = vectors[[0, 4, 8]].reshape(6, -1)
  assert len(np.unique(heads, axis=0)) == 6  # parts and views differ
  # An image's views do not depend on those it shares with.
  other = images.copy()
  other[1] = 255 - other[1]
  y, _ = views(jax.random.key(0), other)
  np.testing.assert_array_equal(np.delete(x, 1, 0), np.delete(y, 1, 0))
  assert (x[1] != y[1]).any()


def test_sharing_is_the_same_on_eight_devices():
  config = augment.get_config(16, rotate_prob=0.5, shared_by=3)
  images = pictures(16)
  views = augment.make(config, with_parameters=True)
  wanted = views(jax.random.key(0), images)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  key = jax.device_put(
    jax.random.key(0), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  )
  program = views.lower(key, jax.device_put(images, place)).compile()
  seen = program(key, jax.device_put(images, place))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), seen, wanted)
  for collective in ('all-gather', 'all-to-all', 'collective-permute', 'all-reduce'):
    assert f'{collective}(' not in program.as_text()


# Vectors of parameters.


def test_parameter_vector_is_what_was_drawn():
  parameters = {
    'box': jnp.array([5, 6, 10, 12]),
    'flip': jnp.array(True),
    'angle': jnp.array(30.0),
    'factors': jnp.array([1.2, 0.8, 1.1, -0.1]),
    'order': jnp.array([2, 0, 1, 3]),
    'grayscale': jnp.array(False),
    'sigma': jnp.array(1.5),
    'solarize': jnp.array(True),
  }
  wanted = [0.25, 0.25, 0.5, 0.5, 1, 0.5, np.sqrt(3) / 2, 1.2, 0.8, 1.1, -0.1, 0, 1.5, 1]
  vector = augment.parameter_vector(parameters, (20, 24, 3))
  np.testing.assert_allclose(vector, wanted, atol=1e-6)
  stacked = jax.tree.map(lambda x: jnp.stack([jnp.stack([x, x])]), parameters)
  assert augment.parameter_vector(stacked, (20, 24, 3)).shape == (1, 2, 14)
  del parameters['angle'], parameters['factors']
  assert augment.parameter_vector(parameters, (20, 24, 3)).shape == (8,)


# Amplitudes.


def window(size, ratio):
  signed = np.round(np.fft.fftfreq(size) * size)
  return np.abs(signed) <= np.sqrt(ratio) * size / 2


@pytest.mark.parametrize('ratio', [0.0, 0.1, 0.4, 1.0])
def test_amplitudes_are_the_styles_in_the_window_and_phases_stay(ratio):
  image, style = np.random.default_rng(0).random((2, 15, 12, 3))
  got = jax.jit(fourier.swap_amplitude)(image.astype(np.float32), style.astype(np.float32), ratio)
  seen, own, other = (np.fft.fft2(x, axes=(0, 1)) for x in (np.asarray(got), image, style))
  inside = window(15, ratio)[:, None] & window(12, ratio)
  assert inside[0, 0] and inside.sum() == {0.0: 1, 0.1: 15, 0.4: 63, 1.0: 180}[ratio]
  np.testing.assert_allclose(np.abs(seen)[inside], np.abs(other)[inside], atol=1e-3)
  np.testing.assert_allclose(np.abs(seen)[~inside], np.abs(own)[~inside], atol=1e-3)
  # Away from amplitudes that are rounding, phases are those of the image.
  turn = seen / np.abs(seen) * (own / np.abs(own)).conj()
  sure = np.minimum(np.abs(seen), np.abs(own)) > 0.1
  assert sure.mean() > 0.9
  np.testing.assert_allclose(turn[sure], 1, atol=1e-2)
  assert got.dtype == jnp.float32
  # The result is real: the window lies symmetrically.
  full = np.where(inside[..., None], np.abs(other), np.abs(own)) * own / np.abs(own)
  np.testing.assert_allclose(np.fft.ifft2(full, axes=(0, 1)), got, atol=1e-5)


def test_an_image_keeps_its_own_style_and_black_has_a_phase():
  image, style = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
  np.testing.assert_allclose(fourier.swap_amplitude(image, image, 0.5), image, atol=1e-6)
  assert np.isfinite(fourier.swap_amplitude(np.zeros_like(image), style, 0.5)).all()
  with pytest.raises(InputError, match=r'style has shape \(8, 7, 3\), wanted \(8, 8, 3\)'):
    fourier.swap_amplitude(image, style[:, :7], 0.5)


# Saliency.


def lab_of(color):
  """One sRGB colour in Lab, as the CIE and IEC 61966-2-1 write it."""
  linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
  rows = ((0.412453, 0.35758, 0.180423), (0.212671, 0.71516, 0.072169))
  rows += ((0.019334, 0.119193, 0.950227),)
  f = []
  for row in rows:
    t = sum(a * b for a, b in zip(row, linear, strict=True)) / sum(row)
    f.append(t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116)
  return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def saliency_by_pairs(image):
  """Every pixel against every other, of colours moved to the centre of their level."""
  quantised = (np.minimum(np.floor(image * np.float32(12)), 11) + 0.5) / 12
  labs = np.array([lab_of(color) for color in quantised.reshape(-1, 3)])
  contrast = np.linalg.norm(labs[:, None] - labs, axis=-1).mean(1).reshape(image.shape[:2])
  return (contrast - contrast.min()) / (contrast.max() - contrast.min())


def test_lab_has_its_known_colours():
  known = {
    (1, 1, 1): (100, 0, 0),
    (0, 0, 0): (0, 0, 0),
    (1, 0, 0): (53.24, 80.09, 67.20),
    (0, 0, 1): (32.30, 79.19, -107.86),
  }
  for rgb, lab in known.items():
    np.testing.assert_allclose(saliency.rgb_to_lab(jnp.array(rgb, jnp.float32)), lab, atol=0.05)


def test_saliency_is_the_mean_distance_of_colours():
  images = np.random.default_rng(0).random((2, 9, 7, 3), np.float32)
  images[1] = 0.2 + 0.01 * images[1]
  images[1, 2:4, 3:5] = (0.9, 0.1, 0.1)
  got = jax.jit(jax.vmap(saliency.histogram_contrast))(images)
  np.testing.assert_allclose(got, [saliency_by_pairs(x) for x in images], atol=1e-4)
  assert (got[1, 2:4, 3:5] == 1).all() and got[1, 0].max() < 0.2


def test_salient_images_are_weighted_or_cut_out():
  image = np.full((8, 8, 3), 0.6, np.float32)
  image[2:4, 2:4] = (0.9, 0.1, 0.1)
  inside = np.zeros((8, 8, 1), bool)
  inside[2:4, 2:4] = True
  np.testing.assert_allclose(saliency.salient(image), np.where(inside, image, 0), atol=1e-5)
  weak = np.where(inside, image, image * [1, 0.9, 1]).astype(np.float32)
  weak[7] = (0.6, 0.6, 0.9)
  cut = np.asarray(saliency.salient(weak, 0.9))
  weight = np.asarray(saliency.histogram_contrast(weak))[..., None]
  assert 0 < (weight >= 0.9).mean() < 0.2
  np.testing.assert_array_equal(cut, np.where(weight >= 0.9, weak, 0))
  plain = np.full((4, 4, 3), 0.3, np.float32)
  np.testing.assert_array_equal(saliency.salient(plain), plain)
  with pytest.raises(InputError, match=r'image has shape \(4, 4, 1\), wanted \[H, W, 3\]'):
    saliency.salient(plain[..., :1])
