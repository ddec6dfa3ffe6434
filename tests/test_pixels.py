"""What masked methods hide, corrupt, cut out and paint, besides their losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from ml_collections import ConfigDict

from ssljax import config, models, ops, program
from ssljax.augment import exemplar, image
from ssljax.errors import InputError
from ssljax.methods.image import _paint, sit
from ssljax.models.correlation import enlarge

GRID = 6, 8


def many(mask, count=200):
  return np.asarray(jax.vmap(mask)(jax.random.split(small.key(), count)))


def test_unit_mask_hides_whole_squares_and_rounds_up():
  masks = many(lambda key: ops.unit_mask(key, GRID, unit=2, ratio=0.6))
  assert masks.shape == (200, 48) and masks.dtype == bool
  squares = masks.reshape(200, 3, 2, 4, 2)
  assert (squares == squares[:, :, :1, :, :1]).all()
  assert (masks.sum(1) == 4 * 8).all()  # 12 squares, 7.2 of them
  np.testing.assert_allclose(masks.mean(0), 8 / 12, atol=0.12)  # every place alike
  whole = many(lambda key: ops.unit_mask(key, (10, 10), unit=1, ratio=0.07), 2)
  assert (whole.sum(1) == 7).all()  # 0.07 * 100 > 7 in floating point


def neighbours(masks, rows, columns):
  """The share of hidden patches whose right neighbour is hidden as well."""
  grid = masks.reshape(-1, rows, columns)
  return (grid[:, :, :-1] & grid[:, :, 1:]).sum() / grid[:, :, :-1].sum()


def test_group_mask_hides_connected_patches_in_the_number_asked_for():
  rows = columns = 14
  hide = functools.partial(ops.group_mask, grid=(rows, columns))
  for count in (0, 1, 59, 147, 196):
    assert (many(functools.partial(hide, count=count), 20).sum(1) == count).all()
  grouped = many(functools.partial(hide, count=59))
  single = many(functools.partial(hide, count=59, max_side=0.0))
  assert neighbours(grouped, rows, columns) > 0.6
  assert abs(neighbours(single, rows, columns) - 59 / 196) < 0.05
  # Rectangles begin anywhere and reach down and right: the first row and column have fewer.
  assert grouped.mean(0).min() > 0.05
  traced = jax.jit(lambda count: hide(small.key(), count=count).sum())
  assert traced(7) == 7 and traced(100) == 100


def test_group_mask_fills_a_grid_of_few_patches():
  masks = many(lambda key: ops.group_mask(key, (4, 4), count=12), 50)
  assert (masks.sum(1) == 12).all()


def test_mask_pixels_are_those_of_the_patches():
  mask = np.array([[True, False, False, False, False, True]])
  pixels = np.asarray(ops.mask_pixels(mask, 2, 4, 6))[0, :, :, 0]
  expected = np.zeros((4, 6), bool)
  expected[:2, :2] = expected[2:, 4:] = True
  np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
  ('call', 'sentence'),
  [
    (lambda: ops.unit_mask(small.key(), GRID, unit=4, ratio=0.5), 'unit is 4 .* grid of 6 x 8'),
    (lambda: ops.unit_mask(small.key(), GRID, unit=2, ratio=1.5), 'ratio is 1.5, wanted 0 to 1'),
    (lambda: ops.group_mask(small.key(), GRID, count=3, max_side=2), 'max_side is 2, wanted'),
    (
      lambda: made('simmim', mask_unit=6),
      'mask_unit is 6 pixels, wanted a multiple of the patch size 4',
    ),
    (lambda: made('simmim', mask_ratio=0.9), 'mask_ratio is 0.9 of 4 squares, wanted one of them'),
    (lambda: made('sit', encoder=dict(registers=0)), 'encoder.registers is 0, wanted 1'),
    (
      lambda: corrupted(fill='blur')[0],
      "corruption.fill is 'blur', wanted 'noise' or 'zeros'",
    ),
  ],
)
def test_mistakes_are_named(call, sentence):
  with pytest.raises(InputError, match=sentence):
    call()


def made(name, encoder=None, **fields):
  c = small.small_config(name)
  with c.unlocked():
    c.method.update(fields)
    c.encoder.update(encoder or {})
  method = program.make_method(c, steps=8, num_examples=len(small.SOURCE))
  batch = small.rows(method)
  jax.eval_shape(lambda key: method.init(key, method.views(key, batch)), small.key())
  return method


def corrupted(**fields):
  settings = dict(fill='noise', ratio=0.75, foreign_prob=0.5, foreign_ratio=0.25, max_side=0.3)
  c = ConfigDict(dict(patch_size=4, corruption=settings | fields))
  # Every image one colour of its own, the two views too.
  colours = 10 + np.arange(64, dtype=np.float32).reshape(32, 2)
  clean = np.broadcast_to(colours[:, :, None, None, None], (32, 2, 32, 32, 3))
  return clean, jax.tree.map(np.asarray, _paint.corrupt(small.key(), jnp.asarray(clean), c))


@pytest.mark.parametrize('fill', ['noise', 'zeros'])
def test_corrupt_replaces_what_the_mask_says_and_nothing_else(fill):
  clean, batch = corrupted(fill=fill)
  np.testing.assert_array_equal(batch['clean'], clean)
  seen = batch['image'].reshape(64, 32, 32, 3)
  mask = batch['mask'].reshape(64, 64)
  hidden = np.asarray(ops.mask_pixels(mask, 4, 32, 32))[..., 0]
  own = clean.reshape(64, -1)[:, 0]
  for i in range(64):
    assert (seen[i][~hidden[i]] == own[i]).all()
  share = mask.mean(1)
  foreign = np.array([(seen[i][hidden[i]] >= 10).all() for i in range(64)])
  assert 16 < foreign.sum() < 48  # half of them
  np.testing.assert_allclose(share[foreign], 0.25)
  assert (share[~foreign] >= 0.5).all() and (share[~foreign] <= 0.75).all()
  assert np.ptp(share[~foreign]) > 0.1
  inside = np.concatenate([seen[i][hidden[i]].ravel() for i in range(64) if not foreign[i]])
  if fill == 'zeros':
    assert not inside.any()
  else:
    assert abs(inside.mean()) < 0.02 and abs(inside.std() - 1) < 0.02
  # Of another image one colour, of the same view, a partner each image has once.
  colours = [seen[i][hidden[i]].max() for i in np.flatnonzero(foreign)]
  for i, colour in zip(np.flatnonzero(foreign), colours, strict=True):
    assert (seen[i][hidden[i]] == colour).all() and (colour - own[i]) % 2 == 0
  assert np.mean([c == own[i] for i, c in zip(np.flatnonzero(foreign), colours, strict=True)]) < 0.2


def test_pictures_keep_what_is_seen_and_paint_the_rest():
  views = image.get_config(4)
  x = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)
  mask = np.array([[1, 0, 0, 0], [0, 0, 0, 1]], np.float32)
  pred = np.full((2, 4, 12), 0.5, np.float32)
  (shown,) = _paint.pictures(x, pred, mask, patch_size=2, views=views).values()
  clean = image.to_display(x, views)
  np.testing.assert_array_equal(shown[:, 0], clean)
  np.testing.assert_array_equal(shown[:, 1:, :2, 2:], clean[:, None, :2, 2:].repeat(2, 1))
  assert (shown[0, 1, :2, :2] == 0.5).all() and (shown[0, 2, :2, :2] == 0.75).all()
  assert (shown[1, 1, 2:, 2:] == 0.5).all() and (shown[1, 2, 2:, 2:] == 0.75).all()


def test_turned_is_rot90():
  x = np.random.default_rng(0).normal(size=(4, 5, 5, 3)).astype(np.float32)
  got = sit.turned(jnp.asarray(x), jnp.arange(4))
  for k in range(4):
    np.testing.assert_array_equal(got[k], np.rot90(x[k], k))


def test_vit_averages_blocks_and_gives_its_registers():
  c = models.get_config('vit_micro')
  c.update(dim=16, depth=4, heads=2, image_size=8, registers=2)
  net = models.make(c, dtype=jnp.float32)
  x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
  params, state = net.init(small.key(), x)
  out, _ = net.apply(params, state, x, train=False)
  averaged, _ = net.apply(params, state, x, train=False, average=(0.5, 0.75, 1.0))
  mean = np.mean([out['layers'][i] for i in (1, 2, 3)], axis=0)
  centred = mean - mean.mean(-1, keepdims=True)
  expected = centred / np.sqrt(mean.var(-1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(averaged['tokens'], expected[:, 3:], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(averaged['registers'], expected[:, 1:3], rtol=1e-4, atol=1e-5)
  last, _ = net.apply(params, state, x, train=False, average=(1.0,))
  np.testing.assert_allclose(last['tokens'], out['tokens'], rtol=1e-5)


# Exemplars.


def rectangles(count=300, scale=(0.05, 0.48), rotate=(-45.0, 45.0)):
  uniforms = np.random.default_rng(0).random((count, 41)).astype(np.float32)
  draw = functools.partial(exemplar.rectangle, scale=scale, ratio=(1 / 3, 3.0), rotate=rotate)
  return np.asarray(jax.jit(jax.vmap(draw))(uniforms))


def test_rectangles_lie_within_the_image_at_every_angle():
  row, column, down, right, angle = rectangles().T
  assert (down > 0).all() and (right > 0).all()
  for v in (-1, 1):
    for u in (-1, 1):
      y = row + v * down * np.cos(angle) + u * right * np.sin(angle)
      x = column + u * right * np.cos(angle) - v * down * np.sin(angle)
      assert min(y.min(), x.min()) > -1e-5 and max(y.max(), x.max()) < 1 + 1e-5
  assert angle.min() < -0.7 and angle.max() > 0.7 and abs(angle.mean()) < 0.1
  upright = rectangles(rotate=(0.0, 0.0))
  area = 4 * upright[:, 2] * upright[:, 3]
  assert area.min() > 0.045 and area.max() < 0.485 and area.max() > 0.4


def test_an_exemplar_shows_its_place():
  """An image whose two channels are its coordinates: the exemplar says where it is from."""
  size, cut_size = 64, 16
  at = (np.arange(size) + 0.5) / size
  coordinates = np.stack(np.meshgrid(at, at, indexing='ij'), -1).astype(np.float32)
  for place in rectangles(20, scale=(0.1, 0.4)):
    row, column, down, right, angle = place
    found = np.asarray(exemplar.cut(coordinates, place, cut_size))
    along = (np.arange(cut_size) + 0.5) / cut_size * 2 - 1
    y = row + along[:, None] * down * np.cos(angle) + along * right * np.sin(angle)
    x = column + along * right * np.cos(angle) - along[:, None] * down * np.sin(angle)
    np.testing.assert_allclose(found, np.stack([y, x], -1), atol=0.01)
    inside = np.asarray(exemplar.footprint(place, size))
    assert abs(inside.mean() - 4 * down * right) < 0.03
    for v, u in ((1, 1), (8, 8), (14, 2)):  # pixels of the exemplar lie in its footprint
      assert inside[int(y[v, u] * size), int(x[v, u] * size)]
    centre = np.argwhere(inside).mean(0) / size
    np.testing.assert_allclose(centre, [row, column], atol=0.02)


def test_exemplars_of_an_image_do_not_depend_on_the_batch():
  c = small.small_config('cim').method
  draw = exemplar.make(c.views['global'], c.views.exemplar, search_size=16)
  images = small.SOURCE.arrays['image']
  whole, again = draw(small.key(), images[:8]), draw(small.key(), images[8:16])
  mixed = draw(small.key(), np.concatenate([images[:4], images[12:16]]))
  for name, x in whole.items():
    np.testing.assert_array_equal(mixed[name][:4], x[:4])
    np.testing.assert_array_equal(mixed[name][4:], again[name][4:])
  assert whole['place'].any((2, 3)).all()


def test_enlarge_puts_corners_on_corners():
  maps = np.random.default_rng(0).normal(size=(2, 3, 9, 2)).astype(np.float32)
  large = np.asarray(enlarge(jnp.asarray(maps), 5))  # every second pixel is one of the map
  np.testing.assert_allclose(large[:, :, ::2, ::2], maps.reshape(2, 3, 3, 3, 2), rtol=1e-6)
  np.testing.assert_allclose(
    large[:, :, 1, 0], (large[:, :, 0, 0] + large[:, :, 2, 0]) / 2, rtol=1e-5, atol=1e-6
  )


# Methods.


def test_simmim_hides_pixels_from_the_encoder():
  method = made('simmim')
  batch = method.views(small.key(), small.rows(method))
  params, state = jax.jit(method.init)(small.key(), batch)
  hidden = ops.mask_pixels(batch['mask'], 4, 16, 16)
  other = {**batch, 'image': jnp.where(hidden, 7.0, batch['image'])}
  pred, changed = (method.forward(params, state, b, small.key(), 0)[0] for b in (batch, other))
  np.testing.assert_array_equal(pred, changed)


def test_cim_keeps_a_frozen_patch_projection_and_moves_its_teacher():
  method = made('cim', freeze_patch_embed=True)
  batch = method.views(small.key(), small.rows(method))
  params, state = jax.jit(method.init)(small.key(), batch)
  (_, (_, metrics)), grad = jax.jit(jax.value_and_grad(method.loss, has_aux=True))(
    params, state, batch, small.key(), 0
  )
  assert 'encoder/patch_embed/' in method.frozen and 0 <= metrics['iou'] < 1
  assert not any(np.any(g) for g in jax.tree.leaves(grad['encoder']['patch_embed']))
  other = jax.tree.map(lambda x: x + 1, params)
  moved = method.update(other, state, 0)['target']['params']['norm']['bias']
  np.testing.assert_allclose(moved, 1 - 0.97, rtol=1e-5)  # of the tiny preset, at step 0
  assert config.get_config('cim,digits,preset=imagenet').method.freeze_patch_embed


def test_mrm_paints_twice_what_it_sees():
  method = made('mrm')
  batch = method.views(small.key(), small.rows(method))
  assert batch['image'].shape[1:] == (32, 32, 3)
  params, state = jax.eval_shape(method.init, small.key(), batch)
  patch, dim = params['encoder']['patch_embed']['kernel'].shape
  assert patch == 2 * 2 * 3
  assert params['decoder']['pred']['kernel'].shape[1] == 4 * patch


def test_sit_turns_both_halves_alike_and_its_weights_adapt():
  method = made('sit')
  batch = method.views(small.key(), small.rows(method))
  clean, seen = batch['image'][:, :2], batch['image'][:, 2:]
  same = np.asarray(ops.mask_pixels(~batch['mask'].reshape(32, -1), 4, 16, 16)).reshape(
    16, 2, 16, 16
  )
  np.testing.assert_array_equal(np.asarray(clean)[same], np.asarray(seen)[same])
  params, state = jax.jit(method.init)(small.key(), batch)
  step = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
  (loss, (_, terms)), grad = step(params, state, batch, small.key(), 0)
  np.testing.assert_allclose(loss, sum(terms.values()), rtol=1e-6)
  expected = 1 - np.array([terms[name] for name in sorted(terms)])
  np.testing.assert_allclose(grad['log_variance'], expected, rtol=1e-5)


def test_sit_as_in_its_present_code_has_two_tasks():
  c = small.small_config('sit')
  fields = dict(rotation=False, uncertainty=False, lmbda=5.0)
  method = made('sit', encoder=dict(registers=0), **fields)
  batch = method.views(small.key(), small.rows(method))
  params, state = jax.jit(method.init)(small.key(), batch)
  loss, (_, terms) = jax.jit(method.loss)(params, state, batch, small.key(), 0)
  assert set(terms) == {'reconstruction', 'contrast'} and 'log_variance' not in params
  np.testing.assert_allclose(loss, terms['contrast'] + 5 * terms['reconstruction'], rtol=1e-6)
  assert c.method.rotation and config.get_config('sit,digits,preset=imagenet').method.lmbda == 1
