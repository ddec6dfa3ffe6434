"""Losses that give embeddings the distribution of an isotropic Gaussian."""

import functools

import jax.numpy as jnp
import numpy as np
from cases_whitening import views_near_first, views_of
from losscheck import Case, Golden, embeddings, unit

from ssljax import losses


def numpy_sigreg(z, slices, *, t_max=3.0, n_points=17):
  total = 0.0
  for x in (z @ slices).T:
    x = x.reshape(-1, len(z))  # one row for each view
    t = np.linspace(0, t_max, n_points)
    gap = np.abs(np.exp(1j * x[:, :, None] * t).mean(1) - np.exp(-(t**2) / 2)) ** 2
    total += 2 * np.trapezoid(gap * np.exp(-(t**2) / 2), t).mean()
  return len(z) * total / slices.shape[1]


def numpy_lejepa(z, slices, *, global_views=2, lambd=0.05):
  views = z.shape[1]
  centre = sum(z[:, v] for v in range(global_views)) / global_views
  invariance = np.mean([((z[:, v] - centre) ** 2).mean() for v in range(views)])
  gaussian = np.mean([numpy_sigreg(z[:, v], slices) for v in range(views)])
  return lambd * gaussian + (1 - lambd) * invariance


def to_gaussian(t):
  """Embeddings far from the mean 0 and the covariance 1 move there."""
  z, _ = np.linalg.qr(embeddings(1)[0])  # columns of mean square 1 / B
  return np.float32(np.sqrt(len(z)) * z * (1 + 2 * (1 - t)) + 2 * (1 - t)), SLICES


Z = views_of(3, 12)
SLICES = np.float32(unit(embeddings(1, seed=9, batch=10)[0]).T)
CASES = {
  'sigreg': Case(
    losses.sigreg,
    numpy_sigreg,
    (embeddings(1)[0], SLICES),
    1,
    to_gaussian,
    permutes=False,
    axis_name=(True, False),
  ),
  'lejepa': Case(
    functools.partial(losses.lejepa, global_views=2),
    numpy_lejepa,
    (Z, SLICES),
    1,
    views_near_first(Z, SLICES),
    permutes=False,  # the slices have no axis of the batch
    axis_name=(True, False),
  ),
}


def options(hp):
  return {'t_max': float(hp['t_max']), 'n_points': int(hp['n_points'])}


def golden_sigreg(case):
  x = case['in']['x']

  def loss(x, slices):
    return losses.sigreg(jnp.moveaxis(x, -2, 0), slices, **options(case['hp']))

  return Golden(loss, [x, case['in']['slices']], case['out']['loss'], [case['grad']['x']])


def golden_lejepa(case):
  hp = case['hp']

  def loss(global_proj, local_proj, slices):
    z = jnp.concatenate([global_proj, local_proj]).swapaxes(0, 1)
    some = {'global_views': len(global_proj), 'lambd': float(hp['lambda_param'])}
    return losses.lejepa(z, slices, **some, **options(hp))

  names = 'global_proj', 'local_proj'
  arrays = [*(case['in'][name] for name in names), case['in']['slices']]
  return Golden(loss, arrays, case['out']['loss'], [case['grad'][name] for name in names])


GOLDENS = {'lejepa': golden_lejepa, 'lejepa_sigreg': golden_sigreg}
