"""Losses that predict a teacher's embedding."""

import numpy as np
from losscheck import Case, Golden, embeddings, unit

from ssljax import losses


def numpy_byol(p1, p2, z1, z2):
  def cos(a, b):
    return (unit(a) * unit(b)).sum(1)

  return (4 - 2 * cos(p1, z2) - 2 * cos(p2, z1)).mean()


def nearing(t):
  """Predictions that go from opposite to their targets to equal to them."""
  z1, z2, other, _ = FOUR
  z = np.float32(z2 + 20 * (t - 0.5) * z1)
  return z1, z1, z, z


FOUR = embeddings(4)
CASES = {
  'byol': Case(losses.byol, numpy_byol, FOUR, 2, nearing, prevented_by='nothing in the loss'),
}


def golden_byol(case):
  names = 'p1', 'p2', 'z1', 'z2'
  arrays, grads = ([case[part][n] for n in names] for part in ('in', 'grad'))
  return Golden(losses.byol, arrays, case['out']['loss'], grads)


GOLDENS = {'byol': golden_byol}
