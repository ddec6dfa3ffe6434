"""The contrastive losses of Arora et al."""

import functools

import numpy as np
from losscheck import BATCH, Case, embeddings

from ssljax import losses

WIDTH = 12


def numpy_curl(z, positives, negatives, *, form='logistic'):
  total = 0.0
  for i in range(len(z)):
    v = [z[i] @ (positives[i].mean(0) - block.mean(0)) for block in negatives[i]]
    if form == 'hinge':
      total += max(0.0, 1 + max(-x for x in v))
    else:
      total += np.log2(1 + sum(np.exp(-x) for x in v))
  return total / len(z)


def blocks(negatives, size):
  generator = np.random.default_rng(3)
  shape = (BATCH, negatives, size, WIDTH)
  positives = generator.normal(size=(BATCH, size, WIDTH)).astype(np.float32)
  return embeddings(1)[0], positives, generator.normal(size=shape).astype(np.float32)


def positives_near(arrays):
  def agree(t):
    z, positives, negatives = arrays
    return z, np.float32((1 - t) * positives + t * z[:, None]), np.float32((1 - t) * negatives)

  return agree


def case(form, **sizes):
  arrays = blocks(**sizes)
  return Case(
    functools.partial(losses.curl, form=form),
    functools.partial(numpy_curl, form=form),
    arrays,
    3,
    positives_near(arrays),
  )


CASES = {
  'curl, logistic': case('logistic', negatives=1, size=1),
  'curl, hinge': case('hinge', negatives=1, size=1),
  'curl, logistic, 3 blocks of 2': case('logistic', negatives=3, size=2),
  'curl, hinge, 3 blocks of 2': case('hinge', negatives=3, size=2),
}
GOLDENS = {}
