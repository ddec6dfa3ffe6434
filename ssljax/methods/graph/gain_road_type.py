"""GAIN: segments of roads learn from near ones, and from far ones that a walk comes by.

    the graph's nodes are road segments: the line graph of the network (data.graphs.line_graph)
    each step every node hears `local` random neighbours and `far` nodes of walks of its own
    z = encoder(that graph); loss = losses.skip_gram: z of nodes on one short walk are alike, of
      random nodes not

Gharaee, Kowshik, Stromann, Felsberg 2021, "Graph representation learning for road type
classification". Its aggregation is encoder 'gain', GIN with attention. Any graph will do. This is
the unsupervised mode; the supervised one, with a loss of road types, is absent. Embeddings are of
the graph as it is, each node hearing all its neighbours and no far nodes, which training draws.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.method import Method
from ssljax.methods.graph import _common

PAPER = 'Gharaee et al. 2021, Graph representation learning for road type classification'
FAMILY = 'contrastive'
LEVEL = ('node',)
PRESETS = ('cora',)


def get_config(preset='cora'):
  """'cora': sizes of section 4; 'tiny' is for a thousand nodes."""
  width, epochs = {'cora': (128, 300), 'tiny': (64, 200)}[preset]
  return ConfigDict(
    dict(
      encoder=dict(name='gain', dim=width, hidden=width),
      batch_size=1,
      epochs=epochs,
      optim=_common.adam(1e-3, 5e-4),
      method=dict(local=5, far=5, far_walk=8, walk=3, negatives=5, temperature=0.1),
    )
  )


def make(config, nets):
  network = _common.encoder_only(nets['encoder'])

  def sampled(rng, batch):
    """The graph whose edges are draws: `local` neighbours and `far` nodes to every node."""
    near_rng, far_rng = jax.random.split(rng)
    count = batch['x'].shape[1]
    everyone = jnp.broadcast_to(jnp.arange(count), batch['nodes'].shape)
    starts = ops.row_starts(batch)
    heard = [
      ops.neighbour(jax.random.fold_in(near_rng, i), batch, starts, everyone)
      for i in range(config.local)
    ]
    for i in range(config.far):
      path = ops.walks(jax.random.fold_in(far_rng, i), batch, everyone, config.far_walk)
      heard.append(path[..., -1])
    senders = jnp.concatenate(heard, 1)
    receivers = jnp.tile(everyone, (1, len(heard)))
    real = jnp.tile(batch['nodes'], (1, len(heard))) & (senders != receivers)
    return {**batch, 'senders': senders, 'receivers': receivers, 'edges': real}

  def views(rng, batch):
    graph_rng, walk_rng, other_rng = jax.random.split(rng, 3)
    everyone = jnp.broadcast_to(jnp.arange(batch['x'].shape[1]), batch['nodes'].shape)
    path = ops.walks(walk_rng, batch, everyone, config.walk)
    others = _common.random_pairs(other_rng, batch, everyone.shape[1] * config.negatives)[..., 0]
    return {
      **batch,
      'seen': sampled(graph_rng, batch),
      'context': path[..., 1:],
      'others': others.reshape(*everyone.shape, config.negatives),
    }

  def init(rng, batch):
    params, stats = network.init(rng, batch['seen'])
    return params, {'stats': stats}

  def loss(params, state, batch, rng, step):
    outputs, stats = network.apply(params, state['stats'], batch['seen'], train=True, rng=rng)
    z = ops.l2_normalize(outputs['encoder']['features'].astype(jnp.float32))
    z = z * config.temperature**-0.5
    contexts = batch['context'].shape[-1]
    others = ops.at_nodes(z, batch['others'].reshape(len(z), -1))
    others = others.reshape(-1, config.negatives, z.shape[-1])
    value = sum(
      losses.skip_gram(
        _common.flat(z),
        _common.flat(ops.at_nodes(z, batch['context'][..., i])),
        others,
        where=_common.flat(batch['nodes']),
      )
      for i in range(contexts)
    )
    return value / contexts, ({**state, 'stats': stats}, {})

  return Method(init=init, views=views, loss=loss, embed=_common.make_embed(network))
