"""Losses of masked models in pixels and in places, and of several tasks at once."""

import functools

import jax.numpy as jnp
import numpy as np
from cases_masked import PATCH, mae_arrays
from losscheck import BATCH, Case, Golden, embeddings, numpy_cross_entropy, unit

from ssljax import losses, ops

VIEWS = 2


def numpy_simmim(pred, images, mask, *, patch_size=PATCH):
  per_row, channels = images.shape[2] // patch_size, images.shape[3]
  error = pixels = 0.0
  for b, i in zip(*np.nonzero(mask), strict=True):
    row, col = i // per_row * patch_size, i % per_row * patch_size
    for y in range(patch_size):
      for x in range(patch_size):
        seen = pred[b, i, (y * patch_size + x) * channels :][:channels]
        error += np.abs(seen - images[b, row + y, col + x]).sum()
        pixels += 1
  return error / (pixels + 1e-5) / channels


def numpy_cim(logits, queries, targets, keys, *, temperature=0.2):
  loss = 0.0
  labels = np.arange(len(keys))
  for v in range(VIEWS):
    loss += numpy_cross_entropy(logits[:, v].reshape(-1, 2), targets[:, v].reshape(-1))
    scores = unit(queries[:, v]) @ unit(keys).T / temperature
    loss += 2 * temperature * numpy_cross_entropy(scores, labels)
  return loss


def cim(logits, queries, targets, keys, *, axis_name=None, **options):
  return losses.cim(logits, targets, queries, keys, axis_name=axis_name, **options)


def cim_arrays():
  generator = np.random.default_rng(0)
  logits = generator.normal(size=(BATCH, VIEWS, 4, 3, 2)).astype(np.float32)
  targets = (generator.random((BATCH, VIEWS, 4, 3)) < 0.3).astype(np.int32)
  queries = np.stack(embeddings(VIEWS, seed=1), axis=1)
  return logits, queries, targets, embeddings(1, seed=2)[0]


def cim_agree(t):
  logits, queries, targets, keys = cim_arrays()
  found = 4.0 * np.stack([1 - targets, targets], axis=-1)
  logits = np.float32((1 - t) * logits + t * found)
  return logits, np.float32((1 - t) * queries + t * keys[:, None]), targets, keys


def uncertainty_arrays():
  terms, log_variance = embeddings(2, seed=3)
  return np.abs(terms[:, 0]), log_variance[:, 0]


def numpy_uncertainty(terms, log_variance):
  return sum(loss / np.exp(s) + s for loss, s in zip(terms, log_variance, strict=True))


CASES = {
  'simmim': Case(
    functools.partial(losses.simmim, patch_size=PATCH), numpy_simmim, mae_arrays(seed=1), 2
  ),
  'cim': Case(cim, numpy_cim, cim_arrays(), 2, cim_agree),
  'uncertainty_weighted': Case(
    losses.uncertainty_weighted, numpy_uncertainty, uncertainty_arrays(), 2, axis_name=False
  ),
}


def golden_simmim(case):
  """With the authors' decoder: a 1 x 1 convolution, whose channels then become pixels."""
  patch, stride = int(case['hp']['patch_size']), int(case['hp']['encoder_stride'])

  def loss(images, features, weight, bias, mask):
    batch, _, h, w = features.shape
    values = jnp.einsum('bdhw,pd->bhwp', features, weight[..., 0, 0], precision='highest') + bias
    values = values.reshape(batch, h, w, -1, stride, stride).transpose(0, 1, 4, 2, 5, 3)
    painted = values.reshape(batch, h * stride, w * stride, -1)
    pred = ops.patchify(painted, patch)
    images = images.transpose(0, 2, 3, 1)
    return losses.simmim(pred, images, mask.reshape(batch, -1), patch_size=patch)

  names = ['x', 'features', 'w.decoder.0.weight', 'w.decoder.0.bias']
  values = case['in'] | {f'w.{name}': value for name, value in case['w'].items()}
  arrays = [values[name] for name in (*names, 'mask')]
  return Golden(loss, arrays, case['out']['loss'], [case['grad'][name] for name in names])


def golden_cim(case):
  hp = {name: float(value) for name, value in case['hp'].items()}

  def channels_last(x):
    return np.moveaxis(np.asarray(x).swapaxes(0, 1), 2, -1)

  inputs, grad = case['in'], case['grad']
  arrays = [
    channels_last(inputs['mask_logits']),
    inputs['queries'].swapaxes(0, 1),
    inputs['mask_targets'].swapaxes(0, 1),
    inputs['keys'],
  ]
  grads = [channels_last(grad['mask_logits']), grad['queries'].swapaxes(0, 1)]
  return Golden(functools.partial(cim, **hp), arrays, case['out']['loss'], grads)


GOLDENS = {'simmim': golden_simmim, 'cim': golden_cim}
