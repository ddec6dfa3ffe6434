"""GraphCL: two changed copies of a graph find each other among those of the batch.

    views: each by one of nodes dropped, edges perturbed, features masked, a random walk's subgraph
    z = projector(sum of nodes of encoder(view)), loss = losses.graphcl(z1, z2)

You, Chen, Sui, Chen, Wang, Shen 2020, "Graph contrastive learning with augmentations". Follows the
authors' `unsupervised_TU` in its settings, in the first view, which is the graph itself, and in the
loss, whose positive is not in the denominator. The other views are the paper's, of 20%: the code
drops a tenth of the nodes or edges, adds self-loops and no edges, keeps 20% of the nodes in a
subgraph, and gives a tenth of the nodes features of N(0.5, 0.5) in place of masked ones. `augment`
names the views that may be drawn, one for each batch; the code draws one for each graph.
"""

import jax
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import graph
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.graph import _common
from ssljax.models import heads
from ssljax.net import fork

PAPER = 'You et al. 2020, Graph contrastive learning with augmentations'
FAMILY = 'contrastive'
LEVEL = ('graph',)
PRESETS = ('graphs',)
AUGMENT = {
  'nodes': graph.drop_nodes,
  'edges': graph.perturb_edges,
  'features': graph.mask_nodes,
  'subgraph': lambda rng, batch, rate: graph.walk_subgraph(rng, batch, 1 - rate),
}


def get_config(preset='graphs'):
  """'graphs': the authors' code for TU data sets, but for the views; 'tiny' is for a few hundred
  small graphs."""
  method = dict(augment=('nodes', 'subgraph', 'edges', 'features'), rate=0.2, temperature=0.2)
  gin = dict(name='gin', jump='concat', dim=32)
  return ConfigDict(
    {
      'graphs': dict(
        encoder=gin | dict(depth=3),
        batch_size=128,
        epochs=20,
        optim=_common.adam(1e-2),
        method=method | dict(projector=(96, 96)),
      ),
      'tiny': dict(
        encoder=gin | dict(depth=3),
        batch_size=64,
        epochs=20,
        optim=_common.adam(1e-3),
        method=method | dict(projector=(96, 96)),
      ),
    }[preset]
  )


def make(config, nets):
  unknown = [name for name in config.augment if name not in AUGMENT]
  if unknown or not config.augment:
    raise InputError(f'method.augment is {config.augment}, wanted some of {", ".join(AUGMENT)}')
  network = fork(
    {'projector': lambda outputs: outputs['pooled']},
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, norm=None),
  )
  choices = [AUGMENT[name] for name in config.augment]

  def views(rng, batch):
    which, rng = jax.random.split(rng)
    changed = jax.lax.switch(
      jax.random.randint(which, (), 0, len(choices)),
      [lambda rng, view=view: view(rng, batch, config.rate) for view in choices],
      rng,
    )
    return {**batch, 'changed': changed}

  def init(rng, batch):
    params, stats = network.init(rng, batch)
    return params, {'stats': stats}

  def forward(params, state, batch, rng, step):
    z, stats = [], state['stats']
    for i, view in enumerate((batch, batch['changed'])):
      outputs, stats = network.apply(
        params, stats, view, train=True, rng=jax.random.fold_in(rng, i)
      )
      z.append(outputs['projector'])
    return tuple(z), {**state, 'stats': stats}

  def objective(params, state, z, batch, rng, step):
    value = losses.graphcl(*map(_common.flat, z), temperature=config.temperature)
    return value, (state, {})

  return two_part(
    init=init,
    views=views,
    forward=forward,
    objective=objective,
    embed=_common.make_embed(network, 'graph'),
  )
