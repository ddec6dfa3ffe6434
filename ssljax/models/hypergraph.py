"""UniGCNII, an encoder of hypergraphs."""

import functools
import math

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import ops
from ssljax.errors import InputError
from ssljax.models.graph_layers import drop_rows
from ssljax.net import Net, from_linen

VARIANTS = {'hypergraph': {}}


def get_config(name):
  """The options of an encoder with their defaults, those of the paper."""
  config = {
    'name': name,
    'dim': 128,
    'depth': 2,  # of the layers behind the first, which is linear
    'drop': 0.0,  # of the features before each layer
    'start': 0.1,  # alpha: share of the first layer's output in each
    'lamda': 0.5,  # layer l, from 1 on, takes log(lamda / l + 1) through its weights
    'pool': 'sum',  # of nodes, to the features of a graph
  }
  return ConfigDict(config | VARIANTS[name])


def make(config, *, dtype) -> Net:
  """Encoder of packs with 'member' and 'hyperedge' [P, I], int, -1 in both for padding: {'features'
  [P, N, D], 'pooled' [P, G, D], 'layers': tuple of [P, N, D]}.

  Raises InputError on an option that cannot be.
  """
  for field in ('dim', 'depth'):
    if config[field] < 1:
      raise InputError(f'encoder.{field} is {config[field]}, wanted at least 1')
  options = {k: v for k, v in config.to_dict().items() if k != 'name'}
  return from_linen(UniGCNII(**options, dtype=dtype))


def propagate(x, graph):
  """[P, N, D]: y_v = d_v^-1/2 sum_{e of v} d_e^-1/2 mean_{u in e} x_u, or x_v of a node in none.

  d_v: in how many hyperedges a node is. d_e: the mean d_v of a hyperedge's members.
  """
  real, count = graph['member'] >= 0, x.shape[1]
  member = jnp.where(real, graph['member'], count - 1)
  edges = graph['member'].shape[1]  # no more hyperedges than memberships
  hyperedge = jnp.where(real, graph['hyperedge'], edges)  # dropped
  one = real[..., None].astype(x.dtype)
  size = ops.aggregate(one, hyperedge, edges)

  def of_members(values):
    return ops.aggregate(ops.at_nodes(values, member) * one, hyperedge, edges) / jnp.maximum(
      size, 1
    )

  degree = ops.aggregate(one, member, count)
  mean = of_members(x) * jnp.maximum(of_members(degree), 1) ** -0.5
  sent = ops.at_nodes(mean, jnp.minimum(hyperedge, edges - 1)) * one
  y = ops.aggregate(sent, member, count) * jnp.maximum(degree, 1) ** -0.5
  return jnp.where(degree > 0, y, x)


class UniGCNII(nn.Module):
  """Huang & Yang 2021, "UniGNN", equation 11, as in HypeBoy's code.

  x_0 = relu(W_0 x), x_l = relu((1 - b_l) s + b_l W_l s) with s = (1 - alpha) propagate(x_l-1) +
  alpha x_0 and b_l = log(lamda / l + 1); no ReLU behind the last.
  """

  dim: int
  depth: int
  drop: float
  start: float
  lamda: float
  pool: str
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, graph, *, train: bool):
    dropout = functools.partial(nn.Dropout, self.drop, deterministic=not train)
    x = drop_rows(dropout(), graph['x'].astype(self.dtype))
    x = first = nn.relu(nn.Dense(self.dim, dtype=self.dtype, name='first')(x))
    layers = [first]
    for i in range(1, self.depth + 1):
      x = drop_rows(dropout(), x)
      x = (1 - self.start) * propagate(x, graph) + self.start * first
      own = math.log(self.lamda / i + 1)
      x = (1 - own) * x + own * nn.Dense(
        self.dim, use_bias=False, dtype=self.dtype, name=f'layer_{i}'
      )(x)
      x = nn.relu(x) if i < self.depth else x
      layers.append(x)
    return {
      'features': jnp.where(graph['nodes'][..., None], x, 0),
      'pooled': ops.readout(x, graph, self.pool),
      'layers': tuple(layers),
    }
