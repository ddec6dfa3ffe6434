"""GRACE: each node of a graph finds itself in another view of the graph.

    two views: edges dropped, and columns of the features masked, at rates of their own
    z = projector(encoder(view)), loss = losses.grace(z1, z2), over all nodes of both views

Zhu, Xu, Yu, Liu, Wu, Wang 2020, "Deep graph contrastive representation learning". Follows the
authors' code, but for the two directions of an edge, which are dropped as one here. The hidden
layer has twice the width of the last, as there.
"""

import functools

import jax
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import graph
from ssljax.methods.graph import _common
from ssljax.models import heads
from ssljax.net import chain

PAPER = 'Zhu et al. 2020, Deep graph contrastive representation learning'
FAMILY = 'contrastive'
LEVEL = ('node',)
PRESETS = ('cora', 'citeseer')


def get_config(preset='cora'):
  """'cora', 'citeseer': the authors' `config.yaml`; 'tiny' is for graphs of a thousand nodes."""
  common = dict(chunk_size=256)  # rows of similarities at a time; 0 for all
  return ConfigDict(
    {
      'cora': dict(
        encoder=dict(name='gcn', dim=128, hidden=256),
        batch_size=1,
        epochs=200,
        optim=_common.adam(5e-4, 1e-5),
        method=common
        | dict(
          drop_edges=(0.2, 0.4), mask_features=(0.3, 0.4), temperature=0.4, projector=(128, 128)
        ),
      ),
      'citeseer': dict(
        encoder=dict(name='gcn', dim=256, hidden=512, activation='prelu'),
        batch_size=1,
        epochs=200,
        optim=_common.adam(1e-3, 1e-5),
        method=common
        | dict(
          drop_edges=(0.2, 0.0), mask_features=(0.3, 0.2), temperature=0.9, projector=(256, 256)
        ),
      ),
      'tiny': dict(
        encoder=dict(name='gcn', dim=64, hidden=128),
        batch_size=1,
        epochs=150,
        optim=_common.adam(1e-3, 1e-5),
        method=common
        | dict(
          drop_edges=(0.2, 0.4), mask_features=(0.3, 0.4), temperature=0.4, projector=(64, 64)
        ),
      ),
    }[preset]
  )


def make(config, nets):
  network = chain(
    encoder=nets['encoder'], projector=heads.mlp(config.projector, norm=None, activation=jax.nn.elu)
  )

  def views(rng, batch):
    made = []
    for i in range(2):
      edges_rng, features_rng = jax.random.split(jax.random.fold_in(rng, i))
      view = graph.drop_edges(edges_rng, batch, config.drop_edges[i])
      made.append(graph.mask_features(features_rng, view, config.mask_features[i]))
    return made

  loss = functools.partial(
    losses.grace, temperature=config.temperature, chunk_size=config.chunk_size or None
  )
  return _common.two_views(config, network, views, lambda z1, z2, where: loss(z1, z2, where=where))
