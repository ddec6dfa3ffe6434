"""MVGRL: nodes in a graph's adjacency know the summary of its diffusion, and the reverse.

    two encoders: of the graph, and of its personalised PageRank; one projector each for nodes and
      graphs (levels 'graph'), or a bilinear discriminator (level 'node')
    node level:  losses.dgi of (nodes of one, summary of the other), features shuffled as negatives
    graph level: losses.local_global of (nodes of one, graphs of the other), both ways; nodes are
      those of the last layer, graphs the sums of all layers
    features = the sum of both encoders', of graphs behind their projector

Hassani & Khasahmadi 2020, "Contrastive multi-view representation learning on graphs". Follows the
authors' code, but for this: it cuts 2,000 nodes out of a graph and keeps a dense diffusion matrix
of them; here the whole graph is used, and the diffusion applied step by step (`diffusion_steps`),
the same up to 0.8^steps, in memory linear in edges.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.errors import InputError
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.models import graph_heads

PAPER = 'Hassani & Khasahmadi 2020, Contrastive multi-view representation learning on graphs'
FAMILY = 'contrastive'
LEVEL = ('node', 'graph')
PRESETS = ('cora', 'graphs')


def get_config(preset='cora'):
  """'cora': section 4 and the authors' node code; 'graphs': their graph code; 'tiny': a thousand
  nodes. diffusion_steps and teleport: of the diffusion, alpha 0.2 as in the paper."""
  common = dict(diffusion_steps=10, teleport=0.2)
  node = dict(level='node', projector=())
  return ConfigDict(
    {
      'cora': dict(
        encoder=dict(name='gcn', dim=512, depth=1, activation='prelu'),
        batch_size=1,
        epochs=300,
        optim=_common.adam(1e-3),
        method=common | node,
      ),
      'graphs': dict(
        encoder=dict(name='gcn', dim=512, depth=4, activation='prelu', jump='concat'),
        batch_size=64,
        epochs=20,
        optim=_common.adam(1e-3),
        method=common | dict(level='graph', projector=(512, 512, 512)),
      ),
      'tiny': dict(
        encoder=dict(name='gcn', dim=128, depth=1, activation='prelu'),
        batch_size=1,
        epochs=150,
        optim=_common.adam(1e-3),
        method=common | node,
      ),
    }[preset]
  )


def make(config, nets):
  if config.level not in LEVEL:
    raise InputError(f"method.level is {config.level!r}, wanted 'node' or 'graph'")
  encoder = nets['encoder']
  # Which matrix each of the two encoders, of one kind, passes messages along.
  encoders = {'encoder': (0, 0.0), 'diffusion': (config.diffusion_steps, config.teleport)}
  discriminator = graph_heads.bilinear()
  projectors = {
    name: graph_heads.shortcut_mlp(config.projector) for name in ('nodes_head', 'graphs_head')
  }

  def encode(params, stats, graph, rng, train=True):
    return {
      name: encoder.apply(
        params[name], stats[name], graph, train=train, rng=rng, diffusion=diffusion
      )[0]
      for name, diffusion in encoders.items()
    }

  def views(rng, batch):
    if config.level == 'graph':
      return batch
    return {**batch, 'corrupted': ops.shuffle_nodes(rng, batch)}

  def init(rng, batch):
    rngs = jax.random.split(rng, 4)
    made = {name: encoder.init(r, batch) for name, r in zip(encoders, rngs[:2], strict=True)}
    params, stats = ({name: pair[i] for name, pair in made.items()} for i in (0, 1))
    outputs = encode(params, stats, batch, rngs[2], train=False)['encoder']
    if config.level == 'node':
      params['discriminator'], _ = discriminator.init(
        rngs[3], outputs['features'], outputs['features'][:, :1]
      )
    else:
      inputs = outputs['layers'][-1], outputs['pooled']
      for (name, net), x, r in zip(
        projectors.items(), inputs, jax.random.split(rngs[3]), strict=True
      ):
        params[name], _ = net.init(r, x)
    return params, {'stats': stats}

  def node_loss(params, stats, batch, rng):
    real = encode(params, stats, batch, rng)
    corrupted = encode(params, stats, batch['corrupted'], rng)

    def scores(outputs, nodes, summary):
      mean = ops.readout(real[summary]['features'], batch, 'mean')[:, :1]
      return discriminator.apply(
        params['discriminator'], {}, outputs[nodes]['features'], jax.nn.sigmoid(mean), train=True
      )[0]

    pairs = (('diffusion', 'encoder'), ('encoder', 'diffusion'))
    positive, negative = (
      jnp.concatenate([scores(outputs, *pair) for pair in pairs], -1)
      for outputs in (real, corrupted)
    )
    where = _common.flat(batch['nodes'])
    return losses.dgi(_common.flat(positive), _common.flat(negative), where=where)

  def forward(params, state, batch, rng, step):
    outputs = encode(params, state['stats'], batch, rng)

    def head(name, x):
      return projectors[name].apply(params[name], {}, x, train=True)[0]

    projected = {
      name: {
        'nodes': head('nodes_head', x['layers'][-1]), 'graphs': head('graphs_head', x['pooled'])
      }
      for name, x in outputs.items()
    }  # fmt: skip
    return projected, state

  def objective(params, state, outputs, batch, rng, step):
    count = batch['index'].shape[1]
    # A pack's graphs come after those of the packs before it.
    first = jnp.arange(len(batch['graph']))[:, None] * count
    of_graph = _common.flat(jnp.where(batch['nodes'], batch['graph'] + first, 0))
    where, value = _common.flat(batch['nodes']), 0.0
    for nodes, graphs in (('encoder', 'diffusion'), ('diffusion', 'encoder')):
      value += losses.local_global(
        _common.flat(outputs[nodes]['nodes']), _common.flat(outputs[graphs]['graphs']), of_graph,
        where=where,
      )  # fmt: skip
    return value, (state, {})

  def loss(params, state, batch, rng, step):
    if config.level == 'node':
      return node_loss(params, state['stats'], batch, rng), (state, {'chance_loss': jnp.log(2.0)})
    outputs, state = forward(params, state, batch, rng, step)
    return objective(params, state, outputs, batch, rng, step)

  def embed(params, state, batch):
    outputs = encode(params, state['stats'], batch, None, train=False)
    if config.level == 'node':
      x = sum(outputs[name]['features'] for name in encoders)
    else:
      head = projectors['graphs_head']
      x = sum(
        head.apply(params['graphs_head'], {}, outputs[name]['pooled'], train=False)[0]
        for name in encoders
      )
    return {'features': _common.flat(x).astype(jnp.float32)}

  halves = {} if config.level == 'node' else {'forward': forward, 'objective': objective}
  return Method(init=init, views=views, loss=loss, embed=embed, **halves)
