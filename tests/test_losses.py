"""Every loss against the authors' numbers, a NumPy restatement and its own invariances."""

import functools
import importlib
import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases_contrastive import numpy_info_nce, numpy_nt_xent
from cases_decoupled import numpy_dcl
from cases_masked import mae, mae_arrays, numpy_mae
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from losscheck import BATCH, assert_close, compiled, embeddings, value_and_grad

from ssljax import losses
from ssljax.errors import InputError

FAMILIES = [
  importlib.import_module(path.stem)
  for path in sorted(pathlib.Path(__file__).parent.glob('cases_*.py'))
]
CASES = {name: case for family in FAMILIES for name, case in family.CASES.items()}
GOLDENS = {slug: golden for family in FAMILIES for slug, golden in family.GOLDENS.items()}


def every(wanted=lambda case: True):
  return pytest.mark.parametrize('name', [name for name, case in CASES.items() if wanted(case)])


@functools.cache
def tempered(loss, chunk_size=None):
  """The loss with the temperature as a third traced argument."""

  def call(z1, z2, temperature):
    return loss(z1, z2, temperature=temperature, chunk_size=chunk_size)

  return call


# The authors' numbers.


@pytest.mark.parametrize('name', GOLDENS)
@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_equals_the_authors(golden, name, dtype):
  compared = 0
  with jax.enable_x64(dtype == 'float64'):
    for case in golden(name):
      if (numbers := GOLDENS[name](case)) is None:
        continue
      compared += 1
      rtol = 1e-6 if dtype == 'float64' else numbers.rtol32
      arrays = [
        jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else 'int32')
        for x in map(np.asarray, numbers.arrays)
      ]
      has_aux = numbers.aux is not None
      value, grads = compiled(numbers.loss, len(numbers.grads), has_aux)(*arrays)
      if has_aux:
        value, aux = value
        assert_close(aux, numbers.aux, rtol, f'{name}: what it leaves')
      assert value.dtype == dtype
      assert_close(value, numbers.value, rtol, f'{name}: value')
      for i, (seen, wanted) in enumerate(zip(grads, numbers.grads, strict=True)):
        scale = max(np.abs(wanted).max(), 1e-12)
        np.testing.assert_allclose(
          seen / scale, wanted / scale, atol=rtol, rtol=0, err_msg=f'{name}: gradient {i}'
        )
  assert compared


# Anywhere.


@every()
def test_equals_numpy(name):
  case = CASES[name]
  expected = case.restated(
    *(x.astype(np.float64) if x.dtype == np.float32 else x for x in case.arrays)
  )
  value, _ = value_and_grad(case.loss, case.arrays, case.trained)
  np.testing.assert_allclose(value, expected, rtol=2e-5)


def test_more_keys_than_queries_and_labels():
  queries, keys = embeddings(1)[0], embeddings(1, seed=1, batch=40)[0]
  labels = np.random.default_rng(2).permutation(40)[:BATCH]
  for options in ({}, {'labels': labels}):
    expected = numpy_info_nce(queries, keys, temperature=0.2, **options)
    for chunk_size in (None, 5):
      loss = functools.partial(losses.info_nce, temperature=0.2, chunk_size=chunk_size)
      got = jax.jit(loss)(queries, keys, **options)
      np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_dclw_weighs_pairs():
  # Apart from CASES: the weights have no gradient, which finite differences do not know.
  got = losses.dclw(*embeddings(2), sigma=0.3)
  np.testing.assert_allclose(got, numpy_dcl(*embeddings(2), sigma=0.3), rtol=1e-5)


def test_mae_without_normalised_pixels():
  arrays = mae_arrays()
  expected = numpy_mae(*arrays, norm_pix=False)
  np.testing.assert_allclose(mae(*arrays, norm_pix=False), expected, rtol=1e-5)
  np.testing.assert_allclose(mae(*arrays[:2], arrays[2] > 0, norm_pix=False), expected, rtol=1e-5)


@every(lambda case: not case.fixed_targets)
def test_gradient_equals_finite_differences(name):
  loss, _, arrays, trained, *_ = CASES[name]
  with jax.enable_x64(True):
    arrays = [jnp.asarray(x, jnp.float64) if x.dtype == np.float32 else x for x in arrays]
    _, grads = value_and_grad(loss, arrays, trained)
    along = [np.random.default_rng(100 + i).normal(size=x.shape) for i, x in enumerate(grads)]
    ends = []
    for h in (1e-6, -1e-6):
      moved = [x + h * d for x, d in zip(arrays, along, strict=False)]
      ends.append(float(value_and_grad(loss, [*moved, *arrays[trained:]], trained)[0]))
    slope = sum(float((g * d).sum()) for g, d in zip(grads, along, strict=True))
    np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, slope, rtol=1e-6)


@every(lambda case: case.agree)
def test_falls_as_views_agree(name):
  case = CASES[name]
  values = [float(value_and_grad(case.loss, case.agree(t), case.trained)[0]) for t in (0, 0.5, 1)]
  assert values[0] > values[1] > values[2], values
  assert values[0] - values[2] > 0.05 * abs(values[0]), values


@every(lambda case: case.agree)
def test_collapse_is_no_minimum_or_the_docstring_says_what_prevents_it(name):
  case = CASES[name]
  constant = [np.ones_like(x) if i < case.trained else x for i, x in enumerate(case.arrays)]
  arrays = case.collapsed() if case.collapsed else constant
  collapsed, grads = value_and_grad(case.loss, arrays, case.trained)
  assert np.isfinite(collapsed) and all(np.isfinite(g).all() for g in grads)
  good, _ = value_and_grad(case.loss, case.agree(1), case.trained)
  if case.prevented_by:
    loss = getattr(case.loss, 'func', case.loss)
    assert case.prevented_by in ' '.join(loss.__doc__.split())
  else:
    assert collapsed > good + 0.02 * abs(good), (collapsed, good)


def test_chance_level():
  same = np.ones((BATCH, 12), np.float32)
  for chunk_size in (None, 3):
    loss = functools.partial(losses.nt_xent, chunk_size=chunk_size)
    np.testing.assert_allclose(loss(same, same), np.log(2 * BATCH - 1), rtol=1e-6)
  np.testing.assert_allclose(losses.info_nce(same, same), np.log(BATCH), rtol=1e-6)


def test_care_does_not_see_a_rotation_of_the_sphere():
  z, e = embeddings(2)
  turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(12, 12)))
  values = [
    losses.care(z, z, e, np.float32(other), weight=1.0, equiv_splits=4)
    for other in (e @ turn, 3 * e @ turn, e[::-1] @ turn)
  ]
  wanted = losses.nt_xent(z, z, temperature=0.5)
  np.testing.assert_allclose(values[:2], wanted, rtol=1e-5)
  assert values[2] > 1.1 * wanted


def test_byol_does_not_train_its_targets():
  grads = jax.grad(losses.byol, argnums=(2, 3))(*embeddings(4))
  assert not any(np.any(g) for g in grads)


@every()
def test_zero_rows_have_finite_gradients(name):
  loss, _, arrays, trained, *_ = CASES[name]
  arrays = [x.copy() for x in arrays]
  for x in arrays[:trained]:
    x[:3] = 0
  value, grads = value_and_grad(loss, arrays, trained)
  assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)


def test_nothing_to_tell_apart_is_zero_and_finite():
  z = embeddings(2, batch=1)
  for name in ('nt_xent', 'nt_xent, chunked', 'info_nce', 'info_nce, chunked'):
    value, grads = value_and_grad(CASES[name][0], z, 2)
    assert value == 0 and not any(np.any(g) for g in grads), name
  pred, images, mask = mae_arrays()
  assert mae(pred, images, 0 * mask) == 0
  for name in ('ibot_patch', 'ibot_patch, sinkhorn'):
    loss, _, (student, teacher, mask, *center), *_ = CASES[name]
    none = [student, teacher, np.zeros_like(mask), *center]
    value, grads = value_and_grad(loss, none, 1)
    assert value == 0 and not np.any(grads[0]), name


@every(lambda case: case.permutes)
def test_order_of_the_batch_does_not_matter(name):
  loss, _, arrays, trained, *_ = CASES[name]
  order = np.random.default_rng(0).permutation(BATCH)
  value, grads = value_and_grad(loss, arrays, trained)
  shuffled = value_and_grad(loss, [x[order] for x in arrays], trained)
  assert_close(shuffled, (value, tuple(g[order] for g in grads)))


@every()
def test_bfloat16_is_computed_in_float32(name):
  loss, _, arrays, trained, *_ = CASES[name]
  half = [jnp.asarray(x, jnp.bfloat16) if x.dtype == np.float32 else x for x in arrays]
  value, grads = value_and_grad(loss, half, trained)
  assert value.dtype == jnp.float32 and grads[0].dtype == jnp.bfloat16
  full = [x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x for x in half]
  assert_close(value, value_and_grad(loss, full, trained)[0], 1e-6)


@every()
def test_vmap(name):
  loss, _, arrays, trained, *_ = CASES[name]
  pair = arrays, [arrays[0][::-1].copy(), *arrays[1:]]
  expected = [value_and_grad(loss, each, trained) for each in pair]
  step = jax.vmap(jax.value_and_grad(loss, argnums=tuple(range(trained))))
  got = jax.jit(step)(*(np.stack(x) for x in zip(*pair, strict=True)))
  for i in range(2):
    assert_close(jax.tree.map(lambda x, i=i: x[i], got), expected[i])


def test_small_losses_keep_their_digits():
  z1, z2 = embeddings(2)
  z2, temperature = z1 + np.float32(0.05) * z2, 0.03
  exact = numpy_nt_xent(*(z.astype(np.float64) for z in (z1, z2)), temperature=temperature)
  assert exact < 1e-3
  for chunk_size in (None, 3):
    arrays = z1, z2, np.float32(temperature)
    value, _ = value_and_grad(tempered(losses.nt_xent, chunk_size), arrays, 3)
    np.testing.assert_allclose(value, exact, rtol=2e-5)


# Blocks.


@pytest.mark.parametrize(
  ('loss', 'batch', 'chunk_size'),
  [
    (losses.nt_xent, 2, 1),  # two blocks that only see each other
    (losses.nt_xent, 16, 3),  # an even number of blocks, the last with padding
    (losses.nt_xent, 16, 4),  # without
    (losses.nt_xent, 7, 3),  # an odd number, with padding
    (losses.nt_xent, 7, 1),
    (losses.nt_xent, 16, 99),  # one block
    (losses.info_nce, 16, 4),
    (losses.info_nce, 7, 3),
  ],
)
def test_chunked_equals_dense(loss, batch, chunk_size):
  arrays = *embeddings(2, batch=batch), np.float32(0.3)
  blocks = value_and_grad(tempered(loss, chunk_size), arrays, 3)
  assert_close(blocks, value_and_grad(tempered(loss), arrays, 3))


CHUNKED = [name for name in dir(losses) if not name.startswith('_')]
CHUNKED = [n for n in CHUNKED if 'chunk_size' in inspect.signature(getattr(losses, n)).parameters]


@pytest.mark.parametrize('name', CHUNKED)
def test_every_chunked_form_equals_the_dense_one(name):
  if name in ('dclw', 'kernel_info_nce'):  # in CASES not at all, or by its kernels
    loss, arrays, trained = getattr(losses, name), embeddings(2), 2
  elif name == 'nce_normalizer':
    loss, arrays, trained = losses.nce_normalizer, (*CASES['nce'].arrays, np.float32(-1)), 1
  else:
    loss, _, arrays, trained, *_ = CASES[name]
  dense = value_and_grad(loss, arrays, trained)
  assert_close(value_and_grad(functools.partial(loss, chunk_size=3), arrays, trained), dense)


def test_a_cold_temperature_does_not_overflow():
  arrays = *embeddings(2), np.float32(1e-3)
  dense, blocks = (value_and_grad(tempered(losses.nt_xent, c), arrays, 3) for c in (None, 3))
  assert np.isfinite(dense[0]) and dense[0] > 100
  assert_close(blocks, dense, 1e-4)


@pytest.mark.parametrize('loss', [losses.nt_xent, losses.info_nce, losses.distance_correlation])
def test_memory_of_the_chunked_form_is_linear(loss):
  def temporary(batch):
    z = jax.ShapeDtypeStruct((batch, 32), jnp.float32)
    step = jax.value_and_grad(functools.partial(loss, chunk_size=32), argnums=(0, 1))
    return jax.jit(step).lower(z, z).compile().memory_analysis().temp_size_in_bytes

  large = temporary(4096)
  assert large < 5 * temporary(1024)
  assert large < 4096**2  # a quarter of a float32 [B, B]


# Many devices. The weights make embeddings, so that a gradient needs every device.


@functools.cache
def shared_weights(name):
  """A loss of replicated weights and the batch, its arguments, value and gradient."""
  loss, _, arrays, trained, *_ = CASES[name]
  shape = (arrays[0].shape[-1],) * 2
  weights = np.eye(*shape) + 0.1 * np.random.default_rng(7).normal(size=shape)

  def total(weights, *arrays, **options):
    moved = [x @ weights if x.shape[-1] == len(weights) else x for x in arrays[:trained]]
    return loss(*moved, *arrays[trained:], **options)

  weights = weights.astype(np.float32)
  return total, weights, arrays, jax.jit(jax.value_and_grad(total))(weights, *arrays)


def specs(name):
  """Which of a case's arrays are split over the devices: those with an axis of the batch."""
  split = CASES[name].axis_name
  split = split if isinstance(split, tuple) else (True,) * len(CASES[name].arrays)
  return [P('data') if part else P() for part in split]


def mesh(axis_type):
  return jax.make_mesh((8,), ('data',), axis_types=(axis_type,))


@every()
def test_sharded_jit_equals_one_device(name):
  total, weights, arrays, expected = shared_weights(name)
  on = mesh(AxisType.Auto)
  placed = [
    jax.device_put(x, NamedSharding(on, spec)) for x, spec in zip(arrays, specs(name), strict=True)
  ]
  got = jax.jit(jax.value_and_grad(total))(weights, *placed)
  assert_close(got, expected)


@every(lambda case: case.axis_name)
def test_pmap_equals_the_global_loss(name):
  total, weights, arrays, expected = shared_weights(name)

  def step(weights, *arrays):
    value, grad = jax.value_and_grad(total)(weights, *arrays, axis_name='i')
    return value, jax.lax.pmean(grad, 'i')

  parts = [spec == P('data') for spec in specs(name)]
  shares = [
    x.reshape(8, -1, *x.shape[1:]) if split else x for x, split in zip(arrays, parts, strict=True)
  ]
  axes = (None, *(0 if split else None for split in parts))
  values, grads = jax.pmap(step, axis_name='i', in_axes=axes)(weights, *shares)
  for device in range(8):
    assert_close((values[device], grads[device]), expected, what=device)


@every(lambda case: case.axis_name)
def test_shard_map_equals_the_global_loss(name):
  total, weights, arrays, expected = shared_weights(name)
  loss = functools.partial(total, axis_name='data')

  def mean_of_grads(*args):
    value, grad = jax.value_and_grad(loss)(*args)
    return value, jax.lax.pmean(grad, 'data')

  def mapped(f, out_specs, **options):
    return jax.shard_map(
      f,
      mesh=mesh(AxisType.Auto),
      in_specs=(P(), *specs(name)),
      out_specs=out_specs,
      **options,
    )

  outside = jax.value_and_grad(mapped(loss, P()))
  inside = mapped(jax.value_and_grad(loss), (P(), P()))
  unchecked = mapped(mean_of_grads, (P(), P()), check_vma=False)
  for what, step in {'outside': outside, 'inside': inside, 'unchecked': unchecked}.items():
    assert_close(jax.jit(step)(weights, *arrays), expected, what=what)


def test_chunked_blocks_are_divided_among_devices():
  """The blocks go around the ring: no device gathers the batch or repeats another's work."""
  place = NamedSharding(mesh(AxisType.Auto), P('data'))
  z = jax.ShapeDtypeStruct((512, 32), jnp.float32, sharding=place)
  loss = functools.partial(losses.nt_xent, chunk_size=32)
  program = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(z, z).compile().as_text()
  assert 'collective-permute' in program and 'all-gather' not in program


def test_explicit_mesh():
  place = NamedSharding(mesh(AxisType.Explicit), P('data'))
  for name in ('nt_xent', 'mae'):
    loss, _, arrays, trained, *_ = CASES[name]
    placed = [jax.device_put(x, place) for x in arrays]
    with jax.set_mesh(place.mesh):
      got = jax.jit(jax.sharding.auto_axes(loss, out_sharding=P()))(*placed)
    assert_close(got, value_and_grad(loss, arrays, trained)[0])


# What the user sees of a mistake.

# Arguments of losses that CASES calls otherwise or not at all.
TEMPERED = {
  'cim': [CASES['cim'].arrays[i] for i in (0, 2, 1, 3)],
  'deepcluster_v2': [x if i != 1 else [x] for i, x in enumerate(CASES['deepcluster_v2'].arrays)],
  'msn_targets': CASES['msn'].arrays[1:],
  'nce_normalizer': (*CASES['nce'].arrays, -1.0),
  'teacher_codes': CASES['dino'].arrays[1:],
}


def temperatures():
  """(name, argument, function) of all temperatures of the losses above."""
  given = {name: functools.partial(getattr(losses, name), *a) for name, a in TEMPERED.items()}
  for case in CASES.values():
    loss = functools.partial(case.loss)  # one layer, however many there were
    name = getattr(loss.func, '__name__', '')
    if loss.func is getattr(losses, name, None):
      given.setdefault(name, functools.partial(loss, *case.arrays))
  for name, loss in given.items():
    for argument in inspect.signature(getattr(losses, name)).parameters:
      if re.search('(^|_)temp(erature)?$|^tau$|^sharpen$|^sigma$', argument):
        yield name, argument, loss


@pytest.mark.parametrize(('name', 'argument', 'loss'), list(temperatures()))
def test_temperatures_are_positive(name, argument, loss):
  with pytest.raises(InputError, match=f'^{argument} is 0.0, wanted more than 0'):
    loss(**{argument: 0.0})


Z = np.zeros((4, 3), np.float32)
WRONG = [
  (lambda: losses.nt_xent(Z, Z[:3]), r'z2 has shape \(3, 3\), wanted \(4, 3\)'),
  (lambda: losses.nt_xent(Z[0], Z[0]), r'z1 has shape \(3\), wanted \(B, D\)'),
  (lambda: losses.nt_xent(Z, Z, temperature=0.0), 'temperature is 0.0, wanted more than 0'),
  (lambda: losses.nt_xent(Z, Z, chunk_size=0), 'chunk_size is 0, wanted more than 0'),
  (lambda: losses.info_nce(Z, Z[:, :2]), r'keys has shape \(4, 2\), wanted \(M, 3\)'),
  (lambda: losses.info_nce(Z, Z[:2]), 'keys has 2 rows, wanted 4 or more'),
  (lambda: losses.info_nce(Z, Z, labels=np.arange(3)), r'labels has shape \(3\), wanted \(4\)'),
  (lambda: losses.directclr(Z, Z, loss_dim=9), 'loss_dim is 9, wanted 1 to 3'),
  (
    lambda: losses.supcon(Z[None], np.zeros(1, int), contrast_mode='two'),
    "contrast_mode is 'two', wanted 'all'",
  ),
  (
    lambda: losses.care(Z, Z, Z, Z, equiv_splits=3),
    'equiv_splits is 3, wanted .* divides the 4 rows',
  ),
  (
    lambda: losses.sie(Z, Z, Z, inv_dim=1),
    r'predicted has shape \(4, 3\), wanted \(4, 2\)',
  ),
  (lambda: losses.byol(Z, Z, Z[:2], Z), r'z1 has shape \(2, 3\), wanted \(4, 3\)'),
  (
    lambda: losses.mae(np.zeros((1, 4, 11)), np.zeros((1, 4, 4, 3)), np.ones((1, 4)), patch_size=2),
    r'pred has shape \(1, 4, 11\), wanted \(1, 4, 12\)',
  ),
  (
    lambda: losses.mae(np.zeros((1, 4, 12)), np.zeros((1, 4, 4, 3)), np.ones((1, 3)), patch_size=2),
    r'mask has shape \(1, 3\), wanted \(1, 4\)',
  ),
  (lambda: losses.hypeboy(Z, Z, np.arange(4), reduce='max'), "reduce is 'max', wanted 'sum'"),
  (lambda: losses.graphcl(Z[:1], Z[:1]), 'z1 has 1 graph, wanted at least 2'),
  (lambda: losses.local_global(Z, Z[:1], np.zeros(4, int)), 'graphs has 1 graph, wanted'),
  (lambda: losses.global_global(Z[:1], Z[:1]), 'first has 1 graph, wanted at least 2'),
]


@pytest.mark.parametrize(('call', 'sentence'), WRONG)
def test_mistakes_are_named(call, sentence):
  with pytest.raises(InputError, match=sentence):
    call()
