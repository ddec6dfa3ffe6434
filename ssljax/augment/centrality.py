"""How much nodes, edges and features matter, and how often a view may lose them (GCA)."""

import jax
import jax.numpy as jnp

from ssljax import ops
from ssljax.errors import InputError

KINDS = ('degree', 'pagerank', 'eigenvector')


def nodes(graph, kind='degree', steps=20):
  """Centrality [P, N] of nodes: degrees, PageRank (damping 0.85) or the leading eigenvector.

  The last two by so many power iterations. Raises InputError for another kind.
  """
  if kind not in KINDS:
    raise InputError(f'centrality is {kind!r}, wanted one of {", ".join(KINDS)}')
  degree, count = ops.degrees(graph), graph['x'].shape[1]
  if kind == 'degree':
    return degree
  real = graph['nodes'].astype(jnp.float32)
  number = jnp.sum(real, 1, keepdims=True)

  def arrive(x):
    return ops.aggregate(
      ops.at_nodes(x, graph['senders']) * graph['edges'], graph['receivers'], count
    )

  def pagerank(x, _):
    return (0.85 * arrive(x / jnp.maximum(degree, 1)) + 0.15 / number) * real, None

  def eigenvector(x, _):
    y = x + arrive(x)  # the shift keeps bipartite graphs from swinging
    return y / jnp.linalg.norm(y, axis=1, keepdims=True), None

  step = pagerank if kind == 'pagerank' else eigenvector
  return jax.lax.scan(step, real / number, None, length=steps)[0]


def _rates(weight, real, rate, threshold):
  count = jnp.maximum(jnp.sum(real, 1, keepdims=True), 1)
  most = jnp.max(jnp.where(real, weight, -jnp.inf), 1, keepdims=True)
  mean = jnp.sum(jnp.where(real, weight, 0), 1, keepdims=True) / count
  return jnp.clip(rate * (most - weight) / jnp.maximum(most - mean, 1e-12), 0, threshold)


def edge_rates(graph, scores, rate, threshold):
  """Chances [P, E] of an edge to go, less for those between central nodes, `rate` on average.

  Both directions have one chance, by the mean log of the ends' scores (in the authors' code each
  its own, by the receiver's).
  """
  ends = [jnp.log(ops.at_nodes(scores, graph[n]) + 1e-8) for n in ('senders', 'receivers')]
  return _rates((ends[0] + ends[1]) / 2, graph['edges'], rate, threshold)


def feature_rates(graph, scores, rate, threshold):
  """Chances [P, F] of a feature to be masked, less for those of central nodes."""
  weight = jnp.einsum('pnf,pn->pf', jnp.abs(graph['x']), scores)
  weight = jnp.log(weight + 1e-10)
  return _rates(weight, jnp.ones(weight.shape, bool), rate, threshold)
