"""Losses of nodes, graphs and edges."""

import functools

import jax
import numpy as np
from losscheck import BATCH, Case, Golden, embeddings, second_nears_first, unit

from ssljax import losses


def softplus(x):
  return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def numpy_grace(z1, z2, *, temperature=0.5):
  u, v, total = unit(z1), unit(z2), 0.0
  for a, b in ((u, v), (v, u)):
    for i in range(len(a)):
      pos = np.exp(a[i] @ b[i] / temperature)
      inter = sum(np.exp(a[i] @ b[k] / temperature) for k in range(len(a)))
      intra = sum(np.exp(a[i] @ a[k] / temperature) for k in range(len(a)) if k != i)
      total -= np.log(pos / (inter + intra))
  return total / (2 * len(u))


def numpy_graphcl(z1, z2, *, temperature=0.2):
  s = np.exp(unit(z1) @ unit(z2).T / temperature)
  return np.mean([-np.log(s[i, i] / (s[i].sum() - s[i, i])) for i in range(len(s))])


def numpy_dgi(positive, negative):
  terms = [softplus(-p) + softplus(n) for p, n in zip(positive, negative, strict=True)]
  return np.mean(terms) / 2


OF_GRAPH = np.sort(np.random.default_rng(5).integers(0, 8, BATCH)).astype(np.int32)


def numpy_local_global(nodes, graphs, of=OF_GRAPH):
  scores, own, other = nodes @ graphs.T, 0.0, 0.0
  for i in range(len(nodes)):
    for g in range(len(graphs)):
      if of[i] == g:
        own += np.log(2) - softplus(-scores[i, g])
      else:
        other += softplus(-scores[i, g]) + scores[i, g] - np.log(2)
  return other / (len(nodes) * (len(graphs) - 1)) - own / len(nodes)


def numpy_global_global(a, b):
  return numpy_local_global(a, b, np.arange(len(a)))


def numpy_weighted(q, k, p, n, *, temperature=0.5):
  s = np.exp(unit(q) @ unit(k).T / temperature)
  return np.mean(-np.log((p * s).sum(1) / ((p + n) * s).sum(1)))


def numpy_skip_gram(c, x, n):
  total = 0.0
  for i in range(len(c)):
    total += softplus(-c[i] @ x[i]) + sum(softplus(c[i] @ row) for row in n[i])
  return total / len(c)


def numpy_sce(x, y, *, gamma=3.0):
  return np.mean((1 - (unit(x) * unit(y)).sum(1)) ** gamma)


def numpy_bandana(pos, neg, b):
  return np.mean(b * softplus(-pos)) + np.mean(softplus(neg))


def numpy_edge_bce(logits, edge):
  p = 1 / (1 + np.exp(-logits))
  return -np.mean(np.where(edge, np.log(p), np.log(1 - p)))


def numpy_hypeboy(q, k, node):
  s = unit(q) @ unit(k).T
  return sum(np.log(np.exp(s[i]).sum()) - s[i, node[i]] for i in range(len(q)))


def numpy_vgae(pos, neg, mean, log_std):
  kl = -0.5 * (1 + 2 * log_std - mean**2 - np.exp(log_std) ** 2).sum(1).mean()
  return np.mean(softplus(-pos)) + np.mean(softplus(neg)) + kl / len(mean)


def numpy_sharpening(z, c):
  q = np.array([[1 / (1 + ((a - b) ** 2).sum()) for b in c] for a in z])
  q /= q.sum(1, keepdims=True)
  p = q**2 / q.sum(0)
  p /= p.sum(1, keepdims=True)
  return (p * np.log(p / q)).sum(1).mean()


def scores(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def higher_and_lower(arrays):
  """t -> own scores higher, the others lower."""
  return lambda t: (arrays[0] + np.float32(4 * t), arrays[1] - np.float32(4 * t), *arrays[2:])


def toward(arrays, targets):
  """t -> the first array nearer to `targets`."""
  return lambda t: (np.float32((1 - t) * arrays[0] + t * targets), *arrays[1:])


pair = embeddings(2)
short = tuple(2 * unit(z) for z in pair)
flags = np.random.default_rng(6).random(BATCH) < 0.5
weights = np.random.default_rng(7).random((2, BATCH, BATCH)).astype(np.float32)
positive_weights = np.eye(BATCH, dtype=np.float32) + 0 * weights[0]
negatives = scores(8, BATCH, 3, pair[0].shape[1])
node = np.random.default_rng(9).permutation(BATCH).astype(np.int32)
bounds = np.abs(scores(10, BATCH))
graphs8 = 2 * np.eye(8, pair[0].shape[1], dtype=np.float32)
flat = {'permutes': False, 'axis_name': False}

CASES = {
  'grace': Case(losses.grace, numpy_grace, pair, 2, second_nears_first(pair), axis_name=False),
  'graphcl': Case(
    losses.graphcl, numpy_graphcl, pair, 2, second_nears_first(pair), axis_name=False
  ),
  'dgi': Case(
    losses.dgi, numpy_dgi, (scores(1, BATCH, 2), scores(2, BATCH, 2)), 2,
    higher_and_lower((scores(1, BATCH, 2), scores(2, BATCH, 2))),
    lambda: (np.zeros((BATCH, 2), np.float32),) * 2, axis_name=False,
  ),
  'local_global': Case(
    lambda nodes, graphs: losses.local_global(nodes, graphs, OF_GRAPH),
    numpy_local_global, (pair[0], graphs8), 2, toward((pair[0], graphs8), graphs8[OF_GRAPH]),
    **flat,
  ),
  'global_global': Case(
    losses.global_global, numpy_global_global, short, 2, second_nears_first(short), axis_name=False
  ),
  'weighted_info_nce': Case(
    losses.weighted_info_nce, numpy_weighted, (*pair, positive_weights, weights[1]), 2,
    second_nears_first((*pair, positive_weights, weights[1])), **flat,
  ),
  'skip_gram': Case(
    losses.skip_gram, numpy_skip_gram, (*pair, negatives), 3,
    second_nears_first((*pair, negatives)),
    lambda: (np.ones_like(pair[0]), np.ones_like(pair[1]), np.ones_like(negatives)),
    axis_name=False,
  ),
  'sce': Case(
    losses.sce, numpy_sce, pair, 2, second_nears_first(pair),
    prevented_by='only if all features', axis_name=False,
  ),
  'bandana': Case(
    losses.bandana, numpy_bandana, (scores(1, BATCH), scores(2, BATCH), bounds), 2,
    higher_and_lower((scores(1, BATCH), scores(2, BATCH), bounds)), axis_name=False,
  ),
  'edge_bce': Case(
    losses.edge_bce, numpy_edge_bce, (scores(1, BATCH), flags), 1,
    toward((scores(1, BATCH), flags), np.where(flags, 4, -4)), axis_name=False,
  ),
  'hypeboy': Case(
    losses.hypeboy, numpy_hypeboy, (*pair, node), 2, toward((*pair, node), pair[1][node]), **flat
  ),
  'vgae': Case(
    losses.vgae, numpy_vgae,
    (scores(1, BATCH), scores(2, BATCH), scores(3, BATCH, 4), scores(4, BATCH, 4)), 4,
    higher_and_lower(
      (scores(1, BATCH), scores(2, BATCH), scores(3, BATCH, 4), scores(4, BATCH, 4))
    ),
    axis_name=False,
  ),
  'cluster_sharpening': Case(
    losses.cluster_sharpening, numpy_sharpening, (pair[0], graphs8), 2,
    prevented_by='not meant to stand alone', fixed_targets=True, **flat,
  ),
}  # fmt: skip


def golden_grace(case):
  # The projector, linear - ELU - linear, is part of the authors' loss.
  hp, w = case['hp'], case['w']

  def loss(z1, z2, weight1, bias1, weight2, bias2):
    h = [jax.nn.elu(z @ weight1.T + bias1) @ weight2.T + bias2 for z in (z1, z2)]
    value = losses.grace(*h, temperature=float(hp['tau']))
    return value if bool(hp['mean']) else value * len(z1)

  names = ('fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias')
  arrays = [case['in']['z1'], case['in']['z2'], *(w[name] for name in names)]
  grads = [case['grad'][name] for name in ('z1', 'z2', *(f'w.{name}' for name in names))]
  return Golden(loss, arrays, case['out']['loss'], grads)


def golden_graphcl(case):
  loss = functools.partial(losses.graphcl, temperature=float(case['hp']['temperature']))
  arrays = [case['in']['x'], case['in']['x_aug']]
  return Golden(loss, arrays, case['out']['loss'], [case['grad']['x'], case['grad']['x_aug']])


def golden_mvgrl(case):
  if str(case['hp']['kind']) != 'graph':
    return None  # a diffusion, and a whole model: in test_graphs
  given, of = case['in'], case['in']['graph_of_node'].astype(np.int32)
  place = np.arange(len(of)) - np.searchsorted(of, of)
  padding = place >= given['nodes_per_graph'][of]

  def loss(nodes, graphs):
    # The authors count padding rows among the nodes, and have their own graph's score at 0.
    own = np.log(2) - jax.nn.softplus(-(nodes * graphs[of]).sum(1))
    gain = (own * padding).sum() / len(nodes)
    return losses.local_global(nodes, graphs, of) + gain

  grads = [case['grad']['local_global.local'], case['grad']['local_global.global']]
  arrays = [given['local'], given['global']]
  return Golden(loss, arrays, case['out']['loss_local_global'], grads)


def golden_graphmae(case):
  loss = functools.partial(losses.sce, gamma=float(case['hp']['alpha']))
  arrays = [case['in']['x'], case['in']['y']]
  return Golden(loss, arrays, case['out']['loss'], [case['grad']['x'], case['grad']['y']])


def golden_bandana(case):
  hp, given, grad = case['hp'], case['in'], case['grad']
  form = str(hp['form'])
  if form == 'probability':
    return None  # of probabilities, not of logits
  bandwidth = case['out']['bandwidth'] if form == 'two_column' else None

  def loss(positive, negative):
    if form == 'two_column':
      positive, negative = positive[:, 0] - positive[:, 1], negative[:, 0] - negative[:, 1]
    return losses.bandana(positive.reshape(-1), negative.reshape(-1), bandwidth)

  grads = [grad['pos_out'], grad['neg_out']]
  return Golden(loss, [given['pos_out'], given['neg_out']], case['out']['loss'], grads)


def golden_hypeboy(case):
  w, query_node, query_of = case['w'], case['out']['query_node'], case['out']['query_of']
  wanted = case['out']['positive_node'].astype(np.int32)
  names = ('head1.weight', 'head1.bias', 'head2.weight', 'head2.bias') if w else ()

  def loss(z, *heads):
    queries, keys = jax.ops.segment_sum(z[query_node], query_of, len(wanted)), z
    if heads:
      queries, keys = queries @ heads[2].T + heads[3], keys @ heads[0].T + heads[1]
    return losses.hypeboy(queries, keys, wanted)

  arrays = [case['in']['Z'], *(w[name] for name in names)]
  grads = [case['grad']['Z'], *(case['grad'][f'w.{name}'] for name in names)]
  return Golden(loss, arrays, case['out']['loss'], grads)


def along(q, gradient):
  """The part of a gradient that a loss which brings q to length one itself can have."""
  return gradient - (gradient * q).sum(1, keepdims=True) * q


def golden_gcc(case):
  hp, given, temperature = case['hp'], case['in'], float(case['hp']['temperature'])
  if str(hp['use_softmax']) == 'in_batch':
    q, k = (next(given[n] for n in given if n.startswith(letter)) for letter in 'qk')
    name = {letter: next(n for n in given if n.startswith(letter)) for letter in 'qk'}
    loss = functools.partial(losses.info_nce, temperature=temperature)
    grads = [along(k, case['grad'][name['k']]), along(q, case['grad'][name['q']])]
    value = next(v for n, v in case['out'].items() if n.startswith('loss'))
    return Golden(loss, [k, q], value, grads)
  arrays = [given['q0'], given['k0'], given['state_memory']]
  loss = functools.partial(losses.moco, temperature=temperature)
  grads = [along(given['q0'], case['grad']['q0']), case['grad']['k0']]
  return Golden(loss, arrays, case['out']['loss0'], grads)


GOLDENS = {
  'grace': golden_grace,
  'graphcl': golden_graphcl,
  'mvgrl': golden_mvgrl,
  'graphmae': golden_graphmae,
  'bandana': golden_bandana,
  'hypeboy': golden_hypeboy,
  'gcc': golden_gcc,
}
