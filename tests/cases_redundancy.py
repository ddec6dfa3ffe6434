"""Losses that make the dimensions of an embedding agree across views and differ from each other."""

import functools

import numpy as np
from losscheck import BATCH, Case, Golden, embeddings, second_nears_first, unit

from ssljax import losses


def numpy_barlow_twins(z1, z2, *, lambd=0.0051, eps=1e-5):
  z1, z2 = ((z - z.mean(0)) / np.sqrt(z.var(0) + eps) for z in (z1, z2))
  total = 0.0
  for i in range(z1.shape[1]):
    for j in range(z1.shape[1]):
      c = (z1[:, i] * z2[:, j]).mean()
      total += (1 - c) ** 2 if i == j else lambd * c**2
  return total


def numpy_vicreg(z1, z2, *, halved=True):
  variance = covariance = 0.0
  for z in (z1, z2):
    cov = np.cov(z.T)
    variance += np.maximum(0, 1 - np.sqrt(np.diag(cov) + 1e-4)).mean() / (2 if halved else 1)
    covariance += ((cov - np.diag(np.diag(cov))) ** 2).sum() / len(cov)
  return 25 * ((z1 - z2) ** 2).mean() + 25 * variance + covariance


def numpy_mixed_barlow_twins(z1, z2, zm, partner, alpha):
  lambd, scale, count = 0.0078125, 4.0, len(z1)
  z1, z2, zm = ((z - z.mean(0)) / z.std(0, ddof=1) for z in (z1, z2, zm))
  c = z1.T @ z2 / count
  total = ((1 - np.diag(c)) ** 2).sum() + lambd * ((c - np.diag(np.diag(c))) ** 2).sum()
  for z in (z1, z2):
    wanted = alpha * z1.T @ z / count + (1 - alpha) * z2[partner].T @ z / count
    total += scale * lambd * ((zm.T @ z / count - wanted) ** 2).sum()
  return total


def numpy_tico(z1, z2, covariance, *, beta=0.9, rho=8.0):
  z1, z2 = unit(z1), unit(z2)
  covariance = beta * covariance + (1 - beta) * np.mean([np.outer(z, z) for z in z1], 0)
  return np.mean([1 - a @ b + rho * a @ covariance @ a for a, b in zip(z1, z2, strict=True)])


def tico(z1, z2, covariance, **options):
  return losses.tico(z1, z2, covariance, **options)[0]


def tico_through(z1, z2, covariance, **options):
  # Its gradient is that of its value; with B detached it is not.
  return tico(z1, z2, covariance, grad_through_b=True, **options)


def moment():
  (z,) = embeddings(1, seed=3, batch=40)
  return (unit(z).T @ unit(z) / 40).astype(np.float32)


PAIR = embeddings(2)
MIXED = *embeddings(3), np.random.default_rng(4).permutation(BATCH), np.float32(0.3)
CASES = {
  'barlow_twins': Case(losses.barlow_twins, numpy_barlow_twins, PAIR, 2, second_nears_first(PAIR)),
  'mixed_barlow_twins': Case(
    losses.mixed_barlow_twins,
    numpy_mixed_barlow_twins,
    MIXED,
    3,
    second_nears_first(MIXED),
    permutes=False,  # partners are named by their rows
    axis_name=(True, True, True, True, False),
  ),
  'tico': Case(
    tico_through,
    numpy_tico,
    (*PAIR, moment()),
    2,
    second_nears_first((*PAIR, moment())),
    permutes=False,  # the axes of the moment are features
    axis_name=(True, True, False),
  ),
  'vicreg': Case(losses.vicreg, numpy_vicreg, PAIR, 2, second_nears_first(PAIR)),
  "vicreg, the paper's": Case(
    functools.partial(losses.vicreg, halve_variance=False),
    functools.partial(numpy_vicreg, halved=False),
    PAIR,
    2,
    second_nears_first(PAIR),
  ),
}


def golden_barlow_twins(case):
  z, hp, grad = case['in'], case['hp'], case['grad']
  loss = functools.partial(losses.barlow_twins, lambd=float(hp['lambd']), eps=float(hp['bn_eps']))
  return Golden(loss, [z['z1'], z['z2']], case['out']['loss'], [grad['z1'], grad['z2']])


def golden_vicreg(case):
  z, hp, grad = case['in'], case['hp'], case['grad']
  loss = functools.partial(losses.vicreg, **{name: float(value) for name, value in hp.items()})
  return Golden(loss, [z['z1'], z['z2']], case['out']['loss'], [grad['z1'], grad['z2']])


def golden_mixed_barlow_twins(case):
  x, hp, grad = case['in'], case['hp'], case['grad']
  options = {'lambd': float(hp['lmbda']), 'mixup_loss_scale': float(hp['mixup_loss_scale'])}

  def loss(z1, z2, zm):
    partner, alpha = x['perm'].astype('int32'), float(hp['alpha'])
    return losses.mixed_barlow_twins(z1, z2, zm, partner, alpha, **options)

  names = 'z1', 'z2', 'zm'
  arrays, grads = [x[name] for name in names], [grad[name] for name in names]
  return Golden(loss, arrays, case['out']['loss'], grads)


def golden_tico(case, grad_through_b=False):
  x, hp, out, grad = case['in'], case['hp'], case['out'], case['grad']
  options = {'beta': float(hp['beta']), 'rho': float(hp['rho'])}
  loss = functools.partial(losses.tico, grad_through_b=grad_through_b, **options)
  arrays = [x['z1'], x['z2'], x['state_C']]
  # The code that has the gradient leaves out the 1.
  value = out['loss'] + 1 if grad_through_b else out['loss']
  return Golden(loss, arrays, value, [grad['z1'], grad['z2']], out['state_C'])


GOLDENS = {
  'barlow_twins': golden_barlow_twins,
  'mixed_barlow_twins': golden_mixed_barlow_twins,
  'tico': golden_tico,
  'tico_grad_through_b': functools.partial(golden_tico, grad_through_b=True),
  'vicreg': golden_vicreg,
}
