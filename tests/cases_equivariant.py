"""Losses under which embeddings follow what is done to the images."""

import functools

import numpy as np
from cases_contrastive import numpy_nt_xent
from losscheck import Case, Golden, embeddings, unit

from ssljax import losses
from ssljax.models import hypernetwork


def numpy_care(z1, z2, e1, e2, *, splits=8, weight=0.01, temperature=0.5):
  u, v = unit(e1), unit(e2)
  size, total = len(u) // splits, 0.0
  for i in range(len(u)):
    for j in range(len(u)):
      if i != j and i // size == j // size:
        total += 2 * (u[i] @ u[j] - v[i] @ v[j]) ** 2
  return numpy_nt_xent(z1, z2, temperature=temperature) + weight * total / len(u)


def numpy_sie(z1, z2, predicted, *, inv_dim, last=True, equi_factor=0.45):
  variance = covariance = 0.0
  for z in (z1, z2, predicted)[: 3 if last else 2]:
    variance += np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4)).mean() / 2
  for z in (z1, z2):
    cov = np.cov(z.T)
    covariance += ((cov - np.diag(np.diag(cov))) ** 2).sum() / len(cov)
  invariance = ((z1 - z2)[:, :inv_dim] ** 2).mean()
  equivariance = ((predicted - z2[:, inv_dim:]) ** 2).mean()
  return 10 * (invariance + equi_factor * equivariance + variance) + covariance


def numpy_trajectory(left, center, right):
  total = 0.0
  for a, c, b in zip(unit(left), unit(center), unit(right), strict=True):
    # The part of a vector across c is the vector less its shadow on c.
    before, after = ((np.eye(len(c)) - np.outer(c, c)) @ step for step in (c - a, b - c))
    total -= before @ after / (np.linalg.norm(before) * np.linalg.norm(after))
  return total / len(center)


def turned(vectors, seed=3):
  """The vectors rotated together."""
  q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(vectors.shape[1],) * 2))
  return np.float32(vectors @ q)


FOUR = embeddings(4)
WEIGHED = dict(weight=2.0, equiv_splits=4)
TRIPLE = embeddings(3)


def care_agrees(t):
  z1, z2, e1, e2 = FOUR
  return z1, np.float32((1 - t) * z2 + t * z1), e1, np.float32((1 - t) * e2 + t * turned(e1))


def sie_arrays(t):
  """The invariant part of the second view near the first's, its other part near the prediction."""
  z1, z2 = embeddings(2)
  return (
    z1,
    np.concatenate([(1 - t) * z2[:, :7] + t * z1[:, :7], z2[:, 7:]], 1),
    np.float32((1 - t) * z1[:, 7:] + t * z2[:, 7:]),
  )


def trajectory_agrees(t):
  left, center, right = TRIPLE
  u, c = unit(left), unit(center)
  straight = 2 * (u * c).sum(1, keepdims=True) * c - u
  return left, center, np.float32((1 - t) * unit(right) + t * straight)


CASES = {
  'care': Case(
    functools.partial(losses.care, **WEIGHED),
    functools.partial(numpy_care, splits=4, weight=2.0),
    FOUR,
    4,
    care_agrees,
    permutes=False,
  ),
  'care, one part': Case(
    functools.partial(losses.care, equiv_splits=1, chunk_size=3),
    functools.partial(numpy_care, splits=1),
    FOUR,
    4,
    care_agrees,
  ),
  'sie': Case(
    functools.partial(losses.sie, inv_dim=7),
    functools.partial(numpy_sie, inv_dim=7),
    sie_arrays(0),
    3,
    sie_arrays,
  ),
  'sie without variance of the prediction': Case(
    functools.partial(losses.sie, inv_dim=7, equi_factor=4.5, predicted_variance=False),
    functools.partial(numpy_sie, inv_dim=7, equi_factor=4.5, last=False),
    sie_arrays(0),
    3,
    sie_arrays,
  ),
  'trajectory': Case(losses.trajectory, numpy_trajectory, TRIPLE, 3, trajectory_agrees),
}


def golden_care(case):
  """The authors' code takes rows of length one as they are; ours normalises them.

  At such rows ours has the part of the authors' gradient that lies along the sphere.
  """
  x, hp = case['in'], case['hp']
  names = 'z1', 'z2', 'e1', 'e2'
  loss = functools.partial(
    losses.care,
    temperature=float(hp['temperature']),
    weight=float(hp['weight']),
    equiv_splits=int(hp['equiv_splits']),
  )

  def along(name):
    z, grad = x[name], case['grad'][name]
    return grad - (grad * z).sum(1, keepdims=True) * z

  arrays = [x[name] for name in names]
  for z in arrays:
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-9)
  return Golden(loss, arrays, case['out']['loss'], [along(name) for name in names])


def golden_sie(case):
  x, hp, grad = case['in'], case['hp'], case['grad']
  options = {name: float(hp[f'{name}']) for name in ('sim_coeff', 'std_coeff', 'cov_coeff')}
  inv_dim = int(hp['inv_dim'])
  has_bias = 'hyper_bias' in x
  predictor = hypernetwork.linear(hyper_bias=has_bias, bias=bool(hp['bias_pred']))

  def loss(z1, z2, conditions, weight, *bias):
    params = {'weights': {'kernel': weight.T, **({'bias': bias[0]} if bias else {})}}
    predicted, _ = predictor.apply(params, {}, z1[:, inv_dim:], conditions, train=True)
    value = losses.sie(
      z1,
      z2,
      predicted,
      inv_dim=inv_dim,
      equi_factor=float(hp['equi_factor']),
      predicted_variance=str(hp['variant']) == 'SIE',
      **options,
    )
    return value, predicted

  names = ['x', 'y', 'params', 'hyper_weight', *(['hyper_bias'] if has_bias else [])]
  aux = case['out']['equi_prediction']
  arrays = [x[name] for name in names]
  return Golden(loss, arrays, case['out']['loss'], [grad[name] for name in names], aux)


GOLDENS = {'care': golden_care, 'sie': golden_sie}
