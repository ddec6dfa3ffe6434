"""Losses that push embeddings away from their nearest neighbours."""

import functools

import numpy as np
from losscheck import BATCH, Case, Golden, embeddings, second_nears_first, unit

from ssljax import losses


def numpy_koleo(z, eps=1e-8):
  u = unit(z)
  total = 0.0
  for i, row in enumerate(u):
    total -= np.log(min(np.linalg.norm(row - v) for j, v in enumerate(u) if j != i) + eps)
  return total / len(u)


def spread_out(z):
  """t -> embeddings on fewer points at 0 than at 1."""

  def agree(t):
    return (np.float32(t * z + (1 - t) * z[0]),)

  return agree


def numpy_sscd(z1, z2, content=None, *, temperature=0.05, weight=30.0):
  u = unit(np.concatenate([z1, z2]))
  own = np.arange(len(z1))
  shown = [{i} for i in (*own, *own)]
  if content is not None:
    shown = [set(ids) for ids in (*content[:, 0], *content[:, 1])]
  total = 0.0
  for i, mine in enumerate(shown):
    negatives = [v for v, other in zip(u, shown, strict=True) if not mine & other]
    below = sum(np.exp(u[i] @ v / temperature) for v in negatives)
    copies = [v for j, v in enumerate(u) if j != i and mine & shown[j]]
    e = np.array([np.exp(u[i] @ v / temperature) for v in copies])
    total += -np.log(e / (e + below)).mean()
    total -= weight * np.log(min(np.linalg.norm(u[i] - v) for v in negatives))
  return total / len(u)


PAIR = embeddings(2)
# View 1 of the first image shows the last one too, and so on; the others their own image twice.
CONTENT = np.tile(np.arange(BATCH)[:, None, None], (1, 2, 2)).astype(np.int32)
CONTENT[[0, 3, 4], [0, 1, 0], 1] = [BATCH - 1, 7, 0]
COMPOSITES = (*PAIR, CONTENT)


def sscd_case(arrays, weight=30.0, **options):
  loss = functools.partial(losses.sscd, entropy_weight=weight, **options)
  restated = functools.partial(numpy_sscd, weight=weight)
  return Case(loss, restated, arrays, 2, second_nears_first(arrays))


CASES = {
  # It knows no views: it falls as embeddings part.
  'koleo': Case(losses.koleo, numpy_koleo, PAIR[:1], 1, spread_out(PAIR[0])),
  'sscd': sscd_case(PAIR),
  'sscd, chunked': sscd_case(PAIR, chunk_size=3),
  'sscd, composites': sscd_case(COMPOSITES, weight=5.0),
  'sscd, composites, chunked': sscd_case(COMPOSITES, weight=5.0, chunk_size=5),
}


def golden_koleo(case):
  loss = functools.partial(losses.koleo, eps=float(case['hp']['eps']))
  return Golden(
    loss, [case['in']['student_output']], case['out']['loss'], [case['grad']['student_output']]
  )


GOLDENS = {'koleo': golden_koleo}
