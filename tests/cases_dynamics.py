"""Losses that move embeddings as particles under forces."""

import numpy as np
from cases_whitening import views_of
from losscheck import Case, embeddings, unit

from ssljax import losses


def numpy_msbreg(p, z, noise):
  p, z, noise = unit(p), unit(z), unit(noise)
  batch, views, width = p.shape
  pull = walk = 0.0
  for i in range(batch):
    for v in range(views):
      pull += ((p[i, v] - z[i].mean(0)) ** 2).sum() / (batch * views)
      walk += p[i, v] @ noise[i] / (batch * views)
  values = np.linalg.svd(p.reshape(-1, width), compute_uv=False) ** 2 / (batch * views)
  return pull + ((values - 1 / width) ** 2).sum() + 0.1 * walk


P, Z, NOISE = views_of(2, 12), views_of(3, 12, seed=1), embeddings(1, seed=2)[0]
CASES = {
  'msbreg': Case(
    losses.msbreg,
    numpy_msbreg,
    (P, Z, NOISE),
    1,
    lambda t: (np.float32((1 - t) * P + t * 3 * unit(Z).mean(1, keepdims=True)), Z, NOISE),
    # The teacher's embeddings are arguments: where both collapse, to the same place.
    collapsed=lambda: (np.ones_like(P), np.ones_like(Z), NOISE),
  )
}
GOLDENS = {}
