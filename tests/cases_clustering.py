"""Losses whose targets are clusters that the method finds itself."""

import functools

import jax.numpy as jnp
import numpy as np
from losscheck import BATCH, Case, Golden, embeddings, numpy_cross_entropy, unit

from ssljax import losses, ops
from ssljax.losses._clustering import confident

VIEWS, PROTOTYPES, CLASSES = 3, 6, 5


def numpy_sinkhorn(scores, eps, iters):
  q = np.exp(scores / eps).T
  for _ in range(iters):
    q = q / q.sum(1, keepdims=True) / len(q)
    q = q / q.sum(0, keepdims=True) / q.shape[1]
  return (q * q.shape[1]).T


def log_softmax(x):
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def numpy_swav(z, prototypes, queue=None):
  total, z = 0.0, unit(z)
  for a in (0, 1):
    rows = z[:, a] if queue is None else np.concatenate([z[:, a], queue[:, a]])
    codes = numpy_sinkhorn(rows @ prototypes.T, 0.05, 3)[: len(z)]
    for v in set(range(z.shape[1])) - {a}:
      predicted = log_softmax(z[:, v] @ prototypes.T / 0.1)
      total -= (codes * predicted).sum(1).mean() / 2 / (z.shape[1] - 1)
  return total


def one_head(z, prototypes, labels, axis_name=None):
  return losses.deepcluster_v2(z, [prototypes], labels, axis_name=axis_name)


one_head.__doc__ = losses.deepcluster_v2.__doc__


def numpy_deepcluster_v2(z, prototypes, labels):
  known = labels[:, 0] >= 0
  logits = unit(z[known]) @ prototypes.T / 0.1
  views = logits.shape[1]
  return numpy_cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[known].repeat(views))


def numpy_scan(anchors, neighbors):
  p, q = (np.exp(log_softmax(x)) for x in (anchors, neighbors))
  mean = p.mean(0)
  return -np.log((p * q).sum(1)).mean() + 5 * (mean * np.log(mean)).sum()


def numpy_scan_selflabel(weak, strong):
  p = np.exp(log_softmax(weak))
  kept = p.max(1) > 0.6
  label, predicted = p.argmax(1)[kept], log_softmax(strong)[kept]
  classes = [c for c in range(weak.shape[1]) if (label == c).any()]
  return np.mean([-predicted[label == c, c].mean() for c in classes])


def numpy_deepercluster(upper, lower, super_label, sub_label, weights):
  rows = range(len(upper))
  loss = [
    -log_softmax(upper[i])[super_label[i]] - log_softmax(lower[i, super_label[i]])[sub_label[i]]
    for i in rows
  ]
  return np.mean(np.array(loss) * weights)


def views(seed=0):
  return np.stack(embeddings(VIEWS, seed), axis=1)


def toward_first_view(t):
  z = views()
  return np.float32(z + t * (z[:, :1] - z))


Z = views()
CENTROIDS = unit(embeddings(1, seed=3, batch=PROTOTYPES)[0])
QUEUE = unit(np.stack(embeddings(2, seed=4, batch=24), axis=1))
LABELS = (np.arange(BATCH, dtype=np.int32) % PROTOTYPES)[:, None]
UNKNOWN = np.where(np.arange(BATCH)[:, None] % 4 == 0, -100, LABELS).astype(np.int32)
LOGITS = tuple(np.float32(3 * x) for x in embeddings(2, seed=6, width=CLASSES))
# Every class has its share of confident anchors.
EVEN = np.float32(8 * np.eye(CLASSES)[np.arange(BATCH) % CLASSES])
SUPER, SUB = np.arange(BATCH, dtype=np.int32) % 4, np.arange(BATCH, dtype=np.int32) % CLASSES
UPPER = embeddings(1, seed=8, width=4)[0]
LOWER = embeddings(1, seed=9, width=4 * CLASSES)[0].reshape(BATCH, 4, CLASSES)
WEIGHTS = np.random.default_rng(5).uniform(0.5, 1.5, BATCH).astype(np.float32)


def toward_centroids(t):
  return np.float32((1 - t) * Z + 5 * t * CENTROIDS[LABELS]), CENTROIDS, LABELS


def decided(t):
  return EVEN, np.float32((1 - t) * LOGITS[1] + t * EVEN)


def all_in_the_first(t=1.0):
  first = np.float32(8 * np.eye(CLASSES)[np.zeros(BATCH, int)])
  return first, first


def classified(t):
  upper = np.float32(UPPER + 4 * t * np.eye(4)[SUPER])
  return upper, np.float32(LOWER + 4 * t * np.eye(CLASSES)[SUB][:, None]), SUPER, SUB, WEIGHTS


def deepercluster(upper, lower, super_labels, sub_labels, weights, axis_name=None):
  return losses.deepercluster(
    upper, lower, super_labels, sub_labels, weights=weights, axis_name=axis_name
  )


deepercluster.__doc__ = losses.deepercluster.__doc__
selflabel = functools.partial(losses.scan_selflabel, threshold=0.6)

CASES = {
  'swav': Case(
    losses.swav,
    numpy_swav,
    (Z, CENTROIDS),
    1,
    lambda t: (toward_first_view(t), CENTROIDS),
    permutes=False,
    axis_name=(True, False),
    fixed_targets=True,
  ),
  'swav, queue': Case(
    losses.swav,
    numpy_swav,
    (Z, CENTROIDS, QUEUE),
    1,
    lambda t: (toward_first_view(t), CENTROIDS, QUEUE),
    # Then the earlier embeddings in the queue are constant too.
    lambda: (np.ones_like(Z), CENTROIDS, unit(np.ones_like(QUEUE))),
    permutes=False,
    axis_name=(True, False, True),
    fixed_targets=True,
  ),
  'deepcluster_v2': Case(
    one_head,
    numpy_deepcluster_v2,
    (Z, CENTROIDS, UNKNOWN),
    1,
    toward_centroids,
    permutes=False,
    axis_name=(True, False, True),
  ),
  'scan': Case(losses.scan, numpy_scan, LOGITS, 2, decided, all_in_the_first),
  'scan_selflabel': Case(
    selflabel,
    numpy_scan_selflabel,
    LOGITS,
    2,
    decided,
    all_in_the_first,
    prevented_by='weigh alike, prevents collapse',
  ),
  'deepercluster': Case(
    deepercluster, numpy_deepercluster, (UPPER, LOWER, SUPER, SUB, WEIGHTS), 2, classified
  ),
}


def crops(x, batch):
  """[V B, D], one view after the other -> [B, V, D]."""
  return x.reshape(-1, batch, x.shape[-1]).swapaxes(0, 1)


def golden_swav(case):
  x, hp, out = case['in'], case['hp'], case['out']
  batch, assign = int(hp['batch_size']), tuple(hp['crops_for_assign'].tolist())
  options = {
    'assign_views': assign,
    'eps': float(hp['epsilon']),
    'iters': int(hp['sinkhorn_iterations']),
  }

  def loss(z, prototypes, queue=None):
    z = crops(z, batch)
    if queue is not None:
      queue = queue.swapaxes(0, 1)
      options['queue_used'] = jnp.any(queue[-1] != 0)
    codes = losses.swav_codes(z, prototypes, queue, **options)
    value = losses.swav(z, prototypes, queue, temperature=float(hp['temperature']), **options)
    if queue is None:
      return value, (codes.swapaxes(0, 1),)
    rows = ops.l2_normalize(z[:, jnp.array(assign)])
    queue = jnp.concatenate([rows, queue])[: len(queue)]
    return value, (codes.swapaxes(0, 1), queue.swapaxes(0, 1))

  names = [name for name in ('z', 'prototypes', 'state_queue') if name in x]
  aux = tuple(out[name] for name in ('assignments', 'state_queue') if name in out)
  grads = [case['grad']['z'], case['grad']['prototypes']]
  return Golden(loss, [x[name] for name in names], out['loss'], grads, aux)


def golden_deepcluster_v2(case):
  x, hp, out = case['in'], case['hp'], case['out']
  batch, size = int(hp['batch_size']), int(hp['dataset_size'])
  counts, assign = hp['nmb_prototypes'].tolist(), hp['crops_for_assign']

  def loss(z, bank, known, index, *starts):
    z, heads, labels = crops(z, batch), [], []
    for head, count in enumerate(counts):
      rows = bank[head % len(bank)]
      centroids, found = ops.kmeans(
        rows, count, init=rows[starts[head][:count]], iters=int(hp['kmeans_iters']), spherical=True
      )
      heads.append(centroids)
      labels.append(jnp.full(size, -100, jnp.int32).at[known].set(found))
    labels = jnp.stack(labels)
    value = losses.deepcluster_v2(
      z, heads, labels[:, index].T, temperature=float(hp['temperature'])
    )
    rows = ops.l2_normalize(z[:, assign]).swapaxes(0, 1)
    return value, (labels, *heads, bank.at[:, :batch].set(rows), known.at[:batch].set(index))

  rows = range(len(counts))
  arrays = [x['z'], x['state_memory_embeddings'], x['state_memory_index'], x['batch_index']]
  arrays += [x[f'init_rows{j}'] for j in rows]
  aux = (
    out['assignments'],
    *(out[f'prototypes{j}'] for j in rows),
    out['state_memory_embeddings'],
    out['state_memory_index'],
  )
  return Golden(loss, arrays, out['loss'], [case['grad']['z']], aux)


def golden_scan(case):
  x, out = case['in'], case['out']
  weight = float(case['hp']['entropy_weight'])

  def loss(anchors, neighbors):
    consistency = losses.scan(anchors, neighbors, entropy_weight=0.0)
    value = losses.scan(anchors, neighbors, entropy_weight=weight)
    return value, (consistency, (consistency - value) / weight)

  arrays = [x['anchors'], x['neighbors']]
  grads = [case['grad']['anchors'], case['grad']['neighbors']]
  return Golden(loss, arrays, out['loss'], grads, (out['consistency'], out['entropy']))


def golden_scan_selflabel(case):
  x, hp, out = case['in'], case['hp'], case['out']
  threshold, balanced = float(hp['threshold']), bool(hp['apply_class_balancing'])

  def loss(weak, strong):
    value = losses.scan_selflabel(weak, strong, threshold=threshold, balanced=balanced)
    return value, confident(weak, threshold)[1]

  grads = [case['grad']['weak'], case['grad']['strong']]
  return Golden(loss, [x['weak'], x['strong']], out['loss'], grads, out['mask'])


GOLDENS = {
  'swav': golden_swav,
  'deepcluster_v2': golden_deepcluster_v2,
  'scan': golden_scan,
  'scan_selflabel': golden_scan_selflabel,
}
