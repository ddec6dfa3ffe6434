"""HypeBoy: the node that is missing from a hyperedge is found among all nodes.

    views: hyperedges dropped, and features masked; z = encoder(hypergraph)
    query of (e, v) = head2(sum of z of the other members of e), key of v = head1(z_v)
    loss = losses.hypeboy(queries, keys), or in the first stage ('features') losses.sce of the
      features of masked nodes, decoded from z

Kim, Kang, Bu, Lee, Yoo, Shin 2024, "HypeBoy: generative self-supervised representation learning on
hypergraphs". Two stages as in the paper: a run with method.stage=features, then one with
method.stage=filling and init_from= the first. Follows the authors' code in the loss, a mean over
queries here; hyperedges of one member ask nothing.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import graph
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
  """'cora', 'cora_features': the two stages in the authors' settings for citation sets; 'tiny' is
  for a hundred nodes. `encoder.name=hypergraph` needs data with hyperedges; of a plain graph each
  edge is one."""
  width, epochs = {'cora': (128, 200), 'cora_features': (128, 300), 'tiny': (64, 100)}[preset]
  return ConfigDict(
    dict(
      encoder=dict(name='hypergraph', dim=width, drop=0.0),
      batch_size=1,
      epochs=epochs,
      optim=_common.adam(1e-3, 1e-6),
      method=dict(
        stage='features' if preset == 'cora_features' else 'filling',
        drop_hyperedges=0.4,
        mask_features=0.4,
        mask_nodes=0.5,  # in the stage 'features'
        gamma=2.0,
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


def make(config, nets):
  if config.stage not in STAGES:
    raise InputError(f'method.stage is {config.stage!r}, wanted one of {", ".join(STAGES)}')
  encoder = nets['encoder']

  def views(rng, batch):
    batch = with_hyperedges(batch)
    edges_rng, features_rng, nodes_rng = jax.random.split(rng, 3)
    size = batch['member'].shape[1]
    draws = jax.vmap(lambda r: jax.random.uniform(r, (size,)))(
      jax.random.split(edges_rng, len(batch['x']))
    )
    gone = ops.at_nodes(draws, jnp.maximum(batch['hyperedge'], 0)) < config.drop_hyperedges
    seen = graph.mask_features(features_rng, batch, config.mask_features)
    hide = jax.vmap(lambda r: jax.random.uniform(r, batch['nodes'].shape[1:]))(
      jax.random.split(nodes_rng, len(batch['x']))
    )
    masked = batch['nodes'] & (hide < config.mask_nodes)
    if config.stage == 'features':
      seen = {**batch, 'x': jnp.where(masked[..., None], 0, batch['x'])}
    for name in ('member', 'hyperedge'):
      seen = {**seen, name: jnp.where(gone, -1, batch[name])}
    return {**batch, 'seen': seen, 'masked': masked}

  def init(rng, batch):
    rngs = jax.random.split(rng, 3)
    params, stats = encoder.init(rngs[0], batch['seen'])
    z = encoder.apply(params, stats, batch['seen'], train=False)[0]['features']
    params = {'encoder': params}
    for name, r in zip(networks(batch), rngs[1:], strict=False):
      params[name], _ = networks(batch)[name].init(r, z)
    return params, {'stats': {'encoder': stats}}

  def networks(batch):
    width = batch['x'].shape[-1]
    if config.stage == 'features':
      return {'decoder': heads.mlp((width,), norm=None)}
    return {name: heads.mlp((config.head,), norm=None) for name in ('key_head', 'query_head')}

  def loss(params, state, batch, rng, step):
    outputs, stats = encoder.apply(
      params['encoder'], state['stats']['encoder'], batch['seen'], train=True, rng=rng
    )
    z = outputs['features']
    made = networks(batch)
    if config.stage == 'features':
      decoded, _ = made['decoder'].apply(params['decoder'], {}, z, train=True)
      value = losses.sce(
        _common.flat(decoded), _common.flat(batch['x']), gamma=config.gamma,
        where=_common.flat(batch['masked']),
      )  # fmt: skip
    else:
      value = filling(params, made, z, batch)
    return value, ({**state, 'stats': {'encoder': stats}}, {})

  def filling(params, made, z, batch):
    real, size = batch['member'] >= 0, batch['member'].shape[1]
    member = jnp.maximum(batch['member'], 0)
    hyperedge = jnp.where(real, batch['hyperedge'], size)
    own = ops.at_nodes(z, member) * real[..., None]
    total = ops.aggregate(own, hyperedge, size)
    number = ops.aggregate(real.astype(jnp.float32), hyperedge, size)
    place = jnp.minimum(hyperedge, size - 1)
    others = ops.at_nodes(total, place) - own
    asks = real & (ops.at_nodes(number, place) > 1)
    queries, _ = made['query_head'].apply(params['query_head'], {}, others, train=True)
    keys, _ = made['key_head'].apply(params['key_head'], {}, z, train=True)
    # A pack's nodes come after those of the packs before it.
    first = jnp.arange(len(z))[:, None] * z.shape[1]
    return losses.hypeboy(
      _common.flat(queries),
      _common.flat(keys),
      _common.flat(member + first),
      where=_common.flat(asks),
      keys_where=_common.flat(batch['nodes']),
      reduce='mean',
    )

  def embed(params, state, batch):
    outputs, _ = encoder.apply(
      params['encoder'], state['stats']['encoder'], with_hyperedges(batch), train=False
    )
    return {'features': _common.flat(outputs['features']).astype(jnp.float32)}

  return Method(init=init, views=views, loss=loss, embed=embed)
