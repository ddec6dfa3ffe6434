"""RegNetY: sizes as published, its convolution against XLA's, and what it gives."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax import config as configs
from ssljax import models, program, sharding
from ssljax.errors import InputError
from ssljax.models import regnet

KEY = jax.random.key(0)


def shapes(name, **overrides):
  config = models.get_config(name)
  config.update(overrides)
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  net = models.make(config, dtype=jnp.float32)
  return config, jax.eval_shape(net.init, KEY, image)[0]


def count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


# Of torchvision, with its classifier of 1,000 classes; without 800MF and 8GF, whose widths it
# rounds in another way than the authors.
PUBLISHED = {
  'regnety_400mf': 4_344_144,
  'regnety_1_6gf': 11_202_430,
  'regnety_3_2gf': 19_436_338,
  'regnety_16gf': 83_590_140,
  'regnety_32gf': 145_046_770,
  'regnety_128gf': 644_812_894,
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_has_the_published_number_of_parameters(name):
  config, params = shapes(name)
  classifier = 1000 * (config.widths[-1] + 1)
  assert count(params) + classifier == PUBLISHED[name]


def test_widths_of_seer_are_those_of_its_heads():
  assert models.get_config('regnety_256gf').widths == (746, 1492, 4103, 10444)
  assert models.get_config('regnety_10b').widths == (2020, 4040, 11110, 28280)
  for name in ('regnety_256gf', 'regnety_10b'):
    assert models.get_config(name).depths == (2, 7, 17, 1)


@pytest.mark.parametrize(
  ('preset', 'encoder', 'total'), [('seer', 1.27e9, 1.43e9), ('seer_10b', 9.3e9, 9.6e9)]
)
def test_presets_of_seer_have_the_size_of_the_papers(preset, encoder, total):
  """1.3 billion (2021) and 10 billion (2022); nothing is allocated."""
  config = configs.get_config(f'swav,digits,preset={preset}')
  method = program.make_method(config, steps=1, num_examples=100)
  batch = {
    'image': {
      name: jax.ShapeDtypeStruct((1, view.num_views, view.size, view.size, 3), jnp.float32)
      for name, view in config.method.views.items()
    }
  }
  params, _ = jax.eval_shape(method.init, KEY, batch)
  assert count(params['encoder']) == pytest.approx(encoder, rel=0.005)
  assert count(params) == pytest.approx(total, rel=0.005)
  assert params['prototypes'].shape == (16000, 256)


def ordinary(x, w, *, strides):
  return lax.conv_general_dilated(
    x, w, (strides, strides), [(1, 1), (1, 1)], feature_group_count=3,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )  # fmt: skip


def with_gradients(convolve, x, w):
  y, pull = jax.vjp(convolve, x, w)
  return y, *pull(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))


@pytest.mark.parametrize('strides', [1, 2])
@pytest.mark.parametrize('side', [4, 5])
@pytest.mark.parametrize('devices', [1, 8])
def test_grouped_convolution_equals_the_ordinary_one(strides, side, devices):
  """In the form of a CPU, and in that of other platforms, which devices of a mesh split."""
  x = jax.random.normal(KEY, (8, side, side + 1, 12))
  w = jax.random.normal(jax.random.key(1), (3, 3, 4, 12))
  mesh = sharding.make_mesh(1, devices)
  x = jax.device_put(x, NamedSharding(mesh, sharding.BATCH))
  wanted = jax.jit(lambda x, w: with_gradients(partial(ordinary, strides=strides), x, w))(x, w)

  @jax.jit
  def ours(x, w):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return [
        with_gradients(partial(convolve, strides=strides), x, w)
        for convolve in (regnet.grouped_conv, regnet.grouped_conv_xla)
      ]

  for form in ours(x, w):
    for a, b in zip(form, wanted, strict=True):
      assert a.shape == b.shape
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_no_device_convolves_the_images_of_others():
  """XLA by itself does a convolution in groups whole on every device."""
  mesh = sharding.make_mesh(2, 4)
  rows, out = NamedSharding(mesh, sharding.BATCH), NamedSharding(mesh, P(None, None, None, 'fsdp'))
  x = jax.ShapeDtypeStruct((64, 16, 16, 64), jnp.float32, sharding=rows)
  w = jax.ShapeDtypeStruct((3, 3, 16, 64), jnp.float32, sharding=out)

  @jax.jit
  def gradients(x, w):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      convolve = partial(regnet.grouped_conv, strides=1)
      return with_gradients(convolve, jnp.tanh(x), w)

  compiled = gradients.trace(x, w).lower(lowering_platforms=('tpu',)).compile()
  shapes = re.findall(r'f32\[(\d+),16,16,64\]', compiled.as_text())
  assert set(shapes) == {'8'}


def test_maps_and_features():
  config = models.get_config('regnety_tiny')
  net = models.make(config, dtype=jnp.bfloat16)
  x = jax.random.normal(KEY, (2, 32, 32, 3))
  params, state = jax.jit(net.init)(KEY, x)
  outputs, new_state = jax.jit(net.apply, static_argnames='train')(params, state, x, train=True)
  assert [m.shape for m in outputs['maps']] == [(2, 8, 8, 16), (2, 4, 4, 32), (2, 2, 2, 64)]
  assert outputs['features'].shape == (2, 64) and outputs['features'].dtype == jnp.bfloat16
  assert jax.tree.structure(new_state) == jax.tree.structure(state)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((params, new_state)))


def test_remat_computes_the_same_again():
  x = jax.random.normal(KEY, (4, 16, 16, 3))
  found, recomputed = [], []
  for remat in (False, True):
    config = models.get_config('regnety_tiny')
    config.update(remat=remat, depths=(2,), widths=(16,))
    net = models.make(config, dtype=jnp.float32)
    params, state = jax.jit(net.init)(KEY, x)

    def loss(params, net=net, state=state):
      return jnp.sum(net.apply(params, state, x, train=True)[0]['features'] ** 2)

    found.append(jax.jit(jax.value_and_grad(loss))(params))
    recomputed.append(str(jax.make_jaxpr(jax.grad(loss))(params)).count('remat'))
  for a, b in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
  assert recomputed[0] == 0 and recomputed[1] > 0


@pytest.mark.parametrize(
  ('fields', 'sentence'),
  [
    ({'stem': 'big'}, "encoder.stem is 'big', wanted one of"),
    ({'widths': (16, 36, 64)}, 'wanted multiples of group_width 8'),
    ({'depths': (1, 1)}, 'wanted the same number'),
  ],
)
def test_mistakes_are_named(fields, sentence):
  config = models.get_config('regnety_tiny')
  config.update(fields)
  with pytest.raises(InputError, match=sentence):
    models.make(config, dtype=jnp.float32)
