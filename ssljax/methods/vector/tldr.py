"""TLDR: fewer dimensions for any vectors, in which neighbours stay alike.

    neighbours = the k nearest of each vector in the input space, found once, before the first step
    y one of x's, drawn anew; z = projector(encoder(.)), loss = Barlow Twins of z_x and z_y, over 32
    the encoder's output is the reduced vector; the projector is thrown away

Kalantidis, Lassance, Almazan, Larlus 2022, "TLDR: Twin Learning for Dimensionality Reduction".
Follows the authors' PyTorch code. Its neighbours have the largest dot products; here they are the
nearest by Euclidean distance, the same for vectors of length one. Vectors are taken as they are:
batch norm behind the encoder makes the loss blind to their scale, and to the bias that the authors'
linear encoder has and ours has not. `ssljax.reduce` does all of it in one call.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.models import heads
from ssljax.net import chain, over_views

PAPER = 'Kalantidis et al. 2022, TLDR: Twin Learning for Dimensionality Reduction'
FAMILY = 'redundancy-reduction'


def get_config(preset='imagenet'):
  """'imagenet': the authors' code for features of big image models, with the projector of the
  paper, section 4; 'cifar': the code's defaults; 'tiny', for thousands of vectors, is ours."""
  common = dict(
    num_neighbors=5,
    lambd=3.9e-3,
    scale_loss=1 / 32,
    view_stats='separate',
    num_examples=config_dict.placeholder(int),
  )
  lars = dict(
    name='lars',
    learning_rate=0.2,
    batch_scaling='linear',
    warmup_fraction=0.1,
    final_fraction=0.001,
    weight_decay=1e-6,
  )
  authors = dict(batch_size=1024, epochs=100, optim=lars)
  adam = dict(name='adamw', learning_rate=1e-3, weight_decay=1e-6)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='mlp_linear', dim=128),
        method=common | dict(projector=(8192, 8192, 8192)),
        **authors,
      ),
      'cifar': dict(
        encoder=dict(name='mlp_linear', dim=32),
        method=common | dict(projector=(2048, 2048, 2048)),
        **authors,
      ),
      'tiny': dict(
        encoder=dict(name='mlp_linear', dim=32),
        batch_size=256,
        epochs=20,
        optim=adam,
        method=common | dict(projector=(512, 512)),
      ),
    }[preset]
  )


def nearest_by_distance(x, k):
  """The k nearest other rows of each row of x [N, D], by Euclidean distance: int32 [N, k]."""
  x = x - jnp.mean(x, axis=0)  # distances stay, and have more digits near the origin
  # |x - y|^2 / 2 is |x|^2 / 2, the same for all y, less x . y - |y|^2 / 2.
  queries = jnp.pad(x, ((0, 0), (0, 1)), constant_values=1)
  keys = jnp.concatenate([x, -jnp.sum(x * x, axis=1, keepdims=True) / 2], axis=1)
  return ops.nearest(queries, keys, k, exclude=jnp.arange(len(x), dtype=jnp.int32))[1]


def make(config, nets):
  if not 1 <= config.num_neighbors < config.num_examples:
    raise InputError(
      f'method.num_neighbors is {config.num_neighbors}, wanted 1 to {config.num_examples - 1}, all '
      'other examples'
    )
  network = chain(
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, hidden_bias=False, last_bias=False),
  )
  paired = over_views(network, view_stats=config.view_stats)

  def views(rng, batch):
    """A vector and its neighbour as two views [B, 2, ...]; nothing is drawn."""
    return {**batch, 'x': jnp.stack([batch['x'], batch['neighbor_x']], axis=1)}

  def init(rng, batch):
    params, stats = paired.init(rng, batch['x'])
    own = jnp.arange(config.num_examples, dtype=jnp.int32)
    return params, {
      'stats': stats,
      'neighbors': jnp.tile(own[:, None], (1, config.num_neighbors)),
    }

  def refresh(params, state, inputs, rng):
    return {**state, 'neighbors': nearest_by_distance(inputs, config.num_neighbors)}

  def select(state, index, rng):
    drawn = jax.random.randint(rng, index.shape, 0, config.num_neighbors)
    return {'index': index, 'neighbor': state['neighbors'][index, drawn]}

  def forward(params, state, batch, rng, step):
    outputs, stats = paired.apply(params, state['stats'], batch['x'], train=True, rng=rng)
    return outputs['projector'], {**state, 'stats': stats}

  def objective(params, state, z, batch, rng, step):
    loss = losses.barlow_twins(z[:, 0], z[:, 1], lambd=config.lambd, scale_loss=config.scale_loss)
    return loss, (state, {})

  def embed(params, state, batch):
    x = batch['x'].reshape(len(batch['x']), -1)
    outputs, _ = network.apply(params, state['stats'], x, train=False)
    named = {'features': outputs['encoder']['features'], 'input': x}
    return jax.tree.map(lambda y: y.astype(jnp.float32), named)

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    views=views,
    embed=embed,
    refresh=refresh,
    refresh_every=0,
    refresh_feature='input',
    select=select,
    partners=('neighbor',),
  )
