"""Losses on the capacity of the manifolds that views of an image span."""

import functools

import numpy as np
from cases_whitening import views_near_first, views_of
from losscheck import Case, Golden, unit

from ssljax import losses


def numpy_mmcr(z, z_momentum=None, *, lmbda=0.0):
  def nuclear(matrix):
    return np.sqrt(np.maximum(np.linalg.eigvalsh(matrix @ matrix.T), 0)).sum()

  z = unit(z)
  centroids = z.mean(1)
  if z_momentum is not None:
    centroids = (centroids + unit(z_momentum).mean(1)) / 2
  return lmbda * np.mean([nuclear(views) for views in z]) - nuclear(centroids)


def numpy_emp_ssl(z):
  batch, views, width = z.shape
  similarity = (unit(z) * unit(z.mean(1, keepdims=True))).sum() / (batch * views)
  rate = 0.0
  for v in range(views):
    values = np.linalg.svd(z[:, v], compute_uv=False) ** 2
    rate += np.log(1 + width / (batch * 0.2) * values).sum() / 2 / views
  return -200 * similarity - rate


Z, OTHER = views_of(3, 24), views_of(3, 24, seed=1)  # width > batch: eigvalsh of z z^T is exact
CASES = {
  'emp_ssl': Case(
    losses.emp_ssl,
    numpy_emp_ssl,
    (unit(Z),),
    1,
    views_near_first(unit(Z)),
    collapsed=lambda: (unit(np.ones_like(Z)),),
  ),
  'mmcr': Case(losses.mmcr, numpy_mmcr, (Z,), 1, views_near_first(Z)),
  'mmcr, local': Case(
    functools.partial(losses.mmcr, lmbda=0.1),
    functools.partial(numpy_mmcr, lmbda=0.1),
    (Z,),
    1,
    views_near_first(Z),
  ),
  'mmcr, momentum': Case(
    functools.partial(losses.mmcr, lmbda=0.1),
    functools.partial(numpy_mmcr, lmbda=0.1),
    (Z, OTHER),
    2,
    lambda t: (*views_near_first(Z)(t), np.float32((1 - t) * OTHER + t * Z[:, :1])),
  ),
}


def golden_mmcr(case, names=('z',)):
  hp = case['hp']

  def loss(*arrays):
    views = [z.reshape(-1, int(hp['n_aug']), z.shape[1]) for z in arrays]
    return losses.mmcr(*views, lmbda=float(hp['lmbda']))

  arrays, grads = ([case[group][name] for name in names] for group in ('in', 'grad'))
  return Golden(loss, arrays, case['out']['loss'], grads)


def golden_emp_ssl(case):
  options = {name: float(value) for name, value in case['hp'].items()}

  def loss(z):
    return losses.emp_ssl(z.swapaxes(0, 1), **options)

  return Golden(loss, [case['in']['z']], case['out']['loss'], [case['grad']['z']])


GOLDENS = {
  'emp_ssl': golden_emp_ssl,
  'mmcr': golden_mmcr,
  'mmcr_momentum': functools.partial(golden_mmcr, names=('z', 'z_momentum')),
}
