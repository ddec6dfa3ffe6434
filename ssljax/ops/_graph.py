"""Messages along edges, in packs of padded graphs: see data.graphs for the arrays."""

import jax
import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.ops._check import as_float


def masked_mean(x, where=None):
  """The mean of x [N] over the rows `where`; of all without it."""
  if where is None:
    return jnp.mean(x)
  return jnp.sum(jnp.where(where, x, 0)) / jnp.maximum(jnp.sum(where), 1)


def at_nodes(x, index):
  """Rows of x [P, N, ...] at index [P, E]: [P, E, ...]."""
  return jax.vmap(lambda x, i: x[i])(x, index)


def aggregate(messages, receivers, num_nodes, reduce='sum'):
  """What arrives at each node: [P, E, ...] and receivers [P, E] -> [P, num_nodes, ...].

  reduce: 'sum', 'mean' or 'max' (0 where nothing arrives). Entries whose receiver is num_nodes or
  more are dropped.

  Raises InputError on another reduce.
  """

  def one(messages, receivers):
    if reduce == 'max':
      found = jax.ops.segment_max(messages, receivers, num_nodes)
      return jnp.where(jnp.isfinite(found), found, 0)
    total = jax.ops.segment_sum(messages, receivers, num_nodes)
    if reduce == 'sum':
      return total
    count = jax.ops.segment_sum(jnp.ones(len(receivers), messages.dtype), receivers, num_nodes)
    return total / jnp.maximum(count, 1).reshape(-1, *(1,) * (messages.ndim - 1))

  if reduce not in ('sum', 'mean', 'max'):
    raise InputError(f"reduce is {reduce!r}, wanted 'sum', 'mean' or 'max'")
  return jax.vmap(one)(messages, receivers)


def inner(a, b):
  """Sum of a * b over the last axis.

  As a product with ones: the reduction that XLA makes of products takes up to 20 times as long on
  CPUs.
  """
  ones = jnp.ones((a.shape[-1], 1), a.dtype)
  return jnp.matmul(a * b, ones, precision=jax.lax.Precision.HIGHEST)[..., 0]


@jax.custom_vjp
def scale(x, weights):
  """x [..., C], each row by its weight [...]; the gradient of the weights is an `inner`."""
  return x * weights[..., None]


def _scale_forward(x, weights):
  return scale(x, weights), (x, weights)


def _scale_backward(kept, g):
  x, weights = kept
  return g * weights[..., None], inner(g, x)


scale.defvjp(_scale_forward, _scale_backward)


def edge_weights(graph):
  """[P, E] float32: the weight of each edge, 1 if the batch has none, and 0 for padding."""
  weight = graph.get('weight', 1.0)
  return jnp.where(graph['edges'], weight, 0.0).astype(jnp.float32)


def degrees(graph):
  """[P, N]: the sum of weights of the edges that arrive at each node."""
  return aggregate(edge_weights(graph), graph['receivers'], graph['x'].shape[1])


def edge_softmax(logits, receivers, edges, num_nodes):
  """Softmax of logits [P, E, H] over the edges that arrive at one node; 0 for padding."""
  real = edges[..., None]
  logits = jnp.where(real, as_float(logits), -jnp.inf)
  largest = jax.vmap(lambda a, r: jax.ops.segment_max(a, r, num_nodes))(logits, receivers)
  largest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0))
  weights = jnp.where(real, jnp.exp(logits - at_nodes(largest, receivers)), 0)
  total = aggregate(weights, receivers, num_nodes)
  return weights / jnp.maximum(at_nodes(total, receivers), 1e-16)


def readout(x, graph, reduce='sum'):
  """One row for each graph: x [P, N, D] -> [P, G, D], over real nodes; G is that of 'index'."""
  return aggregate(x, graph['graph'], graph['index'].shape[1], reduce)


def shuffle_nodes(rng, graph):
  """The graph with features of other real nodes of the same pack (DGI's corruption)."""

  def one(rng, x, nodes):
    draws = jnp.where(nodes, jax.random.uniform(rng, nodes.shape), 2.0)
    # The i-th real node gets the features of the one with the i-th smallest draw; padding stays.
    return x[jnp.argsort(draws)]

  rngs = jax.random.split(rng, len(graph['x']))
  return {**graph, 'x': jax.vmap(one)(rngs, graph['x'], graph['nodes'])}
