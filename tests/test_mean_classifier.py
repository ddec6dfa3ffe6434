"""The mean classifier, and the bound of Arora et al. on its loss by the unsupervised one."""

import itertools

import numpy as np
import pytest

from ssljax import losses
from ssljax.errors import InputError
from ssljax.evaluators.mean_classifier import mean_classifier

CLASSES, POINTS, WIDTH = 4, 3, 5


def test_equals_a_loop_over_rows():
  generator = np.random.default_rng(0)
  train, test = generator.normal(size=(2, 30, WIDTH)).astype(np.float32)
  train_y, test_y = np.arange(30) % CLASSES, generator.integers(0, CLASSES, 30)
  means = np.stack([train[train_y == c].mean(0) for c in range(CLASSES)])
  right, hinge, logistic = 0, 0.0, 0.0
  for x, y in zip(test, test_y, strict=True):
    scores = means @ x
    right += scores.argmax() == y
    v = scores[y] - np.delete(scores, y)
    hinge += max(0, (1 - v).max())
    logistic += np.log2(1 + np.exp(-v).sum())
  for form, total in (('hinge', hinge), ('logistic', logistic)):
    found = mean_classifier(train, train_y, test, test_y, num_classes=CLASSES, form=form)
    np.testing.assert_allclose(found['loss'], total / 30, rtol=1e-5)
    assert found['accuracy'] == right / 30


def test_mistakes_are_named():
  x, y = np.ones((4, 2)), np.array([0, 0, 1, 1])
  with pytest.raises(InputError, match='2 of 3 classes seen'):
    mean_classifier(x, y, x, y, num_classes=3)
  with pytest.raises(InputError, match="form is 'square'"):
    mean_classifier(x, y, x, y, num_classes=2, form='square')


def every_tuple(f, rho):
  """All (x, x+, x-) of finite latent classes f [C, P, D], and how likely each is under rho."""
  z, positive, negative, chance = [], [], [], []
  for own, other in itertools.product(range(CLASSES), repeat=2):
    for i, j, k in itertools.product(range(POINTS), repeat=3):
      z.append(f[own, i])
      positive.append(f[own, j])
      negative.append(f[other, k])
      chance.append(rho[own] * rho[other] / POINTS**3)
  return (np.stack(x) for x in (z, positive, negative, chance))


@pytest.mark.parametrize('form', ['hinge', 'logistic'])
@pytest.mark.parametrize('seed', range(4))
def test_the_unsupervised_loss_bounds_that_of_the_mean_classifier(form, seed):
  """Lemma 4.3: the mean over pairs of unlike classes is at most (L_un - tau) / (1 - tau).

  Some f are all but class means, where it is nearly an equality, some are noise.
  """
  generator = np.random.default_rng(seed)
  rho = generator.dirichlet(np.full(CLASSES, 3.0))
  noise = (0.01, 0.3, 1.0, 3.0)[seed]
  f = generator.normal(size=(CLASSES, 1, WIDTH)) + noise * generator.normal(
    size=(CLASSES, POINTS, WIDTH)
  )
  f = f.astype(np.float32)
  z, positive, negative, chance = every_tuple(f, rho)
  each = np.array(
    [
      losses.curl(a[None], b[None, None], c[None, None, None], form=form)
      for a, b, c in zip(z, positive, negative, strict=True)
    ]
  )
  unsupervised = float((each * chance).sum())

  tau = float((rho**2).sum())
  supervised = 0.0
  for a, b in itertools.permutations(range(CLASSES), 2):
    x, y = np.concatenate([f[a], f[b]]), np.repeat([0, 1], POINTS)
    # The loss of the task {a, b} at the examples of a; those of b come with (b, a).
    found = mean_classifier(x, y, f[a], np.zeros(POINTS, int), num_classes=2, form=form)
    supervised += rho[a] * rho[b] * found['loss'] / (1 - tau)
  bound = (unsupervised - tau) / (1 - tau)
  assert supervised <= bound + 1e-6
  if noise == 0.01:
    np.testing.assert_allclose(supervised, bound, rtol=0.05)
