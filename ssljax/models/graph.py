"""Encoders of graphs: GCN, GAT, GIN, GraphSAGE, GAIN, SuperGAT's two attentions; and, to compare,
MLPs of nodes by themselves."""

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import ops
from ssljax.errors import InputError
from ssljax.models.graph_layers import (
  GAIN,
  GAT,
  GCN,
  GIN,
  INITS,
  SAGE,
  activate,
  drop_rows,
  norm_nodes,
)
from ssljax.net import Net, from_linen

VARIANTS = {
  'gcn': {'layer': 'gcn'},
  'gat': {'layer': 'gat'},
  'gin': {'layer': 'gin', 'activation': 'relu', 'norm': 'batch'},
  'sage': {'layer': 'sage'},
  'node_mlp': {'layer': 'linear', 'last_activation': False},
  'gain': {'layer': 'gain', 'last_activation': False},
  'supergat': {'layer': 'gat', 'attention': 'MX'},
}
CHOICES = {
  'layer': ('gcn', 'gat', 'gin', 'sage', 'gain', 'linear'),
  'activation': ('relu', 'prelu', 'elu', 'rrelu', 'leaky_relu', 'none'),
  'norm': ('', 'batch', 'layer'),
  'pool': ('sum', 'mean', 'max'),
  'jump': ('last', 'concat'),
  'attention': ('GO', 'MX', 'SD'),
  'kernel_init': tuple(INITS),
}

# Which layers use what `apply` may be given besides the graph.
USED_BY = {'pairs': ('gat',), 'weights': ('gcn', 'gin', 'sage'), 'diffusion': ('gcn',)}


def get_config(name):
  """The options of an encoder with their defaults."""
  config = {
    'name': name,
    'layer': '',
    'dim': 256,  # of the features of a node, one layer's
    'hidden': 0,  # of the layers before the last; 0: as `dim`
    'depth': 2,
    'heads': 4,  # of attention; hidden layers put them side by side, so each has hidden / heads
    'last_heads': 1,  # of the last layer, averaged, or with `last_concat` side by side
    'last_concat': False,
    'attention': 'GO',
    'activation': 'relu',
    'last_activation': True,  # also behind the last layer
    'norm': '',  # behind each layer, before the activation
    'residual': False,
    'drop': 0.0,  # of the features before each layer
    'attention_drop': 0.0,
    'kernel_init': 'glorot',  # of a GAT: uniform; 'glorot_relu' is normal and sqrt(2) times as wide
    'mlp_norm': False,  # batch norm inside the layers of a GIN
    'mlp_hidden': 0,  # their hidden units; 0: as many as they put out
    'own': 1.0,  # weight in a GIN of the node itself; 2 is that of graphs with self-loops
    'pool': 'sum',  # of nodes, to the features of a graph
    'jump': 'last',  # or 'concat': features of all layers side by side
  }
  return ConfigDict(config | VARIANTS[name])


def make(config, *, dtype) -> Net:
  """Encoder of packs of graphs: {'features' [P, N, D], 'pooled' [P, G, D], 'layers': tuple of
  [P, N, d], and with `pairs` 'pairs': logits of each layer}.

  `apply` takes `pairs`, int [P, M, 2] (sender, receiver), of which a GAT also says what speaks for
  an edge; `weights` [P, E, depth], those of the edges in each layer of a GCN, GIN or GraphSAGE;
  and `diffusion` (steps, teleport), with which a GCN works on the graph's personalised PageRank.

  Raises InputError on an option that cannot be, and `apply` on one that the layers do not use.
  """
  for field, choices in CHOICES.items():
    if config[field] not in choices:
      raise InputError(f'encoder.{field} is {config[field]!r}, wanted one of {", ".join(choices)}')
  for field in ('dim', 'depth', 'heads', 'last_heads'):
    if config[field] < 1:
      raise InputError(f'encoder.{field} is {config[field]}, wanted at least 1')
  hidden = config.hidden or config.dim
  if config.layer == 'gat' and config.depth > 1 and hidden % config.heads:
    raise InputError(f'encoder.heads is {config.heads}, wanted a divisor of the {hidden} channels')
  options = {k: v for k, v in config.to_dict().items() if k != 'name'}
  return from_linen(GNN(**{**options, 'hidden': hidden}, dtype=dtype))


class GNN(nn.Module):
  layer: str
  dim: int
  hidden: int
  depth: int
  heads: int
  last_heads: int
  last_concat: bool
  attention: str
  activation: str
  last_activation: bool
  norm: str
  residual: bool
  drop: float
  attention_drop: float
  kernel_init: str
  mlp_norm: bool
  mlp_hidden: int
  own: float
  pool: str
  jump: str
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, graph, *, train: bool, pairs=None, weights=None, diffusion=(0, 0.0)):
    given = {'pairs': pairs is not None, 'weights': weights is not None, 'diffusion': diffusion[0]}
    for option, users in USED_BY.items():
      if given[option] and self.layer not in users:
        raise InputError(
          f'encoder.layer is {self.layer!r}, which takes no {option}, wanted {" or ".join(users)}'
        )
    x, layers, logits = graph['x'].astype(self.dtype), [], []
    for i in range(self.depth):
      last, before = i == self.depth - 1, x
      if weights is not None:
        graph = {**graph, 'weight': weights[..., i]}
      x = drop_rows(nn.Dropout(self.drop, deterministic=not train), x)
      x = self.make_layer(i, last, x, graph, train, pairs, diffusion)
      if pairs is not None and self.layer == 'gat':
        x, found = x
        logits.append(found)
      if self.residual:
        same = before.shape[-1] == x.shape[-1]
        x += before if same else nn.Dense(x.shape[-1], use_bias=False, name=f'skip_{i}')(before)
      x = norm_nodes(x, graph, self.norm, train, f'norm_{i}')
      if self.last_activation or not last:
        x = activate(self, self.activation, x, f'act_{i}', train)
      layers.append(x)
    x = jnp.concatenate(layers, -1) if self.jump == 'concat' else x
    outputs = {
      'features': jnp.where(graph['nodes'][..., None], x, 0),
      'pooled': ops.readout(x, graph, self.pool),
      'layers': tuple(layers),
    }
    return outputs if pairs is None else outputs | {'pairs': tuple(logits)}

  def make_layer(self, i, last, x, graph, train, pairs, diffusion):
    dim, name = (self.dim if last else self.hidden), f'layer_{i}'
    bias = self.norm != 'batch'  # which would take it away again
    if self.layer == 'gcn':
      return GCN(dim, True, *diffusion, use_bias=bias, name=name)(x, graph)
    if self.layer == 'gin':
      made = GIN(dim, self.mlp_hidden, self.mlp_norm, bias, self.activation, self.own, name=name)
      return made(x, graph, train=train)
    if self.layer == 'sage':
      return SAGE(dim, name=name)(x, graph)
    if self.layer == 'linear':
      return nn.Dense(dim, use_bias=bias, dtype=x.dtype, name=name)(x)
    if self.layer == 'gain':
      return GAIN(dim, name=name)(x, graph)
    heads = self.last_heads if last else self.heads
    concat = self.last_concat or not last
    width = dim // heads if concat else dim
    made = GAT(
      width, heads, concat, bias, self.attention, self.attention_drop, self.kernel_init, name=name
    )
    return made(x, graph, train=train, pairs=pairs)
