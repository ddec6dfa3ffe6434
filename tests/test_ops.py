"""The shared pieces: values, gradients and orders that a wrong implementation would fail."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import ops
from ssljax.errors import InputError
from ssljax.ops import _attention

rng = np.random.default_rng


def test_l2_normalize_has_length_one_and_a_finite_gradient_at_zero():
  z = rng(0).normal(size=(5, 7)).astype(np.float32)
  z[2] = 0
  expected = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-6)
  np.testing.assert_allclose(ops.l2_normalize(z), expected, rtol=1e-6)
  np.testing.assert_allclose(ops.l2_normalize(z.T, axis=0), expected.T, rtol=1e-6)
  grad = jax.grad(lambda z: ops.l2_normalize(z)[:, 0].sum())(jnp.asarray(z))
  assert np.isfinite(grad).all()
  # The derivative of z / |z| is the projection off z, over |z|.
  norm = np.linalg.norm(z[0])
  projected = (np.eye(7)[0] - expected[0] * expected[0, 0]) / norm
  np.testing.assert_allclose(grad[0], projected, rtol=1e-5, atol=1e-6)


def test_l2_normalize_sums_bfloat16_in_float32():
  z = jnp.full((1, 4096), 1.0, jnp.bfloat16)  # a sum in bfloat16 stops at 256
  out = ops.l2_normalize(z)
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(out, np.float32), 1 / 64, rtol=1e-2)


def test_l2_normalize_floor_is_on_the_squared_norm():
  np.testing.assert_allclose(ops.l2_normalize(np.float32([3e-5, 4e-5]), eps=1e-4), [3e-3, 4e-3])


def test_ema_keeps_dtypes_and_copies_integers():
  old = {'w': jnp.float32([1, 2]), 'h': jnp.bfloat16(1), 'n': jnp.int32(3)}
  new = {'w': jnp.float32([2, 4]), 'h': jnp.bfloat16(3), 'n': jnp.int32(9)}
  out = jax.jit(ops.ema)(old, new, 0.75)
  np.testing.assert_allclose(out['w'], [1.25, 2.5])
  assert out['h'] == 1.5 and out['h'].dtype == jnp.bfloat16
  assert out['n'] == 9 and out['n'].dtype == jnp.int32
  for decay, same in ((1.0, old), (0.0, new)):
    np.testing.assert_array_equal(ops.ema(old, new, decay)['w'], same['w'])


def test_ema_of_a_small_step_is_not_lost():
  # In bfloat16 0.996 * 1 + 0.004 * 2 would be 1.
  assert float(ops.ema(jnp.float32(1), jnp.bfloat16(2), 0.996)) == pytest.approx(1.004)


def test_cosine_ramp_goes_from_base_to_one():
  ramp = jax.jit(lambda k: ops.cosine_ramp(k, 1000, 0.99))
  expected = [0.99, 1 - 0.01 * (np.cos(np.pi / 4) + 1) / 2, 0.995, 1.0, 1.0]
  got = [ramp(k) for k in (0, 250, 500, 1000, 2000)]
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_random_mask_follows_the_order_of_the_noise():
  noise = jnp.float32([[0.5, 0.1, 0.9, 0.3], [0.2, 0.8, 0.4, 0.6]])
  keep_ids, restore, mask = ops.random_mask(noise, 2)
  np.testing.assert_array_equal(keep_ids, [[1, 3], [0, 2]])
  np.testing.assert_array_equal(restore, [[2, 0, 3, 1], [0, 3, 1, 2]])
  np.testing.assert_array_equal(mask, [[1, 0, 1, 0], [0, 1, 0, 1]])


def test_tokens_come_back_to_their_places():
  tokens = rng(1).normal(size=(3, 10, 4)).astype(np.float32)
  fill = np.arange(4, dtype=np.float32)
  keep_ids, restore, mask = ops.random_mask(rng(2).random((3, 10)), 4)
  kept = ops.take_tokens(tokens, keep_ids)
  assert kept.shape == (3, 4, 4)
  back = ops.restore_tokens(kept, fill, restore)
  np.testing.assert_array_equal(back, np.where(np.asarray(mask)[..., None], fill, tokens))


def test_random_mask_equals_the_authors(golden):
  for case in golden('mae'):
    if str(case['hp']['kind']) != 'model':
      continue
    noise = case['in']['noise']
    keep = int(noise.shape[1] * (1 - case['hp']['mask_ratio']))
    _, restore, mask = ops.random_mask(noise, keep)
    np.testing.assert_array_equal(restore, case['out']['ids_restore'])
    np.testing.assert_array_equal(mask, case['out']['mask'])


def test_patchify_order_is_row_column_channel():
  images = rng(3).normal(size=(2, 4, 6, 3))
  patches = np.asarray(ops.patchify(jnp.asarray(images, jnp.float32), 2))
  assert patches.shape == (2, 6, 12)
  expected = images[1, 2:4, 4:6].reshape(-1)  # the last patch: second row, third column
  np.testing.assert_allclose(patches[1, 5], expected, rtol=1e-6)
  np.testing.assert_allclose(ops.unpatchify(patches, 2, 4, 6), images, rtol=1e-6)


def test_patchify_equals_the_authors(golden):
  for case in golden('mae'):
    p = int(case['hp']['patch_size'])
    images = case['in']['imgs'].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ops.patchify(images, p), case['out']['patches'])
    if 'pred' in case['in']:
      back = ops.unpatchify(case['in']['pred'], p, *images.shape[1:3])
      np.testing.assert_allclose(back.transpose(0, 3, 1, 2), case['out']['unpatchified_pred'])


def test_a_queue_goes_around_or_drops_what_does_not_fit():
  queue, rows = np.zeros((5, 1)), np.array([[1.0], [2.0], [3.0]])
  for pointer, wrap, expected, end in [
    (1, True, [0, 1, 2, 3, 0], 4),
    (2, True, [0, 0, 1, 2, 3], 0),
    (4, True, [2, 3, 0, 0, 1], 2),
    (1, False, [0, 1, 2, 3, 0], 4),
    (2, False, [0, 0, 1, 2, 3], 0),
    (4, False, [0, 0, 0, 0, 1], 0),
  ]:
    filled, moved = ops.enqueue(jnp.asarray(queue), jnp.int32(pointer), rows, wrap=wrap)
    np.testing.assert_array_equal(filled[:, 0], expected)
    assert moved == end


@pytest.mark.parametrize(
  ('call', 'sentence'),
  [
    (lambda: ops.patchify(np.zeros((1, 5, 4, 3)), 2), 'images are 5 x 4, wanted sides that'),
    (lambda: ops.patchify(np.zeros((5, 4, 3)), 2), r'images has shape \(5, 4, 3\), wanted \(B, H'),
    (lambda: ops.unpatchify(np.zeros((1, 5, 4)), 2, 4, 4), r'wanted \(B, 4, P\)'),
    (lambda: ops.unpatchify(np.zeros((1, 4, 6)), 2, 4, 4), 'patches hold 6 values'),
    (lambda: ops.random_mask(np.zeros((1, 4)), 0), 'keep is 0, wanted 1 to 4'),
    (lambda: ops.random_mask(np.zeros((1, 4)), 5), 'keep is 5, wanted 1 to 4'),
    (lambda: ops.take_tokens(np.zeros((2, 4, 3)), np.zeros((3, 1), int)), 'ids has shape'),
    (lambda: ops.check_shape('z', np.zeros((2, 3)), (2, 4)), r'z has shape \(2, 3\), wanted \(2, '),
  ],
)
def test_wrong_shapes_are_named(call, sentence):
  with pytest.raises(InputError, match=sentence):
    call()


def test_project_is_the_product_and_its_gradients():
  x, g, kernel = (rng(0).normal(size=shape) for shape in ((2, 3, 5), (2, 3, 4), (5, 4)))
  with jax.enable_x64(True):
    out, pull = jax.vjp(ops.project, *map(jnp.asarray, (x, kernel)))
    found = [out, *pull(jnp.asarray(g))]
  flat = x.reshape(6, 5), g.reshape(6, 4)
  for array, wanted in zip(found, (x @ kernel, g @ kernel.T, flat[0].T @ flat[1]), strict=True):
    np.testing.assert_allclose(array, wanted, rtol=1e-12)


def test_products_by_edge_are_sums_and_scalings():
  a, b = (rng(seed).normal(size=(2, 6, 3, 5)) for seed in (0, 1))
  g, weights = (rng(seed).normal(size=(2, 6, 3)) for seed in (2, 3))
  with jax.enable_x64(True):
    inner, pull = jax.vjp(ops.inner, *map(jnp.asarray, (a, b)))
    scaled, pull_scale = jax.vjp(ops.scale, jnp.asarray(a), jnp.asarray(weights))
    found = [inner, *pull(jnp.asarray(g)), scaled, *pull_scale(jnp.asarray(b))]
  wide = weights[..., None]
  wanted = [
    (a * b).sum(-1),
    g[..., None] * b,
    g[..., None] * a,
    a * wide,
    b * wide,
    (a * b).sum(-1),
  ]
  for array, expected in zip(found, wanted, strict=True):
    np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('op', [ops.hog, functools.partial(ops.gradient_ratio, radius=2)])
def test_flat_images_have_finite_gradients(op):
  def total(images):
    return op(images).sum()

  step = np.zeros((1, 8, 16, 1), np.float32)
  step[:, :, 8:] = 1
  for images in (np.ones_like(step), step):
    assert np.isfinite(jax.grad(total)(images)).all()
  assert total(np.ones_like(step)) == 0


@pytest.mark.parametrize('tokens, others', [(5, 5), (4, 7), (7, 4)])
def test_attention_with_one_token_more_is_the_same(tokens, others):
  """In value and gradients; what is put where cuDNN needs an even number must not be seen."""
  keys = jax.random.split(jax.random.key(0), 3)
  qkv = [
    jax.random.normal(k, (2, n, 3, 8)) for k, n in zip(keys, (tokens, others, others), strict=True)
  ]

  def both(attend):
    loss = lambda *x: jnp.sum(jnp.sin(attend(*x)))  # noqa: E731
    return attend(*qkv), *jax.grad(loss, argnums=(0, 1, 2))(*qkv)

  even = both(lambda *x: _attention._even(*x, 'xla'))
  for found, wanted in zip(even, both(ops.attend), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
