"""Noise-contrastive estimation against a memory bank, and labels from a queue."""

import functools

import numpy as np
from losscheck import BATCH, Case, Golden, embeddings, unit

from ssljax import losses, ops

ROWS, NOISE = 40, 6
BANK = unit(embeddings(1, seed=5, batch=ROWS)[0])
Z, IMAGE = (unit(x) for x in embeddings(2))


def candidates(shape, seed=0):
  drawn = np.random.default_rng(seed).integers(0, ROWS, (*shape, 1 + NOISE)).astype(np.int32)
  own = np.arange(BATCH).reshape(-1, *(1,) * (len(shape) - 1))
  drawn[..., 0] = np.broadcast_to(own, shape)
  return drawn


def numpy_nce(z, bank, candidates, *, normalizer, temperature=0.2, eps=1e-7):
  share = (candidates.shape[1] - 1) / len(bank)
  total = 0.0
  for x, rows in zip(z, candidates, strict=True):
    p = np.exp(bank[rows] @ x / temperature) / normalizer
    total -= np.log(p[0] / (p[0] + share + eps)) + np.log(share / (p[1:] + share + eps)).sum()
  return total / len(z)


def numpy_pirl(patches, image, bank, candidates, *, normalizer, weights):
  terms = [
    numpy_nce(unit(z), bank, candidates[:, i], normalizer=normalizer, eps=2**-23)
    for i, z in enumerate((patches, image))
  ]
  return weights[0] * terms[0] + weights[1] * terms[1]


def numpy_mls(z, features, queue, queue_features, *, topk=5, temperature=0.2):
  total = 0.0
  for x, g in zip(unit(z), features, strict=True):
    y = np.zeros(len(queue))
    y[np.argsort(queue_features @ g)[-topk:]] = 1
    sigmoid = 1 / (1 + np.exp(-queue @ x / temperature))
    total -= (y * np.log(sigmoid) + (1 - y) * np.log(1 - sigmoid)).mean()
  return total / len(z)


def to_memory(t):
  """The embeddings move to their own memories."""
  return np.float32((1 - t) * Z + t * BANK[:BATCH]), BANK, candidates((BATCH,))


def both_to_memory(t):
  moved = [np.float32((1 - t) * z + t * BANK[:BATCH]) for z in (Z, IMAGE)]
  return (*moved, BANK, candidates((BATCH, 2)))


def to_labels(t):
  """The embeddings move to the mean of their labels' projections."""
  z, features, queue, queue_features = LABELLED
  nearest = np.argsort(features @ queue_features.T)[:, -5:]
  return np.float32((1 - t) * unit(z) + t * unit(queue[nearest].mean(1))), *LABELLED[1:]


FEATURES = embeddings(1, seed=7, width=9)[0]
QUEUE_FEATURES = unit(embeddings(1, seed=8, batch=ROWS, width=9)[0])
LABELLED = (embeddings(1)[0], FEATURES, BANK, QUEUE_FEATURES)
OWN = {'normalizer': 60.0, 'temperature': 0.2}
CASES = {
  'nce': Case(
    functools.partial(losses.nce, **OWN),
    functools.partial(numpy_nce, normalizer=60.0),
    to_memory(0),
    1,
    to_memory,
    permutes=False,
    axis_name=(True, False, True),
  ),
  'nce, chunked': Case(
    functools.partial(losses.nce, **OWN, chunk_size=3),
    functools.partial(numpy_nce, normalizer=60.0),
    to_memory(0),
    1,
    to_memory,
    permutes=False,
    axis_name=(True, False, True),
  ),
  'pirl': Case(
    functools.partial(losses.pirl, **OWN, weights=(0.3, 0.7)),
    functools.partial(numpy_pirl, normalizer=60.0, weights=(0.3, 0.7)),
    both_to_memory(0),
    2,
    both_to_memory,
    permutes=False,
    axis_name=(True, True, False, True),
  ),
  'mls': Case(
    functools.partial(losses.mls, topk=5),
    numpy_mls,
    LABELLED,
    1,
    to_labels,
    permutes=False,
    axis_name=(True, True, False, False),
  ),
}


def remembered(bank, index, z, decay):
  return ops.remember(bank, index, z, decay, unit=True)


def golden_instdisc(case):
  x, hp, out = case['in'], case['hp'], case['out']

  def loss(z, bank, candidates, index):
    options = {'temperature': float(hp['temperature'])}
    normalizer = losses.nce_normalizer(z, bank, candidates, float(hp['norm_constant']), **options)
    value = losses.nce(z, bank, candidates, normalizer=normalizer, eps=float(hp['eps']), **options)
    bank = remembered(bank, index, z, float(hp['memory_momentum']))
    return value, (normalizer, bank)

  arrays = [x['x'], x['state_memory'], x['candidate_index'], x['index']]
  aux = out['norm_constant'], out['state_memory']
  return Golden(loss, arrays, out['loss'], [case['grad']['x']], aux)


def golden_pirl(case):
  x, hp, out, grad = case['in'], case['hp'], case['out'], case['grad']

  def loss(patches, image, bank, candidates, index):
    options = {'temperature': float(hp['temperature'])}
    normalizer = losses.nce_normalizer(
      ops.l2_normalize(patches), bank, candidates[:, 0], float(hp['norm_constant']), **options
    )
    weights = tuple(map(float, hp['loss_weights']))
    value = losses.pirl(
      patches, image, bank, candidates, normalizer=normalizer, weights=weights, **options
    )
    bank = remembered(bank, index, ops.l2_normalize(image), float(hp['memory_momentum']))
    return value, (normalizer, bank)

  drawn = np.asarray(x['candidate_index']).swapaxes(0, 1)
  arrays = [x['patches'], x['image'], x['state_memory'], drawn, x['index']]
  aux = out['norm_constant'], out['state_memory']
  return Golden(loss, arrays, out['loss'], [grad['patches'], grad['image']], aux)


GOLDENS = {'instdisc': golden_instdisc, 'pirl': golden_pirl}
