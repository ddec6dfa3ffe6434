"""Losses with a moving average or a queue of earlier embeddings: MoCo v3, ReSSL, NNCLR, All4One."""

import functools

import jax.numpy as jnp
import numpy as np
from cases_contrastive import numpy_info_nce
from losscheck import Case, Golden, embeddings, second_nears_first, unit

from ssljax import losses, ops
from ssljax.models.first_token import first_token, positions


def numpy_moco_v3(q1, q2, k1, k2, *, temperature=0.3):
  loss = numpy_info_nce(q1, k2, temperature=temperature)
  return 2 * temperature * (loss + numpy_info_nce(q2, k1, temperature=temperature))


def numpy_ressl(q, k, queue):
  total = 0.0
  for a, b in zip(unit(q), unit(k), strict=True):
    student, teacher = (np.exp(queue @ x / t) for x, t in ((a, 0.1), (b, 0.04)))
    total -= (teacher / teacher.sum() * np.log(student / student.sum())).sum()
  return total / len(q)


def numpy_nnclr(z1, z2, p1, p2, queue):
  n1, n2 = (np.stack([queue[np.argmax(queue @ row)] for row in z]) for z in (z1, z2))
  return (numpy_info_nce(n1, p2) + numpy_info_nce(n2, p1)) / 2


def numpy_feature_contrast(z1, z2, k1, k2):
  on, off = [], []
  for z, k in ((z2, unit(k1)), (z1, unit(k2))):
    for i in range(z.shape[1]):
      for j in range(z.shape[1]):
        c = (k[:, i] * z[:, j]).sum() / np.sqrt((k[:, i] ** 2).sum() * (z[:, j] ** 2).sum())
        (on if i == j else off).append((1 - c) ** 2 if i == j else c**2)
  return 10 * (np.sqrt(np.mean(on)) + np.sqrt(np.mean(off))) / 2


def numpy_all4one(z, p, c, s, k, n):
  def both(a, b, temperature):
    return (
      numpy_info_nce(a[:, 0], b[:, 1], temperature=temperature)
      + numpy_info_nce(a[:, 1], b[:, 0], temperature=temperature)
    ) / 2

  features = numpy_feature_contrast(z[:, 0], z[:, 1], k[:, 0], k[:, 1])
  return (both(n, p, 0.2) + both(c, s, 0.1) + features) / 2


def nears(arrays, pairs):
  """t -> the arrays, array i moved to what `pairs[i]` makes of them."""

  def agree(t):
    moved = list(arrays)
    for i, target in pairs.items():
      moved[i] = np.float32((1 - t) * arrays[i] + t * target(arrays))
    return tuple(moved)

  return agree


QUEUE = unit(embeddings(1, seed=5, batch=40)[0])
FOUR = embeddings(4)
PAIRS = tuple(np.stack([a, b], 1) for a, b in zip(embeddings(6, 8), embeddings(6, 9), strict=True))
NEIGHBORS = (*FOUR, QUEUE)


def nearest(z):
  return QUEUE[np.argmax(z @ QUEUE.T, axis=1)]


CASES = {
  'moco_v3': Case(
    functools.partial(losses.moco_v3, temperature=0.3),
    numpy_moco_v3,
    FOUR,
    2,
    nears(FOUR, {0: lambda x: x[3], 1: lambda x: x[2]}),
  ),
  'ressl': Case(
    losses.ressl,
    numpy_ressl,
    (*FOUR[:2], QUEUE),
    1,
    second_nears_first((*FOUR[:2], QUEUE)),
    permutes=False,
    axis_name=(True, True, False),
  ),
  'nnclr': Case(
    losses.nnclr,
    numpy_nnclr,
    NEIGHBORS,
    4,
    nears(NEIGHBORS, {2: lambda x: nearest(x[1]), 3: lambda x: nearest(x[0])}),
    permutes=False,
    axis_name=(True, True, True, True, False),
  ),
  'feature_contrast': Case(
    losses.feature_contrast,
    numpy_feature_contrast,
    FOUR,
    2,
    nears(FOUR, {0: lambda x: unit(x[3]), 1: lambda x: unit(x[2])}),
  ),
  'all4one': Case(
    losses.all4one,
    numpy_all4one,
    PAIRS,
    4,
    nears(
      PAIRS,
      {
        0: lambda x: unit(x[4][:, ::-1]),
        1: lambda x: x[5][:, ::-1],
        3: lambda x: x[2][:, ::-1],
      },
    ),
  ),
}


def golden_moco_v3(case):
  x, grad = case['in'], case['grad']
  loss = functools.partial(losses.moco_v3, temperature=float(case['hp']['temperature']))
  names = 'q1', 'q2', 'k1', 'k2'
  return Golden(loss, [x[n] for n in names], case['out']['loss'], [grad[n] for n in names])


def golden_nnclr(case):
  x, out = case['in'], case['out']

  def loss(z1, z2, p1, p2, queue, pointer):
    value = losses.nnclr(z1, z2, p1, p2, queue, temperature=float(case['hp']['temperature']))
    return value, ops.enqueue(queue, pointer[0], ops.l2_normalize(z1))

  names = 'z1', 'z2', 'p1', 'p2'
  arrays = [x[name] for name in (*names, 'state_queue', 'state_ptr')]
  aux = out['state_queue'], out['state_ptr'][0]
  return Golden(loss, arrays, out['loss'], [case['grad'][name] for name in names], aux)


def golden_all4one(case):
  x, hp, out = case['in'], case['hp'], case['out']
  views = 'z1', 'z2', 'p1', 'p2', 'p1_2', 'p2_2', 'momentum_z1', 'momentum_z2'
  weights = [name for name in x if name.startswith('tf')]
  attend = first_token(layers=int(hp['num_layers']), heads=int(hp['nhead']), dropout=0.0)

  def loss(*arrays):
    z, p, q, k = (jnp.stack(arrays[i : i + 2], 1) for i in range(0, 8, 2))
    params = torch_layers(dict(zip(weights, arrays[8:], strict=False)))
    queue, pointer = arrays[-2:]
    targets = ops.l2_normalize(k)
    near = queue[jnp.stack([ops.nearest(targets[:, v], queue, 5)[1] for v in range(2)], 1)]
    shifted = jnp.concatenate([q[:, :, None], near[:, :, :4]], 2)

    def centroid(tokens):
      flat = tokens.reshape(-1, *tokens.shape[2:])
      return attend.apply(params, {}, flat, train=False)[0].reshape(z.shape)

    value = losses.all4one(
      z, p, centroid(near), centroid(shifted), targets, near[:, :, 0],
      temperature=float(hp['temperature']),
      centroid_temperature=float(hp['attention_temperature']),
      feature_scale=float(hp['feature_scale']),
    )  # fmt: skip
    left = *ops.enqueue(queue, pointer[0], targets[:, 0]), positions(5, z.shape[-1])
    return value, left

  arrays = [x[name] for name in (*views, *weights, 'state_queue', 'state_ptr')]
  aux = out['state_queue'], out['state_ptr'][0], out['positional_encoding']
  grads = [case['grad'][name] for name in (*views, *weights)]
  return Golden(loss, arrays, out['loss'], grads, aux)


def torch_layers(weights):
  """Parameters of `first_token` from torch's, named tf<layer>_<part>_<weight or bias>."""
  params = {}
  for name, array in weights.items():
    layer, part, kind = (
      name[2:].replace('_', ' ', 1).replace('_weight', ' w').replace('_bias', ' b').split()
    )
    kind = {'b': 'bias', 'w': 'scale' if part.startswith('norm') else 'kernel'}[kind]
    params.setdefault(f'layers_{layer}', {}).setdefault(part, {})[kind] = array.T
  return params


GOLDENS = {'mocov3': golden_moco_v3, 'nnclr': golden_nnclr, 'all4one': golden_all4one}
