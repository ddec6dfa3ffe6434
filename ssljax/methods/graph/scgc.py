"""SCGC: clusters of a graph's nodes by an MLP, which finds near those that influence each other.

    z = encoder(x), no messages are passed; influence g_ij of node j on i = sum over r <= R of A^r,
      rows of A normalised
    loss = mean over some nodes i of -log( sum_{j != i} g_ij s_ij / sum_{j != i} s_ij ), with
      s_ij = exp(cos(z_i, z_j) / T)
      + weight * squared error of decoder(z) against x
      + cluster_weight * losses.cluster_sharpening(z, centroids), from `cluster_start` on
    centroids follow z by one step of k-means a step; features z at length one

Kulatilleke, Portmann, Chandra 2022, "SCGC: self-supervised contrastive graph clustering". The
contrast is that of the authors' code, where influence weighs what is found and not what it is found
among; there the node itself is in both sums too, at a similarity of 0. `reconstruct=False` is
SCGC*, without the reconstruction. Influence is propagated from the sampled nodes along edges, so no
N x N array is held: memory is [anchors, N].
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.models import heads

PAPER = 'Kulatilleke et al. 2022, SCGC: self-supervised contrastive graph clustering'
FAMILY = 'clustering'
LEVEL = ('node',)
PRESETS = ('cora',)


def get_config(preset='cora'):
  """'cora': sizes of section 4; 'tiny' is for a thousand nodes."""
  width, epochs = {'cora': (256, 300), 'tiny': (64, 200)}[preset]
  return ConfigDict(
    dict(
      encoder=dict(name='node_mlp', dim=width, depth=2),
      batch_size=1,
      epochs=epochs,
      optim=_common.adam(1e-3, 5e-4),
      method=dict(
        hops=2,
        temperature=0.5,
        anchors=512,  # nodes that look for those they influence, drawn in every step
        reconstruct=True,
        decoder_hidden=width,
        decoder_weight=1.0,
        cluster_weight=0.1,
        cluster_start=0.5,  # share of the steps
        num_clusters=config_dict.placeholder(int),  # the number of classes, if there are labels
        num_classes=config_dict.placeholder(int),
        total_steps=config_dict.placeholder(int),
      ),
    )
  )


def influence(graph, anchors, hops):
  """[P, S, N]: what reaches each node from anchors [P, S] in up to so many steps, rows sum to 1."""
  count = graph['x'].shape[1]
  start = (anchors[..., None] == jnp.arange(count)).swapaxes(1, 2).astype(jnp.float32)
  scale = 1 / (ops.degrees(graph) + 1)[..., None]

  def step(x):
    sent = ops.at_nodes(x * scale, graph['senders']) * graph['edges'][..., None]
    return ops.aggregate(sent, graph['receivers'], count) + x * scale

  total, x = jnp.zeros_like(start), start
  for _ in range(hops):
    x = step(x)
    total = total + x
  total = total.swapaxes(1, 2)
  return total / jnp.maximum(total.sum(-1, keepdims=True), 1e-12)


def make(config, nets):
  encoder, clusters = nets['encoder'], config.num_clusters or config.num_classes or 8

  def decoder(width):
    return heads.mlp((config.decoder_hidden, width), norm=None)

  def views(rng, batch):
    return {**batch, 'anchors': _common.random_pairs(rng, batch, config.anchors)[..., 0]}

  def init(rng, batch):
    first, second, third = jax.random.split(rng, 3)
    params, stats = encoder.init(first, batch)
    z = encoder.apply(params, stats, batch, train=False)[0]['features']
    params = {'encoder': params}
    if config.reconstruct:
      params['decoder'], _ = decoder(batch['x'].shape[-1]).init(second, z)
    centroids = ops.l2_normalize(jax.random.normal(third, (clusters, z.shape[-1])))
    return params, {'stats': {'encoder': stats}, 'centroids': centroids}

  def loss(params, state, batch, rng, step):
    outputs, stats = encoder.apply(
      params['encoder'], state['stats']['encoder'], batch, train=True, rng=rng
    )
    z = ops.l2_normalize(outputs['features'].astype(jnp.float32))
    positive = influence(batch, batch['anchors'], config.hops)
    own = batch['anchors'][..., None] == jnp.arange(z.shape[1])
    positive = positive * ~own
    # What is left of a weight of 1 for each: the two together are what a node is found among.
    negative = (batch['nodes'][:, None] & ~own) - positive
    value = losses.weighted_info_nce(
      _common.flat(ops.at_nodes(z, batch['anchors'])),
      _common.flat(z),
      _common.flat(positive),
      _common.flat(negative),
      temperature=config.temperature,
      where=_common.flat(jnp.any(positive > 0, -1)),
    )
    where, rows = _common.flat(batch['nodes']), _common.flat(z)
    if config.reconstruct:
      decoded, _ = decoder(batch['x'].shape[-1]).apply(params['decoder'], {}, z, train=True)
      error = jnp.sum((decoded - batch['x']) ** 2, -1)
      value += config.decoder_weight * ops.masked_mean(_common.flat(error), where)
    centroids = moved(jax.lax.stop_gradient(rows), where, state['centroids'])
    on = step >= config.cluster_start * config.total_steps
    sharpening = losses.cluster_sharpening(rows, centroids, where=where)
    value += jnp.where(on, config.cluster_weight, 0.0) * sharpening
    return value, ({**state, 'stats': {'encoder': stats}, 'centroids': centroids}, {})

  def moved(z, where, centroids):
    near = jnp.argmax(z @ centroids.T, 1)
    mine = jax.nn.one_hot(near, clusters) * where[:, None]
    mean = (mine.T @ z) / jnp.maximum(mine.sum(0), 1)[:, None]
    return jnp.where(mine.sum(0)[:, None] > 0, mean, centroids)

  def embed(params, state, batch):
    outputs, _ = encoder.apply(params['encoder'], state['stats']['encoder'], batch, train=False)
    z = ops.l2_normalize(outputs['features'].astype(jnp.float32))
    return {'features': _common.flat(z)}

  return Method(init=init, views=views, loss=loss, embed=embed)
