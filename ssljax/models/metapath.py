"""Encoder of nodes that are joined through others, along several meta-paths."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import ops
from ssljax.models.graph_layers import drop_rows
from ssljax.net import from_linen

VARIANTS = {'metapath': {}}


def get_config(name):
  """dim: of the features. drop: of the inputs."""
  return ConfigDict({'name': name, 'dim': 64, 'drop': 0.3})


def make(config, *, dtype):
  """Encoder of packs of graphs with groups: {'features', 'coarse', 'fine', each [P, N, D]}.

  'path_member' and 'path_group' [P, M, I] say for each of M meta-paths which node is in which group
  (a paper of an author), -1 for padding; without them, there are two, the groups being a node and
  its neighbours, and the ends of an edge.
  """
  return from_linen(MetaPaths(config.dim, config.drop, dtype))


def groups(graph):
  """(members, groups) [P, M, I] of each meta-path."""
  if 'path_member' in graph:
    return graph['path_member'], graph['path_group']
  count = graph['x'].shape[1]
  own = jnp.where(graph['nodes'], jnp.arange(count), -1)
  member = jnp.where(graph['edges'], graph['senders'], -1)
  group = jnp.where(graph['edges'], graph['receivers'], -1)
  number = jnp.where(graph['edges'], jnp.arange(member.shape[1]), -1)
  none = jnp.full_like(member, -1)
  other = jnp.where(graph['edges'], graph['receivers'], -1)
  members = jnp.stack(
    [jnp.concatenate(parts, 1) for parts in ((member, own, none), (member, other, own))], 1
  )
  of = jnp.stack(
    [
      jnp.concatenate(parts, 1)
      for parts in ((group, own, none), (number, number, jnp.full_like(own, -1)))
    ],
    1,
  )
  return jnp.where(of < 0, -1, members), of


class MetaPaths(nn.Module):
  dim: int
  drop: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, graph, *, train: bool):
    dropout = nn.Dropout(self.drop, deterministic=not train)
    x = drop_rows(dropout, graph['x'].astype(self.dtype))
    x = nn.elu(nn.Dense(self.dim, dtype=self.dtype, name='project')(x))
    members, of = groups(graph)
    coarse, fine = [], []
    for i in range(members.shape[1]):
      own, context = self.along(x, members[:, i], of[:, i])
      coarse.append(nn.elu(nn.Dense(self.dim, dtype=x.dtype, name=f'coarse_{i}')(own)))
      pair = jnp.concatenate([x, context], -1)
      fine.append(nn.elu(nn.Dense(self.dim, dtype=x.dtype, name=f'fine_{i}')(pair)))
    coarse = self.weigh(coarse, graph['nodes'], 'coarse')
    fine = self.weigh(fine, graph['nodes'], 'fine')
    return {'features': coarse + fine, 'coarse': coarse, 'fine': fine}

  def along(self, x, member, group):
    """(mean over groups of their members, the same of what a group makes of its members)."""
    real, count = member >= 0, x.shape[1]
    size = member.shape[1]
    inside = jnp.where(real, group, size)
    node = jnp.where(real, member, count)
    at = jnp.minimum(node, count - 1)
    mean = ops.aggregate(ops.at_nodes(x, at), inside, size, 'mean')
    back = jnp.minimum(inside, size - 1)
    context = nn.tanh(mean) * jnp.sqrt(1 / (1 + jnp.mean(mean**2, -1, keepdims=True)))
    return tuple(ops.aggregate(ops.at_nodes(y, back), node, count, 'mean') for y in (mean, context))

  def weigh(self, views, nodes, name):
    """Semantic attention (Wang et al. 2019, HAN): one weight for each meta-path, of all nodes."""
    x = jnp.stack(views)  # [M, P, N, D]
    hidden = nn.tanh(nn.Dense(self.dim, use_bias=False, dtype=x.dtype, name=f'{name}_attention')(x))
    vector = self.param(f'{name}_query', nn.initializers.normal(0.1), (self.dim,))
    score = jnp.einsum('mpnd,d->mpn', hidden.astype(jnp.float32), vector)
    score = jnp.mean(score, axis=(1, 2), where=nodes)
    return jnp.einsum('m,mpnd->pnd', jax.nn.softmax(score).astype(x.dtype), x)
