"""Losses that make the dimensions of an embedding agree across views and differ from each other."""

import functools

import numpy as np
from losscheck import Case, Golden, embeddings, second_nears_first

from ssljax import losses


def numpy_barlow_twins(z1, z2, *, lambd=0.0051, eps=1e-5):
  z1, z2 = ((z - z.mean(0)) / np.sqrt(z.var(0) + eps) for z in (z1, z2))
  total = 0.0
  for i in range(z1.shape[1]):
    for j in range(z1.shape[1]):
      c = (z1[:, i] * z2[:, j]).mean()
      total += (1 - c) ** 2 if i == j else lambd * c**2
  return total


PAIR = embeddings(2)
CASES = {
  'barlow_twins': Case(losses.barlow_twins, numpy_barlow_twins, PAIR, 2, second_nears_first(PAIR)),
}


def golden_barlow_twins(case):
  z, hp, grad = case['in'], case['hp'], case['grad']
  loss = functools.partial(losses.barlow_twins, lambd=float(hp['lambd']), eps=float(hp['bn_eps']))
  return Golden(loss, [z['z1'], z['z2']], case['out']['loss'], [grad['z1'], grad['z2']])


GOLDENS = {'barlow_twins': golden_barlow_twins}
