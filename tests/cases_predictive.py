"""Losses that predict representations or fixed features of what is hidden."""

import functools
import math

import numpy as np
from losscheck import BATCH, WIDTH, Case, Golden

from ssljax import losses

BLOCKS, PLACES, TOKENS = 2, 3, 9
PATCH, RADII = 4, (1, 2)


def numpy_smooth_l1(d, beta):
  total = 0.0
  for x in np.ravel(d):
    total += abs(x) - beta / 2 if abs(x) >= beta else x * x / (2 * beta)
  return total


def numpy_normed(x, axis, eps=1e-5):
  return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)


# I-JEPA.


def numpy_i_jepa(pred, tokens, places, *, beta=1.0):
  total = 0.0
  for b, m, k in np.ndindex(*places.shape):
    token = numpy_normed(tokens[b, places[b, m, k]], 0)
    total += numpy_smooth_l1(pred[b, m, k] - token, beta)
  return total / pred.size


def i_jepa_arrays():
  generator = np.random.default_rng(0)
  pred = generator.normal(size=(BATCH, BLOCKS, PLACES, WIDTH)).astype(np.float32)
  tokens = (3 + 2 * generator.normal(size=(BATCH, TOKENS, WIDTH))).astype(np.float32)
  order = generator.permuted(np.tile(np.arange(TOKENS), (BATCH, 1)), axis=1)
  places = order[:, : BLOCKS * PLACES].reshape(BATCH, BLOCKS, PLACES).astype(np.int32)
  return pred, tokens, places


def i_jepa_agrees(t):
  pred, tokens, places = i_jepa_arrays()
  rows = np.arange(BATCH)[:, None, None]
  target = numpy_normed(tokens, -1)[rows, places]
  return np.float32((1 - t) * pred + t * target), tokens, places


def i_jepa_collapsed():
  pred, tokens, places = i_jepa_arrays()
  return np.zeros_like(pred), np.ones_like(tokens), places


def i_jepa_case(beta):
  return Case(
    functools.partial(losses.i_jepa, beta=beta),
    functools.partial(numpy_i_jepa, beta=beta),
    i_jepa_arrays(),
    1,
    i_jepa_agrees,
    i_jepa_collapsed,
    'the teacher is a moving average of the student',
  )


def golden_i_jepa(case):
  hp, arrays = case['hp'], case['in']
  masks, batch, count = arrays['masks_pred'].shape
  each = int(hp['n_enc_masks'])

  def by_image(x):  # theirs: target masks, contexts, images; ours: images, blocks
    x = x.reshape(masks * each, batch, count, -1)
    return x.swapaxes(0, 1)

  places = np.repeat(arrays['masks_pred'], each, axis=0).swapaxes(0, 1)
  loss = functools.partial(
    losses.i_jepa, beta=float(hp['smooth_l1_beta']), eps=float(hp['layer_norm_eps'])
  )
  grads = [by_image(case['grad']['pred']), case['grad']['teacher_tokens']]
  inputs = [by_image(arrays['pred']), arrays['teacher_tokens'], places]
  return Golden(loss, inputs, case['out']['loss'], grads)


# data2vec.


def numpy_data2vec(pred, targets, mask, *, beta=2.0, reduction='mean', scale=1.0):
  total = 0.0
  for b, t in zip(*np.nonzero(mask), strict=True):
    d = pred[b, t] - targets[b, t]
    total += numpy_smooth_l1(d, beta) if beta else (d * d).sum()
  return scale * total / (mask.sum() * pred.shape[-1] if reduction == 'mean' else 1)


def data2vec_arrays():
  generator = np.random.default_rng(1)
  pred, target = generator.normal(size=(2, BATCH, TOKENS, WIDTH)).astype(np.float32)
  mask = generator.random((BATCH, TOKENS)) < 0.6
  return pred, target, mask.astype(np.float32)


def data2vec_agrees(t):
  pred, target, mask = data2vec_arrays()
  return np.float32((1 - t) * pred + t * target), target, mask


def data2vec_collapsed():
  pred, target, mask = data2vec_arrays()
  return np.zeros_like(pred), np.zeros_like(target), mask


def data2vec_case(**options):
  return Case(
    functools.partial(losses.data2vec, **options),
    functools.partial(numpy_data2vec, **options),
    data2vec_arrays(),
    1,
    data2vec_agrees,
    data2vec_collapsed,
    'they come from a moving average',
  )


def of_layers(pred, first, second, mask, axis_name=None, **norms):
  targets = losses.data2vec_targets((first, second), axis_name=axis_name, **norms)
  return losses.data2vec(pred, targets, mask, axis_name=axis_name)


def numpy_of_layers(pred, first, second, mask, *, norm, final_norm):
  axes = {'layer': -1, 'instance': 1, 'batch': (0, 1)}
  mean = (numpy_normed(first, axes[norm]) + numpy_normed(second, axes[norm])) / 2
  return numpy_data2vec(pred, numpy_normed(mean, axes[final_norm]), mask)


def of_layers_case(**norms):
  pred, first, mask = data2vec_arrays()
  second = np.float32(np.random.default_rng(2).normal(size=first.shape) * 5 + 1)
  return Case(
    functools.partial(of_layers, **norms),
    functools.partial(numpy_of_layers, **norms),
    (pred, first, second, mask),
    1,
  )


def golden_data2vec(case):
  hp, arrays = case['hp'], case['in']
  kind, (pred, mask) = str(hp['kind']), (arrays['pred'], arrays['mask'])
  if kind == 'vision_beit':
    used = [arrays[f'layer_{i}'] for i in hp['target_layers']]
    norm = 'layer' if hp['target_layer_norm_last'] else 'none'
    final = 'layer' if hp['post_target_layer_norm'] else 'none'
    options = {'beta': float(hp['l1_beta'])}
  else:
    names = sorted((n for n in arrays if n.startswith('layer_')), key=lambda n: int(n[6:]))
    used = [arrays[n] for n in names[-int(hp['average_top_k_layers']) :]]
    norms = [n for n in ('instance', 'batch', 'layer') if hp[f'{n}_norm_target_layer']]
    finals = [n for n in ('instance', 'layer') if hp[f'{n}_norm_targets']]
    norm, final = (names[0] if names else 'none' for names in (norms, finals))
    scale = 1 / math.sqrt(pred.shape[-1]) if kind == 'audio' else 1.0
    options = {'beta': float(hp['loss_beta']), 'reduction': 'sum', 'scale': scale}

  def loss(pred, mask, *layers):
    targets = losses.data2vec_targets(layers, norm=norm, final_norm=final)
    return losses.data2vec(pred, targets, mask, **options)

  # In training the layers are a teacher's, without a gradient; fairseq's numbers have one.
  return Golden(loss, [pred, mask, *used], case['out']['loss'], [case['grad']['pred']])


# SAR-JEPA.


def numpy_gradient(image, radius):
  """Of [H, W], one pixel after the other."""
  padded = np.pad(image, radius, mode='reflect') + 1e-2
  out = np.zeros_like(image)
  for i, j in np.ndindex(*image.shape):
    window = padded[i : i + 2 * radius + 1, j : j + 2 * radius + 1]
    down = np.log(window[: radius + 1].sum() / window[radius:].sum())
    across = np.log(window[:, : radius + 1].sum() / window[:, radius:].sum())
    out[i, j] = np.hypot(across, down)
  return out


def numpy_sar_jepa(pred, images, places, mask):
  per_row, total = images.shape[2] // PATCH, 0.0
  for b, w, k in zip(*np.nonzero(mask), strict=True):
    row, column = (PATCH * x for x in divmod(int(places[b, w, k]), per_row))
    target = [
      np.stack([numpy_gradient(channel, radius) for channel in images[b].transpose(2, 0, 1)], -1)
      for radius in RADII
    ]
    target = [x[row : row + PATCH, column : column + PATCH].ravel() for x in target]
    total += ((pred[b, w, k] - np.concatenate(target)) ** 2).mean()
  return total / mask.sum()


def sar_jepa_arrays():
  generator = np.random.default_rng(3)
  values = len(RADII) * PATCH * PATCH * 2
  pred = generator.normal(size=(BATCH, 2, PLACES, values)).astype(np.float32)
  images = generator.gamma(1.0, size=(BATCH, 8, 12, 2)).astype(np.float32)
  places = generator.permuted(np.tile(np.arange(6), (BATCH, 1)), axis=1).astype(np.int32)
  mask = generator.random((BATCH, 2, PLACES)) < 0.5
  return pred, images, places.reshape(BATCH, 2, PLACES), mask.astype(np.float32)


def sar_jepa_agrees(t):
  pred, images, places, mask = sar_jepa_arrays()
  maps = [
    [[numpy_gradient(c, radius) for c in image.transpose(2, 0, 1)] for radius in RADII]
    for image in images
  ]
  maps = np.array(maps).reshape(BATCH, len(RADII), 2, 2, PATCH, 3, PATCH)
  patches = maps.transpose(0, 3, 5, 1, 4, 6, 2).reshape(BATCH, 6, -1)
  target = patches[np.arange(BATCH)[:, None, None], places]
  return np.float32((1 - t) * pred + t * target), images, places, mask


sar_jepa = functools.partial(losses.sar_jepa, patch_size=PATCH, radii=RADII)


def golden_sar_jepa(case):
  hp, arrays = case['hp'], case['in']
  windows = int(hp['num_window'])

  def by_image(x):  # theirs: one window of all images after the other
    return x.reshape(windows, -1, *x.shape[1:]).swapaxes(0, 1)

  loss = functools.partial(
    losses.sar_jepa, patch_size=int(hp['patch_size']), radii=tuple(map(int, hp['kernel_radii']))
  )
  pred, places, mask = (by_image(arrays[n]) for n in ('pred', 'window_indices', 'mask'))
  inputs = [pred, arrays['images'].transpose(0, 2, 3, 1), places, mask]
  return Golden(loss, inputs, case['out']['loss'], [by_image(case['grad']['pred'])])


CASES = {
  'i_jepa': i_jepa_case(1.0),
  'i_jepa, beta 0.3': i_jepa_case(0.3),
  'data2vec': data2vec_case(),
  'data2vec, sum of squares': data2vec_case(beta=0.0, reduction='sum', scale=0.3),
  'data2vec of layers': of_layers_case(norm='layer', final_norm='layer'),
  'data2vec of layers, normalised over the batch': of_layers_case(
    norm='batch', final_norm='instance'
  ),
  'sar_jepa': Case(sar_jepa, numpy_sar_jepa, sar_jepa_arrays(), 1, sar_jepa_agrees),
}

GOLDENS = {'ijepa': golden_i_jepa, 'data2vec': golden_data2vec, 'sar_jepa': golden_sar_jepa}
