"""Losses between whitened embeddings."""

import functools

import numpy as np
from losscheck import BATCH, Case, Golden, unit

from ssljax import losses, ops

W_SIZE = 8


def numpy_w_mse(z, perms, *, w_size=W_SIZE, w_eps=0.01, norm=True):
  views, total = z.shape[1], 0.0
  for perm in perms:
    for chunk in np.split(perm, len(perm) // w_size):
      white = []
      for v in range(views):
        x = z[chunk, v] - z[chunk, v].mean(0)
        cov = (1 - w_eps) * np.cov(x.T) + w_eps * np.eye(x.shape[1])
        white.append(x @ np.linalg.inv(np.linalg.cholesky(cov)).T)
      white = [unit(x) for x in white] if norm else white
      for i in range(views):
        for j in range(i):
          error = (white[i] - white[j]) ** 2
          total += error.sum() if norm else error.mean(1).sum()
  return total / (perms.size * views * (views - 1) / 2)


def views_of(count, width, seed=0):
  generator = np.random.default_rng(seed)
  return generator.normal(size=(BATCH, count, width)).astype(np.float32)


def views_near_first(z, *rest):
  """t -> z with its views moved to the first."""
  return lambda t: (np.float32((1 - t) * z + t * z[:, :1]), *rest)


PERMS = np.stack([np.random.default_rng(s).permutation(BATCH) for s in range(2)])
Z = views_of(3, 4)
CASES = {
  f'w_mse{name}': Case(
    functools.partial(losses.w_mse, w_size=W_SIZE, w_eps=0.01, norm=norm),
    functools.partial(numpy_w_mse, norm=norm),
    (Z, PERMS),
    1,
    views_near_first(Z, PERMS),
    prevented_by='' if norm else 'Constant embeddings cannot be whitened',
    permutes=False,  # the permutations name rows
    axis_name=(True, False),
  )
  for name, norm in {'': True, ', not at length one': False}.items()
}


def golden_w_mse(case):
  x, hp = case['in'], case['hp']
  options = {'w_size': int(hp['w_size']), 'w_eps': float(hp['w_eps']), 'norm': bool(hp['norm'])}

  def loss(z):
    perms = x['perms'].astype('int32')
    value = losses.w_mse(z.swapaxes(0, 1), perms, **options)
    return value, ops.whiten(z[0], options['w_eps'])

  out = case['out']
  aux = out['whitened_view0_full_batch']
  return Golden(loss, [x['z']], out['loss'], [case['grad']['z']], aux)


GOLDENS = {'w_mse': golden_w_mse}
