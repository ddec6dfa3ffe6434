"""NT-Xent's kin: without its positive pair below, of a part of the features, of known classes."""

import functools

import numpy as np
from cases_contrastive import numpy_nt_xent
from losscheck import Case, Golden, embeddings, second_nears_first, unit

from ssljax import losses, ops


def numpy_dcl(z1, z2, *, temperature=0.1, sigma=None):
  u = unit(np.stack([z1, z2]))
  cosine = (u[0] * u[1]).sum(1)
  density = np.ones(len(z1)) if sigma is None else np.exp(cosine / sigma)
  total = 0.0
  for i in range(len(z1)):
    others = np.delete(u, i, axis=1).reshape(-1, z1.shape[1])
    weight = 2 - density[i] / density.mean()
    for view in range(2):
      total += np.log(np.exp(others @ u[view, i] / temperature).sum())
      total -= weight * cosine[i] / temperature
  return total / (2 * len(z1))


def numpy_supcon(features, labels, *, mode='all', log_of_sum=False, temperature=0.1):
  batch, views, _ = features.shape
  total = []
  for i in range(batch):
    for v in range(views if mode == 'all' else 1):
      p = np.exp(features @ features[i, v] / temperature)
      p[i, v] = 0
      p /= p.sum()
      same = np.broadcast_to((labels == labels[i])[:, None], p.shape).copy()
      same[i, v] = False
      if same.any():
        total.append(-np.log(p[same].sum()) if log_of_sum else -np.log(p[same]).mean())
      else:
        total.append(0.0)
  return np.mean(total) * temperature / 0.07


def classes_gather(arrays):
  """t -> the features moved to one direction for each class."""
  features, labels = arrays
  centre = np.eye(features.shape[-1], dtype=np.float32)[labels][:, None]

  def agree(t):
    return np.float32(unit((1 - t) * features + t * centre)), labels

  return agree


PAIR = embeddings(2)
FEATURES = unit(np.stack(embeddings(2, seed=3), axis=1))
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6], np.int32)
ONE_VIEW = (FEATURES[:, :1], LABELS)  # class 4 has one example and so no positive


def supcon_case(arrays=(FEATURES, LABELS), chunk_size=None, mode='all', log_of_sum=False):
  loss = functools.partial(
    losses.supcon, chunk_size=chunk_size, contrast_mode=mode, log_of_sum=log_of_sum
  )
  restated = functools.partial(numpy_supcon, mode=mode, log_of_sum=log_of_sum)
  return Case(loss, restated, arrays, 1, classes_gather(arrays))


CASES = {
  'dcl': Case(losses.dcl, numpy_dcl, PAIR, 2, second_nears_first(PAIR)),
  'dcl, chunked': Case(
    functools.partial(losses.dcl, chunk_size=3), numpy_dcl, PAIR, 2, second_nears_first(PAIR)
  ),
  # The weights have no gradient, which finite differences would show: a wide density flattens them.
  'dclw': Case(
    functools.partial(losses.dclw, sigma=1e8),
    functools.partial(numpy_dcl, sigma=1e8),
    PAIR,
    2,
    second_nears_first(PAIR),
  ),
  'directclr': Case(
    functools.partial(losses.directclr, loss_dim=5),
    lambda z1, z2: numpy_nt_xent(z1[:, :5], z2[:, :5]),
    PAIR,
    2,
    second_nears_first(PAIR),
  ),
  'supcon': supcon_case(),
  'supcon, one view an anchor': supcon_case(mode='one'),
  'supcon, chunked': supcon_case(chunk_size=5),
  'supcon, sum in the logarithm': supcon_case(log_of_sum=True),
  'supcon, classes of one': supcon_case(ONE_VIEW),
}


def two_views(loss, case, *names):
  z, grad = case['in'], case['grad']
  loss = functools.partial(loss, **{name: case['hp'][name].item() for name in names})
  return Golden(loss, [z['z1'], z['z2']], case['out']['loss'], [grad['z1'], grad['z2']])


def golden_dcl(case):
  return two_views(losses.dcl, case, 'temperature')


def golden_dclw(case):
  return two_views(losses.dclw, case, 'temperature', 'sigma')


def golden_directclr(case):
  return two_views(losses.directclr, case, 'temperature', 'loss_dim')


def golden_memory_bank(case):
  x, out, grad = case['in'], case['out'], case['grad']

  def loss(z1, z2, bank, pointer):
    value = losses.moco(
      z1, z2, bank, temperature=float(case['hp']['temperature']), detach_keys=False
    )
    return value, ops.enqueue(bank, pointer[0], ops.l2_normalize(z2), wrap=False)

  arrays = [x['z1'], x['z2'], x['state_bank'], x['state_ptr']]
  aux = out['state_bank'], out['state_ptr'][0]
  return Golden(loss, arrays, out['loss'], [grad['z1'], grad['z2']], aux)


def golden_supcon(case):
  x, hp, out = case['in'], case['hp'], case['out']

  def loss(features, labels):
    numbers = {name: float(hp[name]) for name in ('temperature', 'base_temperature')}
    value = losses.supcon(features, labels, contrast_mode=str(hp['contrast_mode']), **numbers)
    numbers['base_temperature'] = numbers['temperature']
    return value, losses.supcon(features, labels, log_of_sum=True, **numbers)

  arrays = [x['features'], x['labels']]
  return Golden(loss, arrays, out['loss'], [case['grad']['features']], out['solo_learn_loss'])


GOLDENS = {
  'dcl': golden_dcl,
  'dclw': golden_dclw,
  'directclr': golden_directclr,
  'nt_xent_memory_bank': golden_memory_bank,
  'supcon': golden_supcon,
}
