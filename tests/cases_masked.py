"""Losses that paint what was hidden."""

import functools

import numpy as np
from losscheck import BATCH, Case, Golden

from ssljax import losses

PATCH = 4


def numpy_mae(pred, images, mask, *, patch_size=PATCH, norm_pix=True):
  per_row, error = images.shape[2] // patch_size, 0.0
  for b, i in zip(*np.nonzero(mask), strict=True):
    row, col = i // per_row * patch_size, i % per_row * patch_size
    x = images[b, row : row + patch_size, col : col + patch_size].reshape(-1)
    if norm_pix:
      x = (x - x.mean()) / np.sqrt(x.var(ddof=1) + 1e-6)
    error += ((pred[b, i] - x) ** 2).mean()
  return error / mask.sum()


def mae_arrays(seed=0):
  generator = np.random.default_rng(seed)
  pred = generator.normal(size=(BATCH, 6, PATCH * PATCH * 3)).astype(np.float32)
  images = generator.normal(size=(BATCH, 8, 12, 3)).astype(np.float32)
  mask = generator.random((BATCH, 6)) < 0.6  # another count in each image, unlike in training
  return pred, images, mask.astype(np.float32)


mae = functools.partial(losses.mae, patch_size=PATCH)
CASES = {'mae': Case(mae, numpy_mae, mae_arrays(), 2)}


def golden_mae(case):
  if str(case['hp']['kind']) != 'loss':
    return None  # whole models, in test_models
  hp, grad = case['hp'], case['grad']
  loss = functools.partial(
    losses.mae, patch_size=int(hp['patch_size']), norm_pix=bool(hp['norm_pix_loss'])
  )
  images, image_grad = (x['imgs'].transpose(0, 2, 3, 1) for x in (case['in'], grad))
  arrays = [case['in']['pred'], images, case['in']['mask']]
  return Golden(loss, arrays, case['out']['loss'], [grad['pred'], image_grad])


GOLDENS = {'mae': golden_mae}
