"""HypeBoy: the node that is missing from a hyperedge is found among all nodes.

    views: hyperedges dropped, and features masked; z = encoder(hypergraph)
    query of (e, v) = head2(sum of z of the other members of e), key of v = head1(z_v)
    loss = losses.hypeboy(queries, keys)
    in the first stage ('features'): some nodes get a learned token for their features, another for
      their z, and loss = losses.sce(linear(decoder(z, hypergraph)), features) at these

Kim, Kang, Bu, Lee, Yoo, Shin 2024, "HypeBoy: generative self-supervised representation learning on
hypergraphs". Two stages as in the paper: a run with method.stage=features, then one with
method.stage=filling and init_from= the first. Follows the authors' code in the loss, a mean over
queries here, in its encoder and heads and its settings; the decoder is as wide as the encoder here,
with a linear layer behind it, and as wide as the features there. Hyperedges of one member ask
nothing. Where all that a masked node hears of is masked, what is decoded is at first zero: it gets
no gradient here, and one over the cosine's eps, 1e-6, there. With GraphMAE's 1e-12 Adam stands
still for the whole stage.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, models, ops
from ssljax.errors import InputError
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.models import heads

PAPER = 'Kim et al. 2024, HypeBoy: generative self-supervised learning on hypergraphs'
FAMILY = 'masked-modelling'
LEVEL = ('node',)
PRESETS = ('cora', 'cora_features')
STAGES = ('filling', 'features')


def get_config(preset='cora'):
  """'cora', 'cora_features': the two stages in the authors' settings; 'tiny' is for few nodes. Of a
  plain graph each edge is a hyperedge."""
  width, epochs = {'cora': (128, 200), 'cora_features': (128, 300), 'tiny': (64, 100)}[preset]
  features = preset == 'cora_features'
  return ConfigDict(
    dict(
      encoder=dict(name='hypergraph', dim=width, drop=0.5),
      batch_size=1,
      epochs=epochs,
      optim=_common.adam(1e-3, 1e-6),
      method=dict(
        stage='features' if features else 'filling',
        drop_hyperedges=0.2 if features else 0.9,
        mask_features=0.4,  # each by itself, in the stage 'filling'
        mask_nodes=0.5,  # in the stage 'features'
        gamma=1.0,
        head=width,
      ),
    )
  )


def with_hyperedges(batch):
  """The batch with 'member' and 'hyperedge'; those of a plain graph are its edges."""
  if 'member' in batch:
    return batch
  once = batch['edges'] & (batch['senders'] < batch['receivers'])
  number = jnp.arange(once.shape[1])
  member = jnp.concatenate([batch['senders'], batch['receivers']], 1)
  real = jnp.concatenate([once, once], 1)
  which = jnp.broadcast_to(jnp.concatenate([number, number]), member.shape)
  return {
    **batch,
    'member': jnp.where(real, member, -1),
    'hyperedge': jnp.where(real, which, -1),
  }


def uniform(rng, like):
  """Numbers in [0, 1) in the shape of `like`, each pack's from a key of its own."""
  rngs = jax.random.split(rng, len(like))
  return jax.vmap(lambda rng: jax.random.uniform(rng, like.shape[1:]))(rngs)


def make(config, nets):
  if config.stage not in STAGES:
    raise InputError(f'method.stage is {config.stage!r}, wanted one of {", ".join(STAGES)}')
  encoder, head = nets['encoder'], heads.mlp((config.head, config.head), norm=None)
  decoder = models.get_config('hypergraph')
  decoder.dim = config.head
  decoder = models.make(decoder, dtype=jnp.float32)

  def views(rng, batch):
    batch = with_hyperedges(batch)
    edges_rng, features_rng, nodes_rng = jax.random.split(rng, 3)
    draws = uniform(edges_rng, batch['member'])
    gone = ops.at_nodes(draws, jnp.maximum(batch['hyperedge'], 0)) < config.drop_hyperedges
    seen = {name: jnp.where(gone, -1, batch[name]) for name in ('member', 'hyperedge')}
    masked = batch['nodes'] & (uniform(nodes_rng, batch['nodes']) < config.mask_nodes)
    if config.stage == 'filling':
      seen['x'] = jnp.where(uniform(features_rng, batch['x']) < config.mask_features, 0, batch['x'])
    return {**batch, 'seen': {**batch, **seen}, 'masked': masked}

  def init(rng, batch):
    rngs = jax.random.split(rng, 3)
    params, stats = encoder.init(rngs[0], batch['seen'])
    z = encoder.apply(params, stats, batch['seen'], train=False)[0]['features']
    params, stats = {'encoder': params}, {'encoder': stats}
    if config.stage == 'features':
      hidden = {**batch['seen'], 'x': z}
      made = decoder.init(rngs[1], hidden)
      params['decoder'], stats['decoder'] = made
      decoded = decoder.apply(*made, hidden, train=False)[0]['features']
      params['output'], _ = output(batch).init(rngs[2], decoded)
      params['tokens'] = {
        'features': jnp.zeros(batch['x'].shape[-1]), 'z': jnp.zeros(z.shape[-1])
      }  # fmt: skip
    else:
      params['key_head'], _ = head.init(rngs[1], z)
      params['query_head'], _ = head.init(rngs[2], z)
    return params, {'stats': stats}

  def output(batch):
    return heads.mlp((batch['x'].shape[-1],), norm=None)

  def loss(params, state, batch, rng, step):
    of_stage = features if config.stage == 'features' else filling
    value, stats = of_stage(params, state['stats'], batch, rng)
    return value, ({**state, 'stats': {**state['stats'], **stats}}, {})

  def encode(params, stats, graph, rng):
    outputs, new = encoder.apply(params['encoder'], stats['encoder'], graph, train=True, rng=rng)
    return outputs['features'], new

  def features(params, stats, batch, rng):
    first, second = jax.random.split(rng)
    masked, seen = batch['masked'][..., None], batch['seen']
    x = jnp.where(masked, params['tokens']['features'], batch['x'])
    z, of_encoder = encode(params, stats, {**seen, 'x': x}, first)
    hidden = {**seen, 'x': jnp.where(masked, params['tokens']['z'], z)}
    outputs, of_decoder = decoder.apply(
      params['decoder'], stats['decoder'], hidden, train=True, rng=second
    )
    decoded, _ = output(batch).apply(params['output'], {}, outputs['features'], train=True)
    value = losses.sce(
      _common.flat(decoded), _common.flat(batch['x']), gamma=config.gamma, eps=None,
      where=_common.flat(batch['masked']),
    )  # fmt: skip
    return value, {'encoder': of_encoder, 'decoder': of_decoder}

  def filling(params, stats, batch, rng):
    z, of_encoder = encode(params, stats, batch['seen'], rng)
    real, size = batch['member'] >= 0, batch['member'].shape[1]
    member = jnp.maximum(batch['member'], 0)
    hyperedge = jnp.where(real, batch['hyperedge'], size)
    own = ops.at_nodes(z, member) * real[..., None]
    total = ops.aggregate(own, hyperedge, size)
    number = ops.aggregate(real.astype(jnp.float32), hyperedge, size)
    place = jnp.minimum(hyperedge, size - 1)
    others = ops.at_nodes(total, place) - own
    asks = real & (ops.at_nodes(number, place) > 1)
    queries, _ = head.apply(params['query_head'], {}, others, train=True)
    keys, _ = head.apply(params['key_head'], {}, z, train=True)
    # A pack's nodes come after those of the packs before it.
    first = jnp.arange(len(z))[:, None] * z.shape[1]
    value = losses.hypeboy(
      _common.flat(queries),
      _common.flat(keys),
      _common.flat(member + first),
      where=_common.flat(asks),
      keys_where=_common.flat(batch['nodes']),
      reduce='mean',
    )
    return value, {'encoder': of_encoder}

  def embed(params, state, batch):
    outputs, _ = encoder.apply(
      params['encoder'], state['stats']['encoder'], with_hyperedges(batch), train=False
    )
    return {'features': _common.flat(outputs['features']).astype(jnp.float32)}

  return Method(init=init, views=views, loss=loss, embed=embed)
