"""Views against NumPy and Pillow restatements for given parameters, and the law of those drawn."""

import colorsys
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from PIL import Image

from ssljax.augment import image as augment
from ssljax.errors import InputError

GRAY = np.array([0.2989, 0.587, 0.114])
COLORS = dict(
  jitter=(0.8, 0.8, 0.8, 0.2),
  jitter_prob=0.8,
  grayscale_prob=0.2,
  blur_prob=(1.0, 0.1),
  solarize_prob=(0.0, 0.2),
)


def picture(*shape, seed=0):
  """An image with grey, black and white pixels and ties between channels among the random ones."""
  x = np.random.default_rng(seed).random(shape, np.float32)
  x[0, :4] = np.array([0, 1, 0.5, 0.25], np.float32)[:, None]
  if shape[-1] == 3:
    x[1, 0], x[1, 1], x[1, 2] = (0.7, 0.7, 0.1), (0.2, 0.9, 0.9), (0.6, 0.3, 0.6)
  return x


@pytest.fixture(scope='module')
def pictures():
  return np.random.default_rng(1).integers(0, 256, (8, 20, 24, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def colored():
  """One compilation of everything for the tests that only read the result."""
  config = augment.get_config(16, **COLORS)
  return config, augment.make(config, with_parameters=True)


# Geometry.


@functools.partial(jax.jit, static_argnums=(2, 3))
def crop_resize(image, box, size, method, flip):
  return augment.crop_resize(image, box, size, method, flip)


@pytest.mark.parametrize('method', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [9, 32])
def test_crop_resize_is_pillows(method, size):
  x = picture(37, 29, 3)
  for box in [(0, 0, 37, 29), (5, 3, 20, 11), (36, 28, 1, 1), (2, 7, 9, 9), (0, 4, 36, 2)]:
    top, left, h, w = box
    for flip in (False, True):
      got = crop_resize(x, jnp.array(box), size, method, flip)
      for channel in range(3):
        patch = Image.fromarray(x[top : top + h, left : left + w, channel])
        want = np.asarray(patch.resize((size, size), Image.Resampling[method.upper()]))
        want = np.clip(want[:, ::-1] if flip else want, 0, 1)
        np.testing.assert_allclose(got[..., channel], want, atol=1e-5)


def box_of_torchvision(uniforms, height, width, scale, ratio):
  areas, ratios, tops, lefts = uniforms.astype(np.float64).reshape(4, 10)
  for area, aspect, top, left in zip(areas, ratios, tops, lefts, strict=True):
    area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
    aspect = math.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * aspect)
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      return int(top * (height - h + 1)), int(left * (width - w + 1)), h, w
  if width / height < ratio[0]:
    w, h = width, round(width / ratio[0])
  elif width / height > ratio[1]:
    w, h = round(height * ratio[1]), height
  else:
    w, h = width, height
  return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
  'shape, scale, ratio',
  [
    ((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)),
    ((23, 57), (0.5, 1.0), (3 / 4, 4 / 3)),  # several attempts fail
    ((10, 57), (0.9, 1.0), (3 / 4, 4 / 3)),  # all fail: too wide
    ((57, 10), (0.9, 1.0), (3 / 4, 4 / 3)),  # all fail: too tall
    ((20, 21), (4.0, 5.0), (3 / 4, 4 / 3)),  # all fail: within the ratio
  ],
)
def test_crop_box_is_torchvisions(shape, scale, ratio):
  uniforms = np.asarray(jax.random.uniform(jax.random.key(0), (500, 40)))
  got = jax.jit(jax.vmap(lambda u: augment.crop_box(u, *shape, scale, ratio)))(uniforms)
  want = np.array([box_of_torchvision(u, *shape, scale, ratio) for u in uniforms])
  # A product that rounds differently in float32 moves a box by a pixel, rarely.
  assert np.abs(got - want).max() <= 1
  assert (got == want).all(1).mean() > 0.99


def blur_by_loops(x, sigma, size):
  offsets = np.arange(size) - size // 2
  taps = np.exp(-0.5 * (offsets / sigma) ** 2)
  taps /= taps.sum()
  for axis in (0, 1):
    pad = [(size // 2, size // 2) if a == axis else (0, 0) for a in range(3)]
    padded = np.pad(x, pad, mode='reflect')
    n = x.shape[axis]
    x = sum(t * np.take(padded, np.arange(i, i + n), axis) for i, t in enumerate(taps))
  return x


@pytest.mark.parametrize('shape, size', [((12, 9, 3), 3), ((12, 9, 1), 17)])
def test_blur_is_a_truncated_gaussian_with_reflected_borders(shape, size):
  x = picture(*shape)
  blur = jax.jit(lambda x, sigma: augment.gaussian_blur(x, sigma, size))
  for sigma in (0.1, 0.7, 2.0):
    want = blur_by_loops(x.astype(np.float64), sigma, size)
    np.testing.assert_allclose(blur(x, sigma), want, atol=1e-6)
  np.testing.assert_array_equal(blur(x, 0.0), x)


@pytest.mark.parametrize('size', [4, 19])
def test_blur_refuses_kernels_that_cannot_be(size):
  with pytest.raises(ValueError, match=f'kernel_size is {size} .* 12x9'):
    augment.gaussian_blur(picture(12, 9, 3), 1.0, size)


# Colour.


def blend(x, base, factor):
  return np.clip(factor * x + (1 - factor) * base, 0, 1)


def hue_by_colorsys(x, shift):
  hsv = [colorsys.rgb_to_hsv(*p) for p in x.reshape(-1, 3).tolist()]
  rgb = [colorsys.hsv_to_rgb((h + shift) % 1, s, v) for h, s, v in hsv]
  return np.array(rgb).reshape(x.shape)


ADJUST = {
  'brightness': lambda x, f: blend(x, 0, f),
  'contrast': lambda x, f: blend(x, (x @ GRAY).mean(), f),
  'saturation': lambda x, f: blend(x, (x @ GRAY)[..., None], f),
  'hue': hue_by_colorsys,
}
FACTORS = {'brightness': 1.7, 'contrast': 0.3, 'saturation': 1.6, 'hue': -0.15}


@pytest.mark.parametrize('name', ADJUST)
def test_adjustments_are_torchvisions(name):
  x = picture(8, 9, 3)
  factors = (-0.5, -0.3, 0.0, 0.1, 0.45) if name == 'hue' else (0.0, 0.4, 1.0, 1.8)
  adjust = jax.jit(getattr(augment, f'adjust_{name}'))
  for factor in factors:
    want = ADJUST[name](x.astype(np.float64), factor)
    np.testing.assert_allclose(adjust(x, factor), want, atol=2e-6)


def test_color_jitter_applies_its_order():
  x = picture(8, 9, 3)
  factors = np.array(list(FACTORS.values()), np.float32)
  jitter = jax.jit(augment.color_jitter, static_argnums=3)
  results = []
  for order in itertools.permutations(range(4)):
    want, no_hue = x.astype(np.float64), x.astype(np.float64)
    for name in (list(ADJUST)[i] for i in order):
      want = ADJUST[name](want, FACTORS[name])
      no_hue = no_hue if name == 'hue' else ADJUST[name](no_hue, FACTORS[name])
    results.append(want)
    np.testing.assert_allclose(jitter(x, factors, jnp.array(order), True), want, atol=5e-6)
    np.testing.assert_allclose(jitter(x, factors, jnp.array(order), False), no_hue, atol=5e-6)
  apart = [np.abs(a - b).max() for a, b in itertools.combinations(results, 2)]
  assert min(apart) > 1e-4  # else a wrong order would pass
  neutral = np.array([1, 1, 1, 0], np.float32)
  np.testing.assert_allclose(jitter(x, neutral, jnp.array([2, 3, 0, 1]), True), x, atol=1e-6)


@pytest.mark.parametrize('channels', [1, 2, 5])
def test_other_channel_counts_keep_saturation_hue_and_grayscale(channels):
  x = picture(8, 9, channels)
  for same in (augment.grayscale(x), augment.adjust_hue(x, 0.3), augment.adjust_saturation(x, 0.1)):
    np.testing.assert_array_equal(same, x)
  want = blend(blend(x.astype(np.float64), 0, 1.5), 0, 1)
  want = blend(want, want.mean(), 0.4)
  got = augment.color_jitter(x, jnp.array([1.5, 0.4, 0.1, 0.3]), jnp.array([3, 0, 2, 1]))
  np.testing.assert_allclose(got, want, atol=1e-6)


def test_grayscale_and_solarize():
  x = picture(8, 9, 3)
  want = np.repeat((x @ GRAY)[..., None], 3, -1)
  np.testing.assert_allclose(augment.grayscale(x), want, atol=1e-6)
  np.testing.assert_array_equal(augment.grayscale(x, False), x)
  levels = np.arange(256, dtype=np.float32).reshape(16, 16, 1) / 255
  inverted = np.where(levels * 255 < 127.5, levels, 1 - levels)
  np.testing.assert_allclose(augment.solarize(levels), inverted, atol=1e-6)


# What is drawn.


def draw(config, n, shape=(32, 32), view=0):
  keys = jax.random.split(jax.random.key(3), n)
  parameters = jax.jit(jax.vmap(lambda k: augment.sample(k, config, shape, view)))(keys)
  return jax.tree.map(np.asarray, parameters)


def test_parameters_have_torchvisions_law():
  n = 20_000
  config = augment.get_config(32, **COLORS | dict(jitter=(0.8, 1.5, 0.4, 0.2)))
  first, second = draw(config, n), draw(config, n, view=jnp.int32(1))

  def share(x, p):
    assert abs(np.mean(x) - p) < 4 * math.sqrt(p * (1 - p) / n) + 1e-9

  def uniform(x, low, high):
    assert low <= x.min() and x.max() <= high
    quantiles = np.quantile(x, np.linspace(0, 1, 11))
    np.testing.assert_allclose(quantiles, np.linspace(low, high, 11), atol=0.03 * (high - low))

  share(first['flip'], 0.5)
  share(first['grayscale'], 0.2)
  share(first['sigma'] > 0, 1.0)
  share(second['sigma'] > 0, 0.1)
  share(first['solarize'], 0.0)
  share(second['solarize'], 0.2)
  uniform(first['sigma'], 0.1, 2.0)

  factors = first['factors']
  jittered = (factors != [1, 1, 1, 0]).any(1)
  share(jittered, 0.8)
  for i, (low, high) in enumerate([(0.2, 1.8), (0.0, 2.5), (0.6, 1.4), (-0.2, 0.2)]):
    uniform(factors[jittered, i], low, high)
  correlation = np.corrcoef(
    np.column_stack([factors[jittered], first['flip'][jittered], first['sigma'][jittered]]).T
  )
  assert np.abs(correlation - np.eye(6)).max() < 0.05

  orders, counts = np.unique(first['order'], axis=0, return_counts=True)
  assert len(orders) == 24
  share_of_order = 1 / 24
  deviation = math.sqrt(n * share_of_order * (1 - share_of_order))
  assert np.abs(counts - n / 24).max() < 4.5 * deviation

  rng = np.random.default_rng(0)
  crop = config.scale, config.ratio
  law = np.array([box_of_torchvision(rng.random(40), 32, 32, *crop) for _ in range(n)])
  top, left, h, w = first['box'].T
  assert (top + h).max() == 32 == (left + w).max()
  for got, want in zip(box_statistics(first['box']), box_statistics(law), strict=True):
    assert abs(got.mean() - want.mean()) < 6 * want.std() / math.sqrt(n)
    assert abs(got.std() / want.std() - 1) < 0.03


def box_statistics(boxes):
  top, left, h, w = boxes.T
  return h * w, np.log(w / h), top, left


# Whole views.


def test_views_follow_their_parameters(pictures, colored):
  config, views = colored
  x, parameters = views(jax.random.key(0), pictures)
  assert x.shape == (8, 2, 16, 16, 3) and x.dtype == jnp.float32
  assert all(leaf.shape[:2] == (8, 2) for leaf in parameters.values())
  shown = np.asarray(augment.to_display(x, config))
  for b, v in itertools.product(range(8), range(2)):
    p = {name: np.asarray(leaf[b, v]) for name, leaf in parameters.items()}
    top, left, h, w = p['box']
    patch = pictures[b, top : top + h, left : left + w].astype(np.float32) / 255
    y = [
      Image.fromarray(np.ascontiguousarray(patch[..., c])).resize(
        (16, 16), Image.Resampling.BICUBIC
      )
      for c in range(3)
    ]
    y = np.clip(np.stack(y, -1).astype(np.float64), 0, 1)
    y = y[:, ::-1] if p['flip'] else y
    for i in p['order']:
      y = list(ADJUST.values())[i](y, float(p['factors'][i]))
    y = np.repeat((y @ GRAY)[..., None], 3, -1) if p['grayscale'] else y
    y = blur_by_loops(y, p['sigma'], 3) if p['sigma'] else y
    y = np.where(y >= 128 / 255, 1 - y, y) if p['solarize'] else y
    # A value within rounding of the threshold may fall to either side of it.
    near = p['solarize'] & (np.abs(y - 127.5 / 255) < 0.003)
    np.testing.assert_allclose(np.where(near, 0, shown[b, v]), np.where(near, 0, y), atol=2e-5)


def test_views_depend_on_key_and_place_alone(pictures, colored):
  _, views = colored
  x, parameters = views(jax.random.key(0), pictures)
  again, _ = views(jax.random.key(0), pictures)
  np.testing.assert_array_equal(x, again)
  _, others = views(jax.random.key(1), pictures)
  assert (parameters['box'] != others['box']).any()
  boxes = np.asarray(parameters['box']).reshape(16, 4)
  assert len(np.unique(boxes, axis=0)) > 12
  changed = pictures.copy()
  changed[3] = 255 - changed[3]
  y, _ = views(jax.random.key(0), changed)
  np.testing.assert_array_equal(np.delete(x, 3, 0), np.delete(y, 3, 0))


def test_batches_stay_where_they_are(pictures, colored):
  _, views = colored
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = NamedSharding(mesh, PartitionSpec('data'))
  key = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
  images = jax.device_put(pictures, sharding)
  program = views.lower(key, images).compile()
  text = program.as_text()
  for collective in ('all-gather', 'all-to-all', 'collective-permute', 'all-reduce'):
    assert collective not in text
  x, parameters = program(key, images)
  assert x.sharding.is_equivalent_to(sharding, x.ndim)
  one, its_parameters = views(jax.random.key(0), pictures)
  np.testing.assert_allclose(x, one, atol=2e-6)
  jax.tree.map(np.testing.assert_array_equal, parameters, its_parameters)


def test_multi_crop_is_a_dict_of_views(pictures):
  configs = {
    'global': augment.get_config(16, scale=(0.4, 1.0)),
    'local': augment.get_config(8, num_views=3, scale=(0.05, 0.4)),
  }
  x, parameters = augment.make(configs, with_parameters=True)(jax.random.key(0), pictures)
  assert {name: y.shape for name, y in x.items()} == {
    'global': (8, 2, 16, 16, 3),
    'local': (8, 3, 8, 8, 3),
  }
  area = {name: np.prod(p['box'][..., 2:], -1) / (20 * 24) for name, p in parameters.items()}
  assert area['local'].max() < 0.45 and area['global'].min() > 0.35


def test_chances_of_zero_leave_operations_out(pictures):
  def program(**overrides):
    config = augment.get_config(16, flip=0.0, **overrides)
    views = augment.make(config, with_parameters=True)
    text = str(jax.make_jaxpr(views)(jax.random.key(0), pictures))
    parameters = jax.eval_shape(
      lambda key: augment.sample(key, config, (20, 24)), jax.random.key(0)
    )
    return set(parameters), len(text.splitlines())

  plain, length = program()
  assert plain == {'box'}
  for field, names in {
    'jitter_prob': {'factors', 'order'},
    'grayscale_prob': {'grayscale'},
    'blur_prob': {'sigma'},
    'solarize_prob': {'solarize'},
  }.items():
    parameters, longer = program(**{field: (0.0, 0.5)})
    assert parameters == plain | names
    assert longer > length


def test_constant_images_give_finite_views(colored):
  _, views = colored
  for level in (0, 128, 255):
    x, _ = views(jax.random.key(0), np.full((8, 20, 24, 3), level, np.uint8))
    assert np.isfinite(x).all()


@pytest.mark.parametrize(
  'function, argument',
  [
    (augment.adjust_contrast, 0.7),
    (augment.adjust_saturation, 1.3),
    (augment.adjust_hue, 0.1),
    (lambda x, sigma: augment.gaussian_blur(x, sigma, 3), 0.0),
    (lambda x, top: augment.crop_resize(x, (top, 0, 1, 4), 5), 2.0),
  ],
)
def test_constant_images_have_finite_gradients(function, argument):
  gradients = jax.grad(lambda x, a: jnp.sum(function(x, a) ** 2), (0, 1))
  images = jnp.stack([jnp.full((4, 4, 3), value) for value in (0.0, 0.5, 1.0)])
  results = jax.jit(jax.vmap(gradients, (0, None)))(images, argument)
  assert all(np.isfinite(leaf).all() for leaf in results)


# Evaluation and display.


def test_prepare_resizes_and_normalises_and_display_inverts_it(pictures):
  config = augment.get_config(12, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
  prepare = jax.jit(lambda images: augment.prepare(images, config))
  x = prepare(pictures)
  channel = Image.fromarray(pictures[0, ..., 2].astype(np.float32) / 255)
  want = np.clip(np.asarray(channel.resize((12, 12), Image.Resampling.BICUBIC)), 0, 1)
  np.testing.assert_allclose(x[0, ..., 2], (want - 0.6) / 0.3, atol=5e-5)
  np.testing.assert_allclose(augment.to_display(x, config)[0, ..., 2], want, atol=1e-5)
  np.testing.assert_allclose(x, prepare(pictures / np.float32(255)), atol=1e-5)
  square = pictures[:, :12, :12]
  np.testing.assert_allclose(
    augment.to_display(augment.prepare(square, config), config), square / 255.0, atol=1e-6
  )


def test_views_that_cannot_be_are_refused(pictures):
  for overrides, message in [
    (dict(flip=1.5), r'views.flip is \(1.5,\), wanted numbers from 0 to 1'),
    (dict(blur_prob=(0.5, 0.5, 0.5)), 'views.blur_prob .* one for each view'),
    (dict(interpolation='nearest'), 'views.interpolation is nearest, wanted bilinear or bicubic'),
    (dict(scale=(1.0, 0.5)), 'views.scale'),
    (dict(jitter=(0.4, 0.4, 0.4, 0.6)), r'views.jitter .*\(hue\) at most'),
    (dict(blur_kernel=4, blur_prob=0.5), 'views.blur_kernel is 4, wanted an odd number'),
    (dict(std=(0.0,)), 'views.std'),
  ]:
    with pytest.raises(InputError, match=message):
      augment.make(augment.get_config(16, **overrides))
  with pytest.raises(InputError, match='no field flips, the nearest is flip'):
    augment.get_config(16, flips=0.5)
  with pytest.raises(InputError, match='mean has 2 values for images of 3 channels'):
    augment.prepare(pictures[:, :16, :16], augment.get_config(16, mean=(0.5, 0.5)))
  with pytest.raises(InputError, match='images have dtype int32'):
    augment.prepare(pictures.astype(np.int32), augment.get_config(16))
  with pytest.raises(ValueError, match=r'images has shape \(20, 24, 3\), wanted \[B, H, W, C\]'):
    augment.prepare(pictures[0], augment.get_config(16))
