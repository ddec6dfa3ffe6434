"""The pretext tasks of "Self-supervised learning on graphs": what a node is to say of its graph.

A task is (rng, graph) -> (graph as the network sees it, targets); `width` says how many numbers a
head gives, and `loss_of` compares. Distances are found by spreading from sources along edges.
"""

import jax
import jax.numpy as jnp
import optax

from ssljax import ops
from ssljax.augment import graph as views
from ssljax.methods.graph import _common

REACH = 8  # steps; nodes farther from a source than that are as far as that
SOURCES = 32  # nodes from which distances to all others are found
CLUSTERS = 8
PAIRS = 512


def distances(graph, sources):
  """Steps along edges from sources [P, S, N], bool, to each node: [P, N, S], at most REACH."""

  def spread(carried, step):
    reached, distance = carried
    arrive = ops.aggregate(
      ops.at_nodes(reached, graph['senders']) * graph['edges'][..., None],
      graph['receivers'],
      reached.shape[1],
      'max',
    )
    now = jnp.maximum(reached, arrive)
    distance = jnp.where((now > 0) & (reached == 0), step, distance)
    return (now, distance), None

  begin = sources.swapaxes(1, 2).astype(jnp.float32)
  far = jnp.where(begin > 0, 0.0, float(REACH))
  steps = jnp.arange(1, REACH, dtype=jnp.float32)
  return jax.lax.scan(spread, (begin, far), steps)[0][1]


def one_hot_nodes(index, count):
  """[P, S] places -> bool [P, S, count]."""
  return index[..., None] == jnp.arange(count)


def node_property(rng, graph):
  """The degree of each node, log(1 + d)."""
  return graph, {'value': jnp.log1p(ops.degrees(graph))[..., None]}


def edge_mask(rng, graph):
  """A tenth of the edges is taken away; they are to be told from random pairs."""
  hide, other, count = jax.random.split(rng, 3)
  hidden = graph['edges'] & (views.pair_uniform(hide, graph) < 0.1)
  pairs = _common.random_pairs(other, graph, graph['edges'].shape[1])
  edges = jnp.stack([graph['senders'], graph['receivers']], -1)
  # One random pair in ten, so that both kinds are about as many.
  counted = graph['edges'] & (views.pair_uniform(count, graph) < 0.1)
  return {**graph, 'edges': graph['edges'] & ~hidden}, {
    'pairs': jnp.concatenate([edges, pairs], 1),
    'kind': jnp.concatenate([jnp.ones_like(hidden), jnp.zeros_like(hidden)], 1).astype(jnp.int32),
    'where': jnp.concatenate([hidden, counted], 1),
  }


def pairwise_distance(rng, graph):
  """How far two nodes are: 1, 2, 3 or more steps."""
  count, (first, second) = graph['x'].shape[1], jax.random.split(rng)
  source = _common.random_pairs(first, graph, SOURCES)[..., 0]
  far = distances(graph, one_hot_nodes(source, count))
  which = jax.random.randint(second, (len(source), PAIRS), 0, SOURCES)
  node = _common.random_pairs(jax.random.fold_in(second, 1), graph, PAIRS)[..., 0]
  step = jax.vmap(lambda far, n, w: far[n, w])(far, node, which)
  pairs = jnp.stack([jnp.take_along_axis(source, which, 1), node], -1)
  kind = jnp.clip(step, 1, 4).astype(jnp.int32) - 1
  return graph, {'pairs': pairs, 'kind': kind, 'where': step > 0}


def distance_to_clusters(rng, graph):
  """Steps to the centres of clusters, the nodes with most neighbours; the paper finds clusters by
  METIS and takes the node of highest degree in each."""
  degree = jnp.where(graph['nodes'], ops.degrees(graph), -1)
  centre = jax.lax.top_k(degree, CLUSTERS)[1]
  far = distances(graph, one_hot_nodes(centre, graph['x'].shape[1]))
  return graph, {'value': far / REACH}


def attribute_mask(rng, graph):
  """The features of a tenth of the nodes are taken away; they are to be said."""
  draws = jax.vmap(lambda r: jax.random.uniform(r, graph['nodes'].shape[1:]))(
    jax.random.split(rng, len(graph['x']))
  )
  hidden = graph['nodes'] & (draws < 0.1)
  x = jnp.where(hidden[..., None], 0, graph['x'])
  return {**graph, 'x': x}, {'value': graph['x'], 'rows': hidden}


def pairwise_similarity(rng, graph):
  """The cosine of the features of two nodes: a node and a neighbour, or any two.

  The authors take the most and the least similar pairs of the graph, which needs all N^2 of them.
  """
  first, second = jax.random.split(rng)
  pairs = _common.random_pairs(first, graph, PAIRS)
  number = jnp.maximum(jnp.sum(graph['edges'], 1), 1)[:, None]
  draws = jax.random.uniform(second, (len(pairs), PAIRS // 2))
  edge = jnp.floor(draws * number).astype(jnp.int32)
  near = [jnp.take_along_axis(graph[name], edge, 1) for name in ('senders', 'receivers')]
  pairs = pairs.at[:, : PAIRS // 2].set(jnp.stack(near, -1))
  unit = ops.l2_normalize(graph['x'])
  ends = [ops.at_nodes(unit, pairs[..., i]) for i in (0, 1)]
  return graph, {'pairs': pairs, 'value': jnp.sum(ends[0] * ends[1], -1)[..., None]}


def distance_to_labelled(rng, graph, classes):
  """Least, mean and largest steps to the labelled nodes of each class, REACH if there are none; the
  last two to the first `_first_labelled` of them."""
  known = graph['label'][:, None] == jnp.arange(classes)[:, None]
  least = distances(graph, known)
  own, real = _first_labelled(known)
  packs, count = own.shape[0], known.shape[2]
  far = distances(graph, one_hot_nodes(own.reshape(packs, -1), count))
  far, real = far.reshape(packs, count, *own.shape[1:]), real[:, None]
  number = jnp.sum(real, -1)
  mean = jnp.sum(jnp.where(real, far, 0), -1) / jnp.maximum(number, 1)
  most = jnp.max(jnp.where(real, far, 0), -1)
  mean, most = (jnp.where(number > 0, x, REACH) for x in (mean, most))
  return graph, {'value': jnp.concatenate([least, mean, most], -1) / REACH}


def _first_labelled(known, each=20):
  """Places of the first `each` nodes of each class in known [P, C, N], and which are some: both
  [P, C, each]."""
  order = jnp.argsort(~known, axis=-1, stable=True)[..., :each]
  return order, jnp.take_along_axis(known, order, -1)


def propagated(graph, classes, steps=10, keep=0.1):
  """Labels spread along edges: [P, N, C], rows sum to one (Zhou et al. 2004)."""
  known = jax.nn.one_hot(graph['label'], classes)  # zero where the label is -1
  scale = (ops.degrees(graph) + 1)[..., None]

  def spread(y, _):
    arrive = ops.aggregate(
      ops.at_nodes(y, graph['senders']) * graph['edges'][..., None],
      graph['receivers'],
      y.shape[1],
    )
    y = (1 - keep) * (arrive + y) / scale + keep * known
    return jnp.where(graph['label'][..., None] >= 0, known, y), None

  y = jax.lax.scan(spread, known, None, length=steps)[0]
  total = jnp.sum(y, -1, keepdims=True)
  return jnp.where(total > 1e-6, y / jnp.maximum(total, 1e-6), 1 / classes)


def neighbour_labels(graph, y):
  """Mean of y [P, N, C] over a node and its neighbours: its context."""
  arrive = ops.aggregate(
    ops.at_nodes(y, graph['senders']) * graph['edges'][..., None], graph['receivers'], y.shape[1]
  )
  return (arrive + y) / (ops.degrees(graph) + 1)[..., None]


def context_label(rng, graph, classes):
  """The classes around a node, as spread labels have them."""
  return graph, {'share': neighbour_labels(graph, propagated(graph, classes))}


def by_features(graph, classes):
  """Classes by the mean features of the labelled nodes (cosine): the second opinion of ICA."""
  known = jax.nn.one_hot(graph['label'], classes)
  means = jnp.einsum('pnc,pnf->pcf', known, ops.l2_normalize(graph['x']))
  near = jnp.einsum('pnf,pcf->pnc', ops.l2_normalize(graph['x']), ops.l2_normalize(means))
  return jax.nn.softmax(near * 10, -1)


def ensemble_label(rng, graph, classes):
  """The context by spread labels and by features together."""
  both = (propagated(graph, classes) + by_features(graph, classes)) / 2
  return graph, {'share': neighbour_labels(graph, both)}


def corrected_label(rng, graph, classes):
  """The context by spread labels that prototypes, mean features of each class, correct."""
  spread = propagated(graph, classes)
  unit = ops.l2_normalize(graph['x'])
  prototypes = ops.l2_normalize(jnp.einsum('pnc,pnf->pcf', spread, unit))
  near = jax.nn.softmax(10 * jnp.einsum('pnf,pcf->pnc', unit, prototypes), -1)
  mixed = spread * near
  mixed = mixed / jnp.maximum(jnp.sum(mixed, -1, keepdims=True), 1e-9)
  return graph, {'share': neighbour_labels(graph, mixed)}


TASKS = {
  'node_property': node_property,
  'edge_mask': edge_mask,
  'pairwise_distance': pairwise_distance,
  'distance_to_clusters': distance_to_clusters,
  'attribute_mask': attribute_mask,
  'pairwise_similarity': pairwise_similarity,
}
LABELLED_TASKS = {
  'distance_to_labelled': distance_to_labelled,
  'context_label': context_label,
  'ensemble_label': ensemble_label,
  'corrected_label': corrected_label,
}


def width(task, features, classes):
  """How many numbers the head of a task gives for a node or a pair."""
  return {
    'edge_mask': 2,
    'pairwise_distance': 4,
    'distance_to_clusters': CLUSTERS,
    'attribute_mask': features,
    'distance_to_labelled': 3 * classes,
  }.get(task, classes if task in LABELLED_TASKS else 1)


def loss_of(outputs, targets, graph):
  """Cross-entropy of kinds and shares, squared error of values, a mean over what counts."""
  if 'kind' in targets:
    each = optax.softmax_cross_entropy_with_integer_labels(outputs, targets['kind'])
    return ops.masked_mean(each.reshape(-1), targets['where'].reshape(-1))
  if 'share' in targets:
    each = -jnp.sum(targets['share'] * jax.nn.log_softmax(outputs), -1)
  else:
    each = jnp.mean((outputs - targets['value']) ** 2, -1)
  where = targets.get('rows', graph['nodes'])
  return ops.masked_mean(each.reshape(-1), None if 'pairs' in targets else where.reshape(-1))
