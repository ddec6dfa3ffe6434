"""Bandana: a graph network hears each neighbour at a random bandwidth, and says which edges are.

    bandwidth of the edges into a node = softmax of normal draws / T, drawn anew for each layer
    codes of every layer: messages weighted by bandwidths; logit of a pair = MLP(h_i * h_j)
    loss = mean over layers of losses.bandana(edges, other pairs, bandwidths of the layer)

Yang et al. 2024, "Masked graph autoencoder with non-discrete bandwidths". Follows the authors'
code, one MLP for all layers included, but for this: it trains on 85% of the edges and keeps the
epoch that best tells 10% that it did not see, here all train it, for as long as theirs took.
Embeddings are the layers' side by side, of the graph as it is, at length one, as in their settings
for citation graphs; features of nodes are taken as they are there (data.normalize=False).
"""

import jax
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.models import graph_heads

PAPER = 'Yang et al. 2024, Masked graph autoencoder with non-discrete bandwidths'
FAMILY = 'masked-modelling'
LEVEL = ('node',)
PRESETS = ('cora',)


def get_config(preset='cora'):
  """'cora': the authors' `Cora.yml`; 'tiny' is for a thousand nodes."""
  encoder = dict(name='gcn', activation='elu', norm='batch', drop=0.8, jump='concat')
  method = dict(temperature=0.9, decoder_hidden=256, depth=config_dict.placeholder(int))
  optim = _common.adam(1e-2, 5e-5) | dict(clip_norm=1.0)
  return ConfigDict(
    {
      'cora': dict(
        encoder=encoder | dict(dim=256, depth=3),
        batch_size=1,
        epochs=600,
        optim=optim,
        method=method,
      ),
      'tiny': dict(
        encoder=encoder | dict(dim=64, drop=0.5),
        batch_size=1,
        epochs=200,
        optim=optim,
        method=method | dict(decoder_hidden=32),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, decoder = nets['encoder'], graph_heads.edge_mlp(config.decoder_hidden)

  def views(rng, batch):
    draw_rng, pairs_rng = jax.random.split(rng)
    shape = (batch['edges'].shape[1], config.depth)
    logits = jax.vmap(lambda r: jax.random.normal(r, shape))(
      jax.random.split(draw_rng, len(batch['x']))
    )
    bandwidth = ops.edge_softmax(
      logits / config.temperature, batch['receivers'], batch['edges'], batch['x'].shape[1]
    )
    pairs = _common.random_pairs(pairs_rng, batch, batch['edges'].shape[1])
    return {**batch, 'bandwidth': bandwidth, 'pairs': pairs}

  def init(rng, batch):
    first, second = jax.random.split(rng)
    params, stats = encoder.init(first, batch)
    h = encoder.apply(params, stats, batch, train=False)[0]['layers'][-1]
    head, _ = decoder.init(second, h, h)
    return {'encoder': params, 'decoder': head}, {'stats': {'encoder': stats}}

  def loss(params, state, batch, rng, step):
    outputs, stats = encoder.apply(
      params['encoder'], state['stats']['encoder'], batch, train=True, rng=rng,
      weights=batch['bandwidth'],
    )  # fmt: skip
    real, value = _common.flat(batch['edges']), 0.0
    for i, h in enumerate(outputs['layers']):

      def logits(senders, receivers, h=h):
        ends = ops.at_nodes(h, senders), ops.at_nodes(h, receivers)
        return _common.flat(decoder.apply(params['decoder'], {}, *ends, train=True)[0])

      value += losses.bandana(
        logits(batch['senders'], batch['receivers']),
        logits(batch['pairs'][..., 0], batch['pairs'][..., 1]),
        _common.flat(batch['bandwidth'][..., i]),
        where=real,
        where_negative=real,  # as many other pairs as there are edges
      )
    value /= config.depth
    return value, ({**state, 'stats': {'encoder': stats}}, {})

  def embed(params, state, batch):
    found = _common.make_embed(_common.encoder_only(encoder))(params, state, batch)
    return {'features': ops.l2_normalize(found['features'])}

  return Method(init=init, views=views, loss=loss, embed=embed)
