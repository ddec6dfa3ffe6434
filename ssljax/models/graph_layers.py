"""Layers on packs of padded graphs: messages from senders to receivers, see data.graphs."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax import ops
from ssljax.models.norm import BatchNorm

# Glorot et al. 2010, as in torch: of weights [inputs, outputs] and of attention vectors.
glorot = nn.initializers.xavier_uniform()
# Of weights and of attention vectors [H, dim]: as PyTorch Geometric has it, and as DGL, whose
# attention vectors are narrow, as if all heads' units came in.
INITS = {
  'glorot': (glorot, glorot),
  'glorot_relu': (
    nn.initializers.variance_scaling(2.0, 'fan_avg', 'normal'),
    nn.initializers.variance_scaling(2.0, 'fan_avg', 'normal', in_axis=-2, out_axis=()),
  ),
}


class GCN(nn.Module):
  """Kipf & Welling 2017: y = D^-1/2 (A + I) D^-1/2 x W + b, with the weights of the edges in A.

  normalized: False takes the weights as they are and adds no loops (a diffusion matrix).
  diffusion_steps: > 0 puts the personalised PageRank matrix of the normalised graph in its place,
    alpha sum_k (1 - alpha)^k A^k up to that k, with alpha `teleport`. It is applied step by step,
    so no N x N array is made: Klicpera et al. 2019, equation 4.
  """

  dim: int
  normalized: bool = True
  diffusion_steps: int = 0
  teleport: float = 0.2
  use_bias: bool = True

  @nn.compact
  def __call__(self, x, graph):
    x = nn.Dense(self.dim, use_bias=False, dtype=x.dtype, kernel_init=glorot, name='linear')(x)
    weights = ops.edge_weights(graph)
    if self.normalized:
      scale = (jnp.maximum(ops.degrees(graph), 0) + 1) ** -0.5
      weights = weights * ops.at_nodes(scale, graph['senders'])
      scale = scale[..., None].astype(x.dtype)

    def propagate(x):
      messages = ops.at_nodes(x, graph['senders']) * weights[..., None].astype(x.dtype)
      y = ops.aggregate(messages, graph['receivers'], x.shape[1])
      return (y + x * scale) * scale if self.normalized else y

    if self.diffusion_steps:
      y = x
      for _ in range(self.diffusion_steps):
        y = (1 - self.teleport) * propagate(y) + self.teleport * x
    else:
      y = propagate(x)
    if self.use_bias:
      y = y + self.param('bias', nn.initializers.zeros, (self.dim,)).astype(x.dtype)
    return y


class GIN(nn.Module):
  """Xu et al. 2019: y = MLP(own x + sum of neighbours), a linear layer, activation, and another.

  hidden: units between the two; 0 for as many as `dim`. norm: whether batch norm is there too.
  own: 1 + eps; 1 is the authors' GIN-0, 2 that of a graph with self-loops.
  """

  dim: int
  hidden: int = 0
  norm: bool = False
  use_bias: bool = True
  activation: str = 'relu'
  own: float = 1.0

  @nn.compact
  def __call__(self, x, graph, *, train=False):
    weights = ops.edge_weights(graph)[..., None].astype(x.dtype)
    y = ops.aggregate(ops.at_nodes(x, graph['senders']) * weights, graph['receivers'], x.shape[1])
    y = y + self.own * x
    hidden = self.hidden or self.dim
    y = nn.Dense(hidden, use_bias=not self.norm, dtype=x.dtype, name='linear_0')(y)
    if self.norm:
      y = norm_nodes(y, graph, 'batch', train, 'norm')
    y = activate(self, self.activation, y, 'act', train)
    return nn.Dense(self.dim, use_bias=self.use_bias, dtype=x.dtype, name='linear_1')(y)


class GAIN(nn.Module):
  """Gharaee et al. 2021: y = MLP((1 + eps) x + sum of neighbours, each by its attention)."""

  dim: int

  @nn.compact
  def __call__(self, x, graph):
    ends = [ops.at_nodes(x, graph[name]) for name in ('receivers', 'senders')]
    score = nn.Dense(1, use_bias=False, name='attention')(jnp.concatenate(ends, -1))
    score = nn.leaky_relu(score.astype(jnp.float32), 0.2)
    weights = ops.edge_softmax(score, graph['receivers'], graph['edges'], x.shape[1])
    y = ops.aggregate(
      ops.scale(ends[1], weights[..., 0].astype(x.dtype)), graph['receivers'], x.shape[1]
    )
    y = y + (1 + self.param('eps', nn.initializers.zeros, ())).astype(x.dtype) * x
    y = nn.Dense(self.dim, dtype=x.dtype, name='linear_0')(y)
    return nn.Dense(self.dim, dtype=x.dtype, name='linear_1')(nn.relu(y))


class SAGE(nn.Module):
  """Hamilton et al. 2017, mean: y = W1 x + W2 mean of neighbours, by the weights of the edges."""

  dim: int

  @nn.compact
  def __call__(self, x, graph):
    # By the mask: edges that a view took away still have their ends.
    weights = ops.edge_weights(graph)[..., None].astype(x.dtype)
    y = ops.aggregate(ops.at_nodes(x, graph['senders']) * weights, graph['receivers'], x.shape[1])
    degrees = ops.degrees(graph)[..., None]
    y = y / jnp.where(degrees > 0, degrees, 1).astype(x.dtype)
    own = nn.Dense(self.dim, dtype=x.dtype, name='own')(x)
    return own + nn.Dense(self.dim, use_bias=False, dtype=x.dtype, name='neighbours')(y)


class GAT(nn.Module):
  """Velickovic et al. 2018: a mean of neighbours and itself, weighted by attention of H heads.

    a_ij = softmax over j of LeakyReLU(l . W x_j + r . W x_i, 0.2),  y_i = sum_j a_ij W x_j + b

  concat: heads side by side, [.., H dim], or their mean, [.., dim].
  attention: 'GO', Velickovic et al. 2018; 'MX' and 'SD' of Kim & Oh 2021, section 4. drop: of it.
  kernel_init: of weights and attention vectors, see INITS.
  Returns y, and with `pairs` [P, M, 2] (sender, receiver) also logits [P, M, H] of those being
  edges.
  """

  dim: int
  heads: int = 4
  concat: bool = True
  use_bias: bool = True
  attention: str = 'GO'
  drop: float = 0.0
  kernel_init: str = 'glorot'

  @nn.compact
  def __call__(self, x, graph, *, train=False, pairs=None):
    shape, count = (*x.shape[:2], self.heads, self.dim), x.shape[1]
    init, attention_init = INITS[self.kernel_init]
    h = nn.Dense(
      self.heads * self.dim, use_bias=False, dtype=x.dtype, kernel_init=init, name='linear'
    )(x).reshape(shape)
    if self.attention != 'SD':
      sending, receiving = (
        jnp.einsum('pnhc,hc->pnh', h, self.param(name, attention_init, shape[2:]).astype(x.dtype))
        for name in ('att_l', 'att_r')
      )

    def likely(senders, receivers):
      """Logits of edges being there."""
      dot = ops.as_float(ops.inner(ops.at_nodes(h, receivers), ops.at_nodes(h, senders)))
      return dot / jnp.sqrt(self.dim) if self.attention == 'SD' else dot

    def scores(senders, receivers):
      """Logits of the softmax."""
      if self.attention == 'SD':
        return likely(senders, receivers)
      logits = ops.at_nodes(sending, senders) + ops.at_nodes(receiving, receivers)
      if self.attention == 'MX':
        logits *= nn.sigmoid(likely(senders, receivers))
      return ops.as_float(logits)

    # Every node is its own neighbour.
    own = jnp.broadcast_to(jnp.arange(count), x.shape[:2])
    senders = jnp.concatenate([graph['senders'], own], 1)
    receivers = jnp.concatenate([graph['receivers'], own], 1)
    real = jnp.concatenate([graph['edges'], jnp.ones(x.shape[:2], bool)], 1)
    logits = nn.leaky_relu(scores(senders, receivers), 0.2)
    weights = ops.edge_softmax(logits, receivers, real, count)
    # Each by itself, so that what is drawn for an edge does not depend on the padding.
    drop = functools.partial(drop_rows, nn.Dropout(self.drop, deterministic=not train))
    edges = graph['senders'].shape[1]
    weights = jnp.concatenate([drop(weights[:, :edges]), drop(weights[:, edges:])], 1)
    messages = ops.scale(ops.at_nodes(h, senders), weights.astype(x.dtype))
    y = ops.aggregate(messages, receivers, count)
    y = y.reshape(*x.shape[:2], -1) if self.concat else y.mean(2)
    if self.use_bias:
      y = y + self.param('bias', nn.initializers.zeros, y.shape[-1:]).astype(x.dtype)
    if pairs is None:
      return y
    return y, likely(pairs[..., 0], pairs[..., 1])


def drop_rows(dropout, x):
  """`dropout` of x [P, N, ...]; what is drawn for a row does not depend on the padding behind it.

  Draws go row by row, all packs of a row together, and more of them begin as fewer do.
  """
  return dropout(x.swapaxes(0, 1)).swapaxes(0, 1)


def activate(module, kind, x, name, train):
  """The activation within a module, which gets the parameter `name` if there is one to learn."""
  if kind == 'prelu':
    slope = module.param(name, nn.initializers.constant(0.25), ())
    return jnp.where(x >= 0, x, slope.astype(x.dtype) * x)
  if kind == 'rrelu':  # Xu et al. 2015: a slope drawn anew in training
    middle = (1 / 8 + 1 / 3) / 2
    if not train or not module.has_rng('dropout'):
      return jnp.where(x >= 0, x, middle * x)
    shape = x.shape[1], x.shape[0], *x.shape[2:]  # as in `drop_rows`
    slope = jax.random.uniform(module.make_rng('dropout'), shape, x.dtype, 1 / 8, 1 / 3)
    return jnp.where(x >= 0, x, slope.swapaxes(0, 1) * x)
  return {
    'relu': nn.relu,
    'elu': nn.elu,
    'leaky_relu': lambda x: nn.leaky_relu(x, 0.01),
    'none': lambda x: x,
  }[kind](x)


def norm_nodes(x, graph, kind, train, name):
  """'batch' norm over the real nodes of all packs, 'layer' norm, or none ('')."""
  if kind == 'layer':
    return nn.LayerNorm(epsilon=1e-5, dtype=x.dtype, name=name)(x)
  if kind == 'batch':
    return BatchNorm(name=name)(x, train=train, where=graph['nodes'][..., None])
  return x
