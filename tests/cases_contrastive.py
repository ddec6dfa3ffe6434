"""Losses that tell the other view of an element from all other elements."""

import functools

import numpy as np
from losscheck import Case, Golden, embeddings, numpy_cross_entropy, second_nears_first, unit

from ssljax import losses, ops


def numpy_nt_xent(z1, z2, *, temperature=0.1):
  u = unit(np.concatenate([z1, z2]))
  total = 0.0
  for i in range(len(u)):
    exp = np.exp(u @ u[i] / temperature)
    total -= np.log(exp[(i + len(z1)) % len(u)] / np.delete(exp, i).sum())
  return total / len(u)


def numpy_info_nce(queries, keys, *, temperature=0.1, labels=None):
  exp = np.exp(unit(queries) @ unit(keys).T / temperature)
  rows = np.arange(len(queries))
  return -np.log(exp[rows, rows if labels is None else labels] / exp.sum(1)).mean()


def numpy_moco(q, k, queue):
  q, k = unit(q), unit(k)
  logits = np.concatenate([(q * k).sum(1, keepdims=True), q @ queue.T], 1) / 0.07
  return numpy_cross_entropy(logits, np.zeros(len(q), int))


PAIR = embeddings(2)
QUEUE = unit(embeddings(1, seed=5, batch=40)[0])
CASES = {
  'nt_xent': Case(losses.nt_xent, numpy_nt_xent, PAIR, 2, second_nears_first(PAIR)),
  'nt_xent, chunked': Case(
    functools.partial(losses.nt_xent, chunk_size=3),
    numpy_nt_xent,
    PAIR,
    2,
    second_nears_first(PAIR),
  ),
  'info_nce': Case(losses.info_nce, numpy_info_nce, PAIR, 2, second_nears_first(PAIR)),
  'info_nce, chunked': Case(
    functools.partial(losses.info_nce, chunk_size=3),
    numpy_info_nce,
    PAIR,
    2,
    second_nears_first(PAIR),
  ),
  'moco': Case(
    losses.moco,
    numpy_moco,
    (*PAIR, QUEUE),
    1,
    second_nears_first((*PAIR, QUEUE)),
    permutes=False,
    axis_name=(True, True, False),
  ),
}


def golden_simclr(case):
  z, grad = case['in'], case['grad']
  loss = functools.partial(losses.nt_xent, temperature=float(case['hp']['temperature']))
  return Golden(loss, [z['z1'], z['z2']], case['out']['loss'], [grad['z1'], grad['z2']])


def golden_moco(case):
  x, hp, out = case['in'], case['hp'], case['out']

  def loss(q, k, queue, pointer, param_q, param_k):
    value = losses.moco(q, k, queue, temperature=float(hp['temperature']))
    queue, pointer = ops.enqueue(queue, pointer[0].astype('int32'), ops.l2_normalize(k))
    return value, (queue.T, pointer[None], ops.ema(param_k, param_q, float(hp['momentum'])))

  names = 'state_ptr', 'state_param_q', 'state_param_k'
  arrays = [x['q'], x['k'], x['state_queue'].T, *(x[name] for name in names)]
  aux = out['state_queue'], out['state_ptr'], out['state_param_k']
  return Golden(loss, arrays, out['loss'], [case['grad']['q'], case['grad']['k']], aux)


GOLDENS = {'simclr': golden_simclr, 'moco': golden_moco}
