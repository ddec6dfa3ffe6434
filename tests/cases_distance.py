"""Losses on the dependence of two sets of vectors."""

import numpy as np
from losscheck import Case, embeddings, second_nears_first

from ssljax import losses


def numpy_distance_correlation(x, y):
  count = len(x)
  sums = {}
  centred = []
  for rows in (x, y):
    d = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in rows] for a in rows])
    middle = np.eye(count) - 1 / count
    centred.append(middle @ d @ middle)
  for name, (a, b) in {'xy': (0, 1), 'xx': (0, 0), 'yy': (1, 1)}.items():
    sums[name] = np.sqrt((centred[a] * centred[b]).sum()) / count
  return sums['xy'] / np.sqrt(sums['xx'] * sums['yy'])


def numpy_mv_mr(z, z_plain, *representations):
  total = ((z - z_plain) ** 2).mean()
  for x in (z, z_plain):
    total += np.maximum(0, 1 - x.std(0, ddof=1)).mean()
  for other in (z_plain, *representations):
    total += 1 - numpy_distance_correlation(z, other)
  return total


def independence(x, y, **options):
  return 1 - losses.distance_correlation(x, y, **options)


def mv_mr(z, z_plain, *representations, **options):
  return losses.mv_mr(z, z_plain, representations, **options)


PAIR, (WIDE,) = embeddings(2), embeddings(1, seed=8, width=20)
CASES = {
  'distance_correlation': Case(
    independence,
    lambda x, y: 1 - numpy_distance_correlation(x, y),
    PAIR,
    2,
    second_nears_first(PAIR),
  ),
  'mv_mr': Case(
    mv_mr,
    numpy_mv_mr,
    (0.8 * PAIR[0], 0.8 * PAIR[1], PAIR[0], WIDE),
    2,
    second_nears_first((0.8 * PAIR[0], 0.8 * PAIR[1], PAIR[0], WIDE)),
  ),
}
GOLDENS = {}
