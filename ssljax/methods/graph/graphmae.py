"""GraphMAE: features of masked nodes are reconstructed from a graph network's codes.

    x of a share of nodes becomes a learned token (a few get another node's x instead)
    codes = encoder(graph), projected, set to 0 at masked nodes again, decoded by one graph layer
    loss = losses.sce(decoded, x) at masked nodes

Hou, Liu, Cen, Dong, Yang, Wang, Tang 2022, "GraphMAE: self-supervised masked graph autoencoders".
Follows the authors' code: `replace` is the share of masked nodes that get another node's features,
and the codes are masked again by 0. There graphs have self-loops, which a GAT has anyway and a GIN
by the weight of a node itself.

A hidden node whose neighbours are all hidden is decoded to the decoder's bias, and that is 0 at
first: the gradient there is of the order 1 / eps, and Adam, which remembers its square for
thousands of steps, moves the bias by a few steps' worth and then hardly any more. So that bias
can't learn the mean of all features, which would lower the loss and spare the encoder the work.
`losses.sce` has the authors' eps for that.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, models
from ssljax.augment import graph
from ssljax.errors import InputError
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.models import heads

PAPER = 'Hou et al. 2022, GraphMAE: self-supervised masked graph autoencoders'
FAMILY = 'masked-modelling'
LEVEL = ('node', 'graph')
PRESETS = ('cora', 'citeseer', 'graphs', 'mutag', 'imdb', 'nci1')


def get_config(preset='cora'):
  """'cora', 'citeseer', 'graphs' (PROTEINS), 'mutag', 'imdb' (IMDB-B), 'nci1': the authors'
  `configs.yml`; 'tiny' is for a thousand nodes. For Citeseer it names gamma 1 and 3: 3 is better
  here."""
  whole_cosine = dict(schedule='cosine', decay_all=True)  # biases and the token too, as in torch
  gat = dict(
    name='gat', dim=512, heads=4, last_heads=4, last_concat=True, activation='prelu', drop=0.2,
    attention_drop=0.1, kernel_init='glorot_relu',
  )  # fmt: skip
  gin = dict(name='gin', mlp_norm=True, pool='max', activation='prelu', drop=0.2, own=2.0)
  node = dict(
    level='node', mask_ratio=0.5, replace=0.05, gamma=3.0, drop_edges=0.0, decoder='gat',
    decoder_drop=0.2, decoder_attention_drop=0.1,
  )  # fmt: skip
  whole = node | dict(level='graph', replace=0.0, gamma=1.0, decoder='gin')
  return ConfigDict(
    {
      'cora': dict(
        encoder=gat,
        batch_size=1,
        epochs=1500,
        optim=_common.adam(1e-3, 2e-4) | whole_cosine,
        method=node,
      ),
      'citeseer': dict(
        encoder=gat | dict(heads=2, last_heads=2),
        batch_size=1,
        epochs=300,
        optim=_common.adam(1e-3, 2e-5) | whole_cosine,
        method=node | dict(replace=0.1),
      ),
      'graphs': dict(
        encoder=gin | dict(dim=512, depth=3),
        batch_size=32,
        epochs=100,
        optim=_common.adam(1.5e-4),
        method=whole,
      ),
      'mutag': dict(
        encoder=gin | dict(dim=32, depth=5, pool='sum'),
        batch_size=64,
        epochs=20,
        optim=_common.adam(5e-4),
        method=whole | dict(mask_ratio=0.75, replace=0.1, gamma=2.0),
      ),
      'imdb': dict(
        encoder=gin | dict(dim=512, depth=2, pool='mean'),
        batch_size=32,
        epochs=60,
        optim=_common.adam(1.5e-4),
        method=whole,
      ),
      'nci1': dict(
        encoder=gin | dict(dim=512, depth=2, pool='sum'),
        batch_size=16,
        epochs=300,
        optim=_common.adam(1e-3) | dict(schedule='cosine'),
        method=whole | dict(mask_ratio=0.25, replace=0.1, gamma=2.0),
      ),
      'tiny': dict(
        encoder=gat | dict(dim=64),
        batch_size=1,
        epochs=200,
        optim=_common.adam(1e-3, 2e-4),
        method=node,
      ),
    }[preset]
  )


def make(config, nets):
  if config.level not in LEVEL:
    raise InputError(f"method.level is {config.level!r}, wanted 'node' or 'graph'")
  encoder = nets['encoder']

  def decoder(width, hidden):
    made = models.get_config(config.decoder)
    made.update(
      dim=width, depth=1, heads=1, last_heads=1, norm='', activation='prelu', last_activation=False,
      drop=config.decoder_drop, attention_drop=config.decoder_attention_drop,
      kernel_init='glorot_relu', mlp_norm=True, mlp_hidden=hidden, own=2.0,
    )  # fmt: skip
    return models.make(made, dtype=jnp.float32)

  def linear(width):
    return heads.mlp((width,), norm=None, last_bias=False)

  def views(rng, batch):
    order_rng, other_rng, replace_rng, edges_rng = jax.random.split(rng, 4)
    draws = jax.vmap(lambda r: jax.random.uniform(r, batch['nodes'].shape[1:]))(
      jax.random.split(order_rng, len(batch['x']))
    )
    _, size = graph.graph_sizes(batch)
    rank = graph.rank_in_graph(draws, batch)
    masked = (rank < jnp.floor(config.mask_ratio * size)) & batch['nodes']
    chance = jax.vmap(lambda r: jax.random.uniform(r, batch['nodes'].shape[1:]))(
      jax.random.split(replace_rng, len(batch['x']))
    )
    other = _common.random_pairs(other_rng, batch, batch['nodes'].shape[1])[..., 0]
    made = {
      **batch,
      'masked': masked,
      'other': other,
      'replaced': masked & (chance < config.replace),
    }
    if config.drop_edges:
      made |= {'edges': graph.drop_edges(edges_rng, batch, config.drop_edges)['edges']}
    return made

  def hide(token, batch):
    other = jnp.take_along_axis(batch['x'], batch['other'][..., None], axis=1)
    x = jnp.where(batch['masked'][..., None], token.astype(batch['x'].dtype), batch['x'])
    return {**batch, 'x': jnp.where(batch['replaced'][..., None], other, x)}

  def init(rng, batch):
    rngs = jax.random.split(rng, 3)
    params, stats = encoder.init(rngs[0], batch)
    features = encoder.apply(params, stats, batch, train=False)[0]['features']
    projected, _ = linear(features.shape[-1]).init(rngs[1], features)
    decoded, decoder_stats = decoder(batch['x'].shape[-1], features.shape[-1]).init(
      rngs[2], {**batch, 'x': features}
    )
    token = jnp.zeros(batch['x'].shape[-1])
    made = {'encoder': params, 'projector': projected, 'decoder': decoded, 'mask_token': token}
    return made, {'stats': {'encoder': stats, 'decoder': decoder_stats}}

  def loss(params, state, batch, rng, step):
    stats = state['stats']
    outputs, encoder_stats = encoder.apply(
      params['encoder'], stats['encoder'], hide(params['mask_token'], batch), train=True, rng=rng
    )
    codes = outputs['features']
    codes, _ = linear(codes.shape[-1]).apply(params['projector'], {}, codes, train=True)
    codes = jnp.where(batch['masked'][..., None], 0, codes)
    decoded, decoder_stats = decoder(batch['x'].shape[-1], codes.shape[-1]).apply(
      params['decoder'], stats['decoder'], {**batch, 'x': codes}, train=True, rng=rng
    )
    value = losses.sce(
      _common.flat(decoded['features']),
      _common.flat(batch['x']),
      gamma=config.gamma,
      where=_common.flat(batch['masked']),
    )
    stats = {'encoder': encoder_stats, 'decoder': decoder_stats}
    return value, ({**state, 'stats': stats}, {})

  embed = _common.make_embed(_common.encoder_only(encoder), config.level)
  frozen = {r'^decoder/.*att_r': 'codes that count are 0, and so is what it multiplies'}
  return Method(init=init, views=views, loss=loss, embed=embed, frozen=frozen)
