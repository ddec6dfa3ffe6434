"""Losses that predict a teacher's embedding."""

import functools

import numpy as np
from losscheck import Case, Golden, embeddings, unit

from ssljax import losses


def numpy_byol(p1, p2, z1, z2):
  def cos(a, b):
    return (unit(a) * unit(b)).sum(1)

  return (4 - 2 * cos(p1, z2) - 2 * cos(p2, z1)).mean()


def numpy_simsiam(p1, p2, z1, z2):
  return -np.mean([unit(p1) * unit(z2), unit(p2) * unit(z1)]) * p1.shape[1]


def nearing(t):
  """Predictions that go from opposite to their targets to equal to them."""
  z1, z2, other, _ = FOUR
  z = np.float32(z2 + 20 * (t - 0.5) * z1)
  return z1, z1, z, z


FOUR = embeddings(4)
CASES = {
  'byol': Case(losses.byol, numpy_byol, FOUR, 2, nearing, prevented_by='nothing in the loss'),
  'simsiam': Case(
    losses.simsiam, numpy_simsiam, FOUR, 2, nearing, prevented_by='nothing in the loss'
  ),
}


def golden(loss, case):
  names = 'p1', 'p2', 'z1', 'z2'
  arrays, grads = ([case[part][n] for n in names] for part in ('in', 'grad'))
  return Golden(loss, arrays, case['out']['loss'], grads)


GOLDENS = {
  'byol': functools.partial(golden, losses.byol),
  'simsiam': functools.partial(golden, losses.simsiam),
}
