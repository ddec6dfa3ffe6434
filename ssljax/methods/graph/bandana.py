"""Bandana: a graph network hears each neighbour at a random bandwidth, and says which edges are.

    bandwidth of the edges into a node = softmax of normal draws / T, times their number
    codes of every layer: messages weighted by bandwidths; logit of a pair = MLP(h_i * h_j)
    loss = mean over layers of losses.bandana(edges, other pairs, bandwidths)

Yang et al. 2024, "Masked graph autoencoder with non-discrete bandwidths". Follows the authors' code
in the loss of every layer; embeddings are of the graph as it is.
"""

import jax
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.models import graph_heads

PAPER = 'Yang et al. 2024, Masked graph autoencoder with non-discrete bandwidths'
FAMILY = 'masked-modelling'
LEVEL = ('node',)
PRESETS = ('cora',)


def get_config(preset='cora'):
  """'cora': section 5 and the authors' defaults; 'tiny' is for a thousand nodes."""
  encoder = dict(name='gcn', activation='elu', drop=0.5, jump='concat')
  return ConfigDict(
    {
      'cora': dict(
        encoder=encoder | dict(dim=256),
        batch_size=1,
        epochs=400,
        optim=_common.adam(1e-2, 5e-5),
        method=dict(temperature=1.0, decoder_hidden=64),
      ),
      'tiny': dict(
        encoder=encoder | dict(dim=64),
        batch_size=1,
        epochs=200,
        optim=_common.adam(1e-2, 5e-5),
        method=dict(temperature=1.0, decoder_hidden=32),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, decoder = nets['encoder'], graph_heads.edge_mlp(config.decoder_hidden)

  def views(rng, batch):
    draw_rng, pairs_rng = jax.random.split(rng)
    logits = jax.vmap(lambda r: jax.random.normal(r, batch['edges'].shape[1:]))(
      jax.random.split(draw_rng, len(batch['x']))
    )
    count = batch['x'].shape[1]
    bandwidth = ops.edge_softmax(
      logits[..., None] / config.temperature, batch['receivers'], batch['edges'], count
    )[..., 0]
    # Times the degree, so that what arrives at a node keeps its scale.
    degree = ops.at_nodes(ops.degrees(batch), batch['receivers'])
    pairs = _common.random_pairs(pairs_rng, batch, batch['edges'].shape[1])
    return {**batch, 'weight': bandwidth * degree, 'bandwidth': bandwidth, 'pairs': pairs}

  def init(rng, batch):
    first, second = jax.random.split(rng)
    params, stats = encoder.init(first, batch)
    layers = encoder.apply(params, stats, batch, train=False)[0]['layers']
    heads = [decoder.init(jax.random.fold_in(second, i), h, h)[0] for i, h in enumerate(layers)]
    named = {f'decoder_{i}': head for i, head in enumerate(heads)}
    return {'encoder': params, **named}, {'stats': {'encoder': stats}}

  def loss(params, state, batch, rng, step):
    outputs, stats = encoder.apply(
      params['encoder'], state['stats']['encoder'], batch, train=True, rng=rng
    )
    real, value = _common.flat(batch['edges']), 0.0
    for i, h in enumerate(outputs['layers']):

      def logits(senders, receivers, h=h, i=i):
        ends = ops.at_nodes(h, senders), ops.at_nodes(h, receivers)
        return _common.flat(decoder.apply(params[f'decoder_{i}'], {}, *ends, train=True)[0])

      value += losses.bandana(
        logits(batch['senders'], batch['receivers']),
        logits(batch['pairs'][..., 0], batch['pairs'][..., 1]),
        _common.flat(batch['bandwidth']),
        where=real,
        where_negative=real,  # as many other pairs as there are edges
      )
    value /= len(outputs['layers'])
    return value, ({**state, 'stats': {'encoder': stats}}, {})

  return Method(
    init=init, views=views, loss=loss, embed=_common.make_embed(_common.encoder_only(encoder))
  )
