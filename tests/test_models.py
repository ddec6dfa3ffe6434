"""Encoders, heads and decoders against restatements, published sizes and the authors' numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from numpy.testing import assert_allclose

from ssljax import losses, models, ops
from ssljax.convert import files, reading, rules
from ssljax.convert.reading import LAYOUTS
from ssljax.errors import InputError
from ssljax.models import conv, decoders, first_token, heads, positions, predictors, resnet, vit
from ssljax.models.conv import conv2d, conv2d_xla
from ssljax.models.norm import BatchNorm
from ssljax.net import from_linen, over_views

KEY = jax.random.key(0)


def normal(i, *shape):
  return jax.random.normal(jax.random.fold_in(KEY, i), shape)


def small(name, **overrides):
  config = models.get_config(name)
  config.update(overrides)
  return config


def quick(net):
  """`net` with `apply` compiled: operation by operation each one is compiled by itself."""
  return net._replace(apply=jax.jit(net.apply, static_argnames=('train', 'bn_groups')))


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def parameters(config, shape):
  net = models.make(config, dtype=jnp.float32)
  return jax.eval_shape(net.init, KEY, jax.ShapeDtypeStruct(shape, jnp.float32))[0]


# ---- convolution


def value_and_grads(convolve, x, w, strides, padding):
  y, pull = jax.vjp(functools.partial(convolve, strides=strides, padding=padding), x, w)
  return y, *pull(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(y.dtype))


@pytest.mark.parametrize(
  'size, kernel, strides, padding',
  [
    ((8, 9), (3, 3), (1, 1), (1, 1)),
    ((8, 8), (3, 3), (2, 2), (1, 1)),
    ((9, 10), (7, 7), (2, 2), (3, 3)),
    ((10, 9), (5, 2), (3, 1), (2, 0)),
    ((8, 7), (1, 1), (2, 2), (0, 0)),
    ((8, 7), (1, 1), (2, 3), (1, 1)),
    ((2, 2), (3, 3), (1, 1), (1, 1)),  # few pixels: one matrix
    ((4, 3), (3, 2), (2, 1), (1, 0)),
  ],
)
def test_conv2d_equals_the_ordinary_convolution(size, kernel, strides, padding):
  x, w = normal(0, 4, *size, 3), normal(1, *kernel, 3, 5)
  both = [
    jax.jit(functools.partial(value_and_grads, f, strides=strides, padding=padding))(x, w)
    for f in (conv2d, conv2d_xla)
  ]
  for ours, wanted in zip(*both, strict=True):
    assert ours.shape == wanted.shape
    assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kernel', [1, 3])
@pytest.mark.parametrize('images', [1, 2, 5])
def test_conv2d_sums_the_kernels_gradient_over_parts_of_the_batch(monkeypatch, kernel, images):
  # Of 2 images, the last of 3 parts is half padding.
  monkeypatch.setattr(conv, 'PATCH_BYTES', images * 4 * 4 * kernel**2 * 3 * 4)
  x, w = normal(0, 5, 8, 8, 3), normal(1, kernel, kernel, 3, 5)
  options = {'strides': (2, 2), 'padding': (kernel // 2,) * 2}
  text = jax.jit(functools.partial(value_and_grads, conv2d, **options)).lower(x, w).as_text()
  assert f'tensor<{-(-5 // images)}xi32>' in text
  ours, wanted = (value_and_grads(f, x, w, **options) for f in (conv2d, conv2d_xla))
  for a, b in zip(ours, wanted, strict=True):
    assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kernel', [1, 3])
def test_conv2d_in_bfloat16_under_vmap_and_in_a_loop(kernel):
  options = {'strides': (2, 2), 'padding': (kernel // 2,) * 2}
  x, w = normal(0, 2, 4, 8, 8, 3), normal(1, kernel, kernel, 3, 5)
  ours, wanted = (
    jax.jit(jax.vmap(functools.partial(value_and_grads, f, **options), (0, None)))(x, w)
    for f in (conv2d, conv2d_xla)
  )
  for a, b in zip(ours, wanted, strict=True):
    assert_allclose(a, b, rtol=1e-4, atol=1e-4)

  looped = jax.jit(lambda x, w: jax.lax.map(lambda x: value_and_grads(conv2d, x, w, **options), x))
  for a, b in zip(looped(x, w), wanted, strict=True):
    assert_allclose(a, b, rtol=1e-4, atol=1e-4)

  x, w = x[0].astype(jnp.bfloat16), w.astype(jnp.bfloat16)
  ours, wanted = (
    jax.jit(functools.partial(value_and_grads, f, **options))(x, w) for f in (conv2d, conv2d_xla)
  )
  for a, b in zip(ours, wanted, strict=True):
    assert a.dtype == b.dtype == jnp.bfloat16
    scale = jnp.abs(b).max()
    assert_allclose(a / scale, b / scale, atol=0.02)


@pytest.mark.parametrize('kernel', [1, 3])
def test_conv2d_of_a_sharded_batch_only_sums_the_gradient(kernel):
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  batch, replicated = (NamedSharding(mesh, PartitionSpec(p)) for p in ('data', None))

  def loss(x, w):
    return jnp.square(conv2d(x, w, strides=(2, 2), padding=(kernel // 2,) * 2)).sum()

  x, w = normal(0, 8, 8, 8, 3), normal(1, kernel, kernel, 3, 5)
  wanted = jax.grad(loss, (0, 1))(x, w)
  step = jax.jit(
    jax.grad(loss, (0, 1)),
    in_shardings=(batch, replicated),
    out_shardings=(batch, replicated),
  )
  text = step.lower(x, w).compile().as_text()
  assert text.count(' all-reduce(') == 1
  assert not any(move in text for move in ('all-gather(', 'all-to-all(', 'collective-permute('))
  for ours, plain in zip(step(x, w), wanted, strict=True):
    assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)


def lowered_convolutions(convolve, platform, kernel):
  """The dimension numbers and window of each convolution of the forward and backward pass."""
  f = jax.jit(functools.partial(value_and_grads, convolve, strides=(2, 2), padding=(0, 0)))
  trace = f.trace(normal(0, 4, 8, 8, 3), normal(1, kernel, kernel, 3, 5))
  lines = trace.lower(lowering_platforms=(platform,)).as_text().splitlines()
  return sorted(line.split('dim_numbers = ')[1] for line in lines if 'dim_numbers = ' in line)


@pytest.mark.parametrize('kernel', [1, 3])
def test_conv2d_by_platform(kernel):
  ordinary = lowered_convolutions(conv2d_xla, 'cuda', kernel)
  assert len(ordinary) == 3
  assert lowered_convolutions(conv2d, 'cuda', kernel) == ordinary
  # On CPU only the one form that has a fast kernel in every place of a program, or no convolution.
  on_cpu = lowered_convolutions(conv2d, 'cpu', kernel)
  assert len(on_cpu) == (0 if kernel == 1 else 2)  # the kernel's gradient is products of matrices
  assert all(line.startswith('[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]') for line in on_cpu)


# ---- batch norm


def numpy_batch_norm(x, groups):
  """float64 restatement: y and the mean over groups of mean and unbiased variance."""
  y, means, variances = np.empty(x.shape), [], []
  for g in range(groups):
    rows = x[g::groups].astype(np.float64)
    flat = rows.reshape(-1, x.shape[-1])
    y[g::groups] = (rows - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    means.append(flat.mean(0))
    variances.append(flat.var(0, ddof=1))
  return y, np.mean(means, 0), np.mean(variances, 0)


@pytest.mark.parametrize('groups', [1, 2, 3])
@pytest.mark.parametrize('inner', [(), (3, 2)])
def test_batch_norm_restated(groups, inner):
  # View g is shifted by 5 g, so that sharing or mixing up the groups shows.
  x = np.array(normal(0, 12, *inner, 4)) * [1, 2, 3, 4]
  x = (x + 5 * (np.arange(12) % groups).reshape(-1, *(1,) * (len(inner) + 1))).astype(np.float32)
  net = from_linen(BatchNorm())
  params, state = net.init(KEY, x)
  params = {'scale': params['scale'] * 2, 'bias': params['bias'] + 1}
  y, new = net.apply(params, state, x, train=True, bn_groups=groups)
  wanted, mean, var = numpy_batch_norm(x, groups)
  assert_allclose(y, 2 * wanted + 1, atol=1e-4)
  assert_allclose(new['batch_stats']['mean'], 0.1 * mean, rtol=1e-5, atol=1e-6)
  assert_allclose(new['batch_stats']['var'], 0.9 + 0.1 * var, rtol=1e-5)

  y, frozen = net.apply(params, new, x, train=False, bn_groups=groups)
  assert frozen is new
  wanted = (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * var + 1e-5)
  assert_allclose(y, 2 * wanted + 1, rtol=1e-4, atol=1e-4)


def test_batch_norm_of_a_large_mean_and_in_bfloat16():
  net = from_linen(BatchNorm(use_scale=False, use_bias=False))
  x = 3000 + np.array(normal(0, 64, 4))
  params, state = {}, {'batch_stats': fresh(4)}
  y, _ = net.apply(params, state, x, train=True)
  assert_allclose(y, numpy_batch_norm(x, 1)[0], atol=2e-3)
  y, new = net.apply(params, state, x.astype(jnp.bfloat16), train=True)
  assert y.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype('float32')}


def fresh(channels):
  return {'mean': jnp.zeros(channels), 'var': jnp.ones(channels)}


def test_batch_norm_rows_must_divide():
  with pytest.raises(ValueError, match=r'\(5, 4\).*bn_groups=2'):
    from_linen(BatchNorm()).apply(
      {'scale': jnp.ones(4), 'bias': jnp.zeros(4)},
      {'batch_stats': fresh(4)},
      jnp.ones((5, 4)),
      train=True,
      bn_groups=2,
    )


# ---- ResNet


@pytest.mark.parametrize(
  'name, wanted',
  # torchvision's counts less its last layer.
  [
    ('resnet18', 11_689_512 - 513_000),
    ('resnet34', 21_797_672 - 513_000),
    ('resnet50', 25_557_032 - 2_049_000),
  ],
)
def test_resnet_has_torchvisions_parameters(name, wanted):
  params = parameters(models.get_config(name), (1, 224, 224, 3))
  assert count(params) == wanted
  assert params['layer2_0']['downsample_0']['kernel'].shape[:2] == (1, 1)
  assert params['conv1']['kernel'].shape == (7, 7, 3, 64)


@pytest.mark.parametrize(
  'name, stem, features, side',
  [('resnet10', 'imagenet', 64, 2), ('resnet10', 'cifar', 64, 4), ('resnet50', 'cifar', 256, 4)],
)
def test_resnet_shapes(name, stem, features, side):
  size = 64 if stem == 'imagenet' else 32
  net = models.make(small(name, width=8, stem=stem), dtype=jnp.bfloat16)
  params, state = jax.eval_shape(net.init, KEY, jnp.zeros((2, size, size, 4)))
  assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} == {jnp.dtype('float32')}
  apply = functools.partial(net.apply, train=True, bn_groups=2)
  out, new = jax.eval_shape(apply, params, state, jnp.zeros((2, size, size, 4)))
  assert out['features'].shape == (2, features)
  assert out['map'].shape == (2, side, side, features)
  assert out['map'].dtype == jnp.bfloat16
  assert jax.tree.structure(new) == jax.tree.structure(state)


def test_resnet_block_computes_the_same_with_either_convolution():
  x = normal(0, 8, 6, 6, 4)
  results = []
  for kind in ('auto', 'xla'):
    block = resnet.Block(
      bottleneck=True, features=4, strides=2, zero_init_residual=False, conv=kind
    )
    net = from_linen(block)
    params, state = jax.jit(functools.partial(net.init, bn_groups=2))(KEY, x)

    def loss(params, x, net=net, state=state):
      y, new = net.apply(params, state, x, train=True, bn_groups=2)
      return jnp.square(y).sum(), new

    results.append(jax.jit(jax.grad(loss, has_aux=True))(params, x))
  for ours, wanted in zip(*map(jax.tree.leaves, results), strict=True):
    assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_resnet_initial_weights():
  block = resnet.Block(
    bottleneck=False, features=128, strides=1, zero_init_residual=True, conv='auto'
  )
  init = jax.jit(functools.partial(block.init, train=False, bn_groups=1))
  params = init(KEY, jnp.zeros((1, 2, 2, 128)))['params']
  kernel = params['conv2']['kernel']
  assert_allclose(kernel.std(), np.sqrt(2 / (9 * 128)), rtol=0.02)
  assert np.abs(kernel).max() > 3.5 * kernel.std()  # not truncated
  assert not params['bn2']['scale'].any()
  assert params['bn1']['scale'].all()


# ---- ViT


@pytest.mark.parametrize(
  'name, wanted',
  # DeiT's and ViT's published counts less the classifier.
  [
    ('vit_tiny', 5_717_416 - 193_000),
    ('vit_small', 22_050_664 - 385_000),
    ('vit_base', 86_567_656 - 769_000),
    ('vit_large', 304_326_632 - 1_025_000),
  ],
)
def test_vit_has_the_published_parameters(name, wanted):
  assert count(parameters(models.get_config(name), (1, 224, 224, 3))) == wanted


def make_vit(**overrides):
  config = small('vit_micro', **{'image_size': 16, 'depth': 1, **overrides})
  net = models.make(config, dtype=jnp.float32)
  x = normal(0, 2, 16, 16, 3)
  return quick(net), x, *jax.jit(net.init)(KEY, x)


def test_vit_keep_drops_patches_after_their_positions():
  keep = jnp.array([[5, 0, 9], [15, 3, 2]])
  # Without a block, tokens do not mix: the kept ones must be those of the whole image.
  net, x, params, state = make_vit(positions='sincos')
  flat = quick(models.make(small('vit_micro', image_size=16, depth=0), dtype=jnp.float32))
  flat_params = {k: v for k, v in params.items() if 'blocks' not in k}
  flat_params['pos_embed'] = normal(1, 17, 64)
  whole, _ = flat.apply(flat_params, {}, x, train=False)
  kept, _ = flat.apply(flat_params, {}, x, train=False, keep=keep)
  wanted = jnp.take_along_axis(whole['tokens'], keep[:, :, None], 1)
  assert_allclose(kept['tokens'], wanted, atol=1e-6)

  # With blocks, keeping everything in another order only reorders the tokens.
  order = jnp.stack([jax.random.permutation(jax.random.key(i), 16) for i in range(2)])
  whole, _ = net.apply(params, state, x, train=False)
  mixed, _ = net.apply(params, state, x, train=False, keep=order)
  assert_allclose(mixed['cls'], whole['cls'], atol=1e-5)
  wanted = jnp.take_along_axis(whole['tokens'], order[:, :, None], 1)
  assert_allclose(mixed['tokens'], wanted, atol=1e-5)
  # And what is dropped has no influence.
  changed = x.at[:, :4, 8:12].set(7.0)  # patch 2
  for i, same in enumerate((True, False)):
    a, b = (net.apply(params, {}, v, train=False, keep=keep)[0] for v in (x, changed))
    assert (np.abs(a['features'][i] - b['features'][i]).max() < 1e-6) == same


def test_vit_pools():
  net, x, params, state = make_vit(pool='mean', class_token=False)
  out, _ = net.apply(params, state, x, train=False)
  assert 'cls' not in out
  assert_allclose(out['features'], out['tokens'].mean(1), atol=1e-6)
  net, x, params, state = make_vit()
  out, _ = net.apply(params, state, x, train=False)
  assert out['tokens'].shape == (2, 16, 64)
  assert_allclose(out['features'], out['cls'])


def test_vit_remat_and_stochastic_depth():
  gradients = []
  for remat in (False, True):
    net, x, params, _ = make_vit(remat=remat)

    def loss(params, net=net, x=x):
      # Not the square: after a layer norm that is constant, and its gradient but rounding.
      return jnp.sin(net.apply(params, {}, x, train=True)[0]['features']).sum()

    gradients.append(jax.grad(loss)(params))
  jax.tree.map(functools.partial(assert_allclose, rtol=1e-4, atol=1e-4), *gradients)
  assert max(np.abs(g).max() for g in jax.tree.leaves(gradients[0])) > 1

  # A sample either skips both branches, or one is scaled by 1 / (1 - rate).
  block = vit.Block(heads=2, drop_path=0.5)
  x = jnp.broadcast_to(normal(0, 1, 3, 8), (64, 3, 8))
  params = jax.jit(block.init, static_argnums=2)(KEY, x, False)
  y, _ = jax.jit(block.apply, static_argnums=2)(params, x, True, rngs={'dropout': KEY})
  same = np.abs(y - x).max((1, 2)) < 1e-6
  assert 4 <= same.sum() <= 30
  assert len(np.unique(np.asarray(y[:, 0, 0]).round(5))) == 4
  evaluated, undropped = (
    jax.jit(b.apply, static_argnums=2)(params, x, train)[0]
    for b, train in ((block, False), (vit.Block(heads=2), True))
  )
  assert_allclose(evaluated, undropped, atol=1e-6)


@pytest.mark.parametrize(
  'options',
  [
    {'drop_path': 0.5},
    {'positions': 'rope', 'qkv_bias': 'no_key', 'layer_scale': 0.1, 'registers': 2, 'remat': True},
    {'positions': 'rope_axial', 'mlp': 'swiglu', 'qk_norm': True, 'qkv_bias': 'none'},
  ],
)
def test_vit_scanned_over_layers_is_the_same(options):
  """The stacked parameters give what those of single blocks give; every option is in one case."""
  looped, x, params, _ = make_vit(depth=3, **options)
  scanned, *_ = make_vit(depth=3, scan=True, **options)
  blocks = [params[f'blocks_{i}'] for i in range(3)]
  rest = {name: value for name, value in params.items() if not name.startswith('blocks')}
  stacked = {**rest, 'blocks': {'block': jax.tree.map(lambda *b: jnp.stack(b), *blocks)}}
  assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(
    jnp.shape, jax.eval_shape(scanned.init, KEY, x)[0]
  )
  wanted, seen = (
    net.apply(p, {}, x, train=False)[0] for net, p in ((looped, params), (scanned, stacked))
  )
  assert len(wanted['layers']) == len(seen['layers']) == 3
  for name in ('features', 'tokens', 'layers'):
    jax.tree.map(functools.partial(assert_allclose, atol=1e-5), seen[name], wanted[name])
  if 'drop_path' in options:  # draws differ, but some are made
    dropped, _ = scanned.apply(stacked, {}, x, train=True, rng=KEY)
    assert np.abs(dropped['features'] - seen['features']).max() > 1e-3


def test_vit_of_another_size_and_with_masked_patches():
  net, x, params, _ = make_vit(registers=2, mask_token=True)
  larger = jnp.concatenate([x, x], axis=1)
  out, _ = net.apply(params, {}, larger, train=False)
  assert out['tokens'].shape == (2, 32, 64) and out['layers'][0].shape == (2, 35, 64)
  mask = jnp.zeros((2, 16), bool).at[0, 3].set(True)
  a, b = (
    net.apply(params, {}, v, train=False, mask=mask)[0]['features']
    for v in (x, x.at[:, :4, 12:].set(7.0))
  )
  assert_allclose(a[0], b[0], atol=1e-6)  # patch 3 of the first image is hidden
  assert np.abs(a[1] - b[1]).max() > 1e-3


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize(('new', 'offset'), [((7, 5), 0.0), ((3, 4), 0.0), ((7, 7), 0.1)])
def test_positions_resize_as_torch_does(new, offset, antialias):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  table = normal(3, 16, 6)
  scale = {'size': new}
  if offset:
    scale = {'scale_factor': tuple((n + offset) / 4 for n in new)}
  grid = torch.from_numpy(np.array(table)).reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
  wanted = torch.nn.functional.interpolate(grid, mode='bicubic', antialias=antialias, **scale)
  seen = positions.resize_positions(table, (4, 4), new, offset=offset, antialias=antialias)
  assert_allclose(seen, wanted.permute(0, 2, 3, 1).reshape(-1, 6).numpy(), atol=1e-5)


def test_rotary_positions_only_tell_distances():
  x = normal(0, 1, 1, 1, 16)
  for angles in (
    positions.rope_axial_angles(5, 5, 16),
    positions.rope_box_angles(positions.box_coordinates(5, 5), 16),
  ):
    turned = positions.rotate(jnp.broadcast_to(x, (1, 25, 1, 16)), angles)[0, :, 0].reshape(
      5, 5, 16
    )
    assert_allclose((turned**2).sum(-1), (x**2).sum(), rtol=1e-5)
    products = jnp.einsum('d,yxd->yx', turned[0, 0], turned[:4, :4])
    assert_allclose(products, jnp.einsum('d,yxd->yx', turned[1, 1], turned[1:, 1:]), rtol=1e-4)
    assert np.abs(products - products[0, 0]).max() > 0.1


def test_vit_computes_in_bfloat16_with_float32_parameters():
  net = models.make(small('vit_micro', depth=1), dtype=jnp.bfloat16)
  params, _ = jax.eval_shape(net.init, KEY, jnp.zeros((1, 32, 32, 3)))
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  out, _ = jax.eval_shape(
    functools.partial(net.apply, train=True), params, {}, jnp.zeros((1, 32, 32, 3))
  )
  assert out['tokens'].dtype == jnp.bfloat16


def mae_weights(w):
  """The authors' weights, or their gradients, by our paths: `ssljax.convert`'s own table."""
  found = {}
  for rule in rules.expand(LAYOUTS['mae'].rules, lambda rule: all(t in w for t in rule.theirs)):
    found[rule.ours] = rules.read(rule, [w[t] for t in rule.theirs])
  return found


def test_mae_equals_the_authors_model(golden):
  case = next(c for c in golden('mae') if c['hp']['kind'] == 'model')
  hp, w, out = case['hp'], case['w'], case['out']
  config = models.get_config('vit_micro')
  config.update(
    image_size=int(hp['img_size']),
    patch_size=int(hp['patch_size']),
    dim=int(hp['embed_dim']),
    depth=int(hp['depth']),
    heads=int(hp['num_heads']),
    positions='sincos',
  )
  encoder = models.make(config, dtype=jnp.float32)
  num_patches, patch_dim = out['patches'].shape[1:]
  decoder = decoders.mae_decoder(
    num_patches=num_patches,
    patch_dim=patch_dim,
    dim=int(hp['decoder_embed_dim']),
    depth=int(hp['decoder_depth']),
    heads=int(hp['decoder_num_heads']),
  )
  images = jnp.asarray(case['in']['imgs'].transpose(0, 2, 3, 1), jnp.float32)
  kept = int(num_patches * (1 - hp['mask_ratio']))
  keep, restore, mask = ops.random_mask(jnp.asarray(case['in']['noise'], jnp.float32), kept)
  assert_allclose(mask, out['mask'])
  assert_allclose(restore, out['ids_restore'])
  assert_allclose(vit.sincos_positions(4, 4, config.dim), w['pos_embed'][0, 1:], atol=1e-6)

  tensors = {name: files.Tensor(x.shape, lambda x=x: x) for name, x in w.items()}
  heads = {'heads': config.heads, 'decoder_heads': int(hp['decoder_num_heads'])}
  found, params, report = reading.convert(files.Weights('mae.npz', tensors, {}, {}), **heads)
  report.check()
  assert (report.layout, report.count('used')) == ('mae', len(w))
  for field in ('image_size', 'patch_size', 'dim', 'depth', 'heads', 'positions', 'mlp_ratio'):
    assert found[field] == config[field]
  assert not params.pop('stats')
  latent = jnp.zeros((1, 1 + kept, config.dim))
  ours = {
    'encoder': jax.eval_shape(encoder.init, KEY, images)[0],
    'decoder': jax.eval_shape(decoder.init, KEY, latent, restore[:1])[0],
  }
  assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, params)

  def forward(params, images):
    encoded, _ = encoder.apply(params['encoder'], {}, images, train=True, keep=keep)
    latent = jnp.concatenate([encoded['cls'][:, None], encoded['tokens']], axis=1)
    pred, _ = decoder.apply(params['decoder'], {}, latent, restore, train=True)
    loss = losses.mae(pred, images, mask, patch_size=config.patch_size, norm_pix=True)
    return loss, (latent, pred)

  step = jax.jit(jax.value_and_grad(forward, has_aux=True))
  (loss, (latent, pred)), grad = step(params, images)
  assert_allclose(latent, out['latent'], atol=1e-5)
  assert_allclose(pred, out['pred'], atol=1e-5)
  assert_allclose(loss, out['loss'], rtol=1e-5)
  grads = {name.removeprefix('w.'): g for name, g in case['grad'].items() if name != 'imgs'}
  wanted = mae_weights(grads)
  assert len(wanted) == len(grads)
  for path, value in wanted.items():
    node = functools.reduce(lambda tree, key: tree[key], path.split('/'), grad)
    assert_allclose(node, value, atol=1e-5)


# ---- heads


def test_mlp_layers():
  x = normal(0, 6, 5)
  net = heads.mlp((7, 3), last_bias=False, last_norm='batch_no_bias')  # SimCLR's
  params, state = net.init(KEY, x)
  assert jax.tree.map(jnp.shape, params) == {
    'linear_0': {'kernel': (5, 7), 'bias': (7,)},
    'bn_0': {'scale': (7,), 'bias': (7,)},
    'linear_1': {'kernel': (7, 3)},
    'bn_1': {'scale': (3,)},
  }
  y, _ = net.apply(params, state, x, train=True, bn_groups=2)
  hidden = np.maximum(numpy_batch_norm(np.asarray(x @ params['linear_0']['kernel']), 2)[0], 0)
  wanted, *_ = numpy_batch_norm(hidden @ np.asarray(params['linear_1']['kernel']), 2)
  assert_allclose(y, wanted, atol=1e-4)

  net = heads.mlp((4,), norm='batch', last_norm=None)  # the last layer is bare
  params, state = net.init(KEY, x)
  assert jax.tree.map(jnp.shape, params) == {'linear_0': {'kernel': (5, 4), 'bias': (4,)}}
  net = heads.mlp((4, 2), norm=None, last_norm='batch_no_affine', hidden_bias=False)
  params, state = net.init(KEY, x)
  assert sorted(params) == ['linear_0', 'linear_1']
  assert sorted(state['batch_stats']) == ['bn_1']
  net = heads.mlp(())
  assert net.apply(*net.init(KEY, x), x, train=True, bn_groups=2) == (x, {})
  with pytest.raises(ValueError, match='last_norm'):
    heads.mlp((4,), last_norm='layer')


def test_first_token_drops_by_each_sequences_own_seeds():
  rate, n, shape = 0.3, 64, (8, 25)
  seeds = jax.random.bits(jax.random.key(0), (n, 2))
  ones = jnp.ones((n, *shape))
  dropped = first_token.drop(seeds, rate, 1, 'hidden', ones)
  kept = np.asarray(dropped) > 0
  # Four deviations of the mean of so many draws.
  assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / kept.size) ** 0.5
  assert_allclose(dropped[kept], 1 / (1 - rate), rtol=1e-4)
  assert (kept[0] != kept[1]).any()
  other = np.asarray(first_token.drop(seeds, rate, 2, 'hidden', ones)) > 0
  assert abs((kept == other).mean() - (0.7**2 + 0.3**2)) < 0.02
  assert (
    np.asarray(first_token.drop(seeds[3:5], rate, 1, 'hidden', ones[:2])) == dropped[3:5]
  ).all()

  net = first_token.first_token(layers=2, heads=2, dropout=rate)
  x = jax.random.normal(jax.random.key(1), (n, 5, 8))
  params, _ = net.init(jax.random.key(2), x)
  y, _ = net.apply(params, {}, x, train=True, seeds=seeds)
  half, _ = net.apply(params, {}, x[9:20], train=True, seeds=seeds[9:20])
  assert_allclose(y[9:20], half, atol=1e-5)
  assert np.abs(y - net.apply(params, {}, x, train=False)[0]).max() > 0.1
  with pytest.raises(InputError, match='seeds'):
    net.apply(params, {}, x, train=True)
  with pytest.raises(InputError, match='dropout is 1'):
    first_token.first_token(dropout=1)


# ---- names


def test_names_and_their_errors():
  assert set(resnet.VARIANTS) | set(vit.VARIANTS) <= set(models.names())
  for name in models.names():
    assert models.get_config(name).name == name
  with pytest.raises(InputError, match="'resnet81'.*nearest: resnet18"):
    models.get_config('resnet81')
  for name, field, value in [
    ('resnet18', 'stem', 'tiny'),
    ('resnet18', 'conv', 'fast'),
    ('vit_micro', 'positions', 'rotary'),
    ('vit_micro', 'class_token', False),
    ('vit_micro', 'image_size', 30),
  ]:
    config = models.get_config(name)
    config[field] = value
    with pytest.raises(InputError, match='wanted'):
      models.make(config, dtype=jnp.float32)
  with pytest.raises(InputError, match='patch_size'):
    models.make(models.get_config('vit_micro'), dtype=jnp.float32).init(KEY, jnp.ones((1, 9, 8, 3)))
  for make, wanted in [
    (lambda: decoders.mae_decoder(num_patches=10, patch_dim=3), 'a square'),
    (lambda: predictors.block_predictor(num_patches=10), 'a square'),
    (lambda: vit.sincos_positions(2, 2, 6), 'a multiple of 4'),
    (lambda: over_views(heads.mlp((4,)), view_stats='both'), "'shared' or 'separate'"),
  ]:
    with pytest.raises(InputError, match=f'wanted {wanted}'):
      make()
