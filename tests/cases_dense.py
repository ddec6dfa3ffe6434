"""Losses between the places of views: DenseCL and AMDIM."""

import functools

import jax.numpy as jnp
import numpy as np
from losscheck import BATCH, Case, Golden, numpy_cross_entropy, unit

from ssljax import losses, ops
from ssljax.losses._dense import match_places

PLACES, WIDTH = 4, 12


def numpy_densecl(q, k, q_map, k_map, queue, *, temperature=0.2):
  total = 0.0
  for b in range(len(q)):
    for s in range(q.shape[1]):
      match = np.argmax([unit(q_map[b, s]) @ unit(x) for x in k_map[b]])
      x = unit(q[b, s])
      logits = np.concatenate([[x @ unit(k[b, match])], queue @ x]) / temperature
      total += numpy_cross_entropy(logits[None], [0])
  return total / (len(q) * q.shape[1])


def numpy_amdim(r1, r5, t5, t7, *, clip=20.0, regularization=0.05):
  total = 0.0
  for source, target in ((r1, t5), (r1, t7), (r5, t5)):
    for view in range(2):
      s = np.einsum('br,jlr->bjl', source[:, view], target[:, 1 - view]) / r1.shape[-1] ** 0.5
      c = clip * np.tanh(s / clip)
      total += regularization * (s**2).mean()
      for i in range(len(s)):
        others = np.exp(np.delete(c[i], i, axis=0)).sum()
        total -= np.log(np.exp(c[i, i]) / (np.exp(c[i, i]) + others)).mean() / len(s)
  return total / 2


def normal(*shape, seed):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


DENSE = (
  normal(BATCH, PLACES, WIDTH, seed=0),
  normal(BATCH, PLACES, WIDTH, seed=1),
  normal(BATCH, PLACES, 5, seed=2),
  normal(BATCH, PLACES, 5, seed=3),
  unit(normal(40, WIDTH, seed=4)),
)
SCALES = (
  normal(BATCH, 2, WIDTH, seed=0),
  normal(BATCH, 2, WIDTH, seed=1),
  normal(BATCH, 2, 4, WIDTH, seed=2),
  normal(BATCH, 2, 9, WIDTH, seed=3),
)


def to_matches(t):
  q, k, q_map, k_map, queue = DENSE
  match = np.argmax(np.einsum('bsc,btc->bst', unit(q_map), unit(k_map)), axis=2)
  matched = np.take_along_axis(k, match[..., None], axis=1)
  return np.float32((1 - t) * q + t * matched), k, q_map, k_map, queue


def to_one_vector(t):
  """All features of an image become one vector of its own, of a length the clip lets pass."""
  own = 2 * unit(normal(BATCH, WIDTH, seed=9))
  return tuple(
    np.float32((1 - t) * x + t * own.reshape(BATCH, *(1,) * (x.ndim - 2), WIDTH)) for x in SCALES
  )


dense_split = (True, True, True, True, False)
CASES = {
  'densecl': Case(
    losses.densecl, numpy_densecl, DENSE, 1, to_matches, permutes=False, axis_name=dense_split
  ),
  'densecl, chunked': Case(
    functools.partial(losses.densecl, chunk_size=3),
    numpy_densecl,
    DENSE,
    1,
    to_matches,
    permutes=False,
    axis_name=dense_split,
  ),
  'amdim': Case(losses.amdim, numpy_amdim, SCALES, 4, to_one_vector),
  'amdim, chunked': Case(
    functools.partial(losses.amdim, chunk_size=3, clip=3.0),
    functools.partial(numpy_amdim, clip=3.0),
    SCALES,
    4,
    to_one_vector,
  ),
}


def places(x):
  """[B, C, ...] -> [B, S, C], in NumPy or JAX."""
  return x.reshape(*x.shape[:2], -1).swapaxes(1, 2)


def golden_densecl(case):
  x, hp, out, grad = case['in'], case['hp'], case['out'], case['grad']
  names = ('q_backbone', 'k_backbone', 'q_grid', 'k_grid', 'q', 'k', 'q2', 'k2')
  temperature, weight = float(hp['temperature']), float(hp['loss_lambda'])

  def loss(q_map, k_map, q_grid, k_grid, q, k, q2, k2, queue, queue2, pointer, pointer2):
    one = losses.moco(q, k, queue, temperature=temperature)
    maps = places(q_map), places(k_map)
    dense = losses.densecl(places(q_grid), places(k_grid), *maps, queue2, temperature=temperature)
    queues = []
    for memory, place, keys in ((queue, pointer, k), (queue2, pointer2, k2)):
      memory, place = ops.enqueue(memory, place[0].astype('int32'), ops.l2_normalize(keys))
      queues += [memory.T, place[None]]
    return (1 - weight) * one + weight * dense, (queues, match_places(*maps))

  arrays = [x[name] for name in names]
  arrays += [x['state_queue'].T, x['state_queue2'].T, x['state_ptr'], x['state_ptr2']]
  queues = [out[f'state_{name}'] for name in ('queue', 'ptr', 'queue2', 'ptr2')]
  return Golden(
    loss, arrays, out['loss'], [grad[name] for name in names], (queues, out['match_index'])
  )


def golden_amdim(case):
  x, hp, grad = case['in'], case['hp'], case['grad']
  names = [f'{name}_{view}' for name in ('r1_src', 'r5_src', 'r5_trg', 'r7_trg') for view in (1, 2)]

  def targets(x, count):  # [R, B n], image by image
    return x.T.reshape(-1, count, x.shape[0])

  def loss(*arrays):
    r1, r5, t5, t7 = zip(arrays[::2], arrays[1::2], strict=True)
    t5 = [targets(t, int(hp['n_locs_5'])) for t in t5]
    t7 = [targets(t, int(hp['n_locs_7'])) for t in t7]
    stacked = (jnp.stack(each, axis=1) for each in (r1, r5, t5, t7))
    return losses.amdim(*stacked, clip=float(hp['tclip']))

  grads = [grad[name] for name in names]
  return Golden(loss, [x[name] for name in names], case['out']['loss'], grads)


GOLDENS = {'densecl': golden_densecl, 'amdim': golden_amdim}
