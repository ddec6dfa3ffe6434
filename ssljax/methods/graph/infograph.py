"""InfoGraph: the nodes of a graph know its summary from those of the other graphs of the batch.

    loss = losses.local_global(projected nodes, projected graphs), nodes and graphs by one GIN

Sun, Hoffmann, Verma, Tang 2020, "InfoGraph: unsupervised and semi-supervised graph-level
representation learning via mutual information maximization". Follows the authors' code, without its
optional prior term. Features are of all layers, side by side, summed over nodes.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.method import two_part
from ssljax.methods.graph import _common
from ssljax.models import heads
from ssljax.net import fork

PAPER = (
  'Sun et al. 2020, InfoGraph: unsupervised and semi-supervised graph-level representation learning'
)
FAMILY = 'contrastive'
LEVEL = ('graph',)
PRESETS = ('graphs',)


def get_config(preset='graphs'):
  """'graphs': the authors' code; 'tiny' is for a few hundred small graphs."""
  gin = dict(name='gin', jump='concat')
  return ConfigDict(
    {
      'graphs': dict(
        encoder=gin | dict(dim=32, depth=4),
        batch_size=128,
        epochs=20,
        optim=_common.adam(1e-3),
        method=dict(projector=(128, 128, 128)),
      ),
      'tiny': dict(
        encoder=gin | dict(dim=32, depth=3),
        batch_size=64,
        epochs=20,
        optim=_common.adam(1e-3),
        method=dict(projector=(96, 96)),
      ),
    }[preset]
  )


def make(config, nets):
  network = fork(
    {'graphs': lambda outputs: outputs['pooled']},
    encoder=nets['encoder'],
    nodes=heads.mlp(config.projector, norm=None),
    graphs=heads.mlp(config.projector, norm=None),
  )

  def init(rng, batch):
    params, stats = network.init(rng, batch)
    return params, {'stats': stats}

  def forward(params, state, batch, rng, step):
    outputs, stats = network.apply(params, state['stats'], batch, train=True, rng=rng)
    return {name: outputs[name] for name in ('nodes', 'graphs')}, {**state, 'stats': stats}

  def objective(params, state, outputs, batch, rng, step):
    first = jnp.arange(len(batch['graph']))[:, None] * batch['index'].shape[1]
    of_graph = _common.flat(jnp.where(batch['nodes'], batch['graph'] + first, 0))
    value = losses.local_global(
      *(_common.flat(outputs[name]) for name in ('nodes', 'graphs')),
      of_graph,
      where=_common.flat(batch['nodes']),
    )
    return value, (state, {})

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    embed=_common.make_embed(network, 'graph'),
  )
