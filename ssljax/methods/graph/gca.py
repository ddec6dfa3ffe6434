"""GCA: GRACE whose views spare edges and features that matter.

    w of an edge = mean log centrality of its ends, w of a feature = log of the sum over nodes of
      centrality |x|;  p = min(rate (w_max - w) / (w_max - w_mean), threshold)
    loss = losses.grace of two such views

Zhu, Xu, Yu, Liu, Wu, Wang 2021, "Graph contrastive learning with adaptive augmentation". Follows
the authors' code, but for edges: there each direction of an edge has a chance by the node that it
goes to and is drawn by itself, here both have one, as an undirected edge in the paper, which takes
the log of the mean. The centrality is the degree, PageRank, or the eigenvector's.
"""

import functools

import jax
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import centrality, graph
from ssljax.methods.graph import _common
from ssljax.models import heads
from ssljax.net import chain

PAPER = 'Zhu et al. 2021, Graph contrastive learning with adaptive augmentation'
FAMILY = 'contrastive'
LEVEL = ('node',)
PRESETS = ('cora',)


def get_config(preset='cora'):
  """'cora': the settings of GRACE for it, with the authors' threshold (the paper has other data);
  'tiny' is for graphs of a thousand nodes."""
  common = dict(
    centrality='degree',  # or 'pagerank', 'eigenvector'
    threshold=0.7,
    drop_edges=(0.2, 0.4),
    mask_features=(0.3, 0.4),
    temperature=0.4,
    chunk_size=256,
  )
  return ConfigDict(
    {
      'cora': dict(
        encoder=dict(name='gcn', dim=128, hidden=256),
        batch_size=1,
        epochs=200,
        optim=_common.adam(5e-4, 1e-5),
        method=common | dict(projector=(128, 128)),
      ),
      'tiny': dict(
        encoder=dict(name='gcn', dim=64, hidden=128),
        batch_size=1,
        epochs=150,
        optim=_common.adam(1e-3, 1e-5),
        method=common | dict(projector=(64, 64)),
      ),
    }[preset]
  )


def make(config, nets):
  network = chain(
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, norm=None, activation=jax.nn.elu),
  )

  def views(rng, batch):
    scores = centrality.nodes(batch, config.centrality)
    made = []
    for i in range(2):
      edges_rng, features_rng = jax.random.split(jax.random.fold_in(rng, i))
      rates = centrality.edge_rates(batch, scores, config.drop_edges[i], config.threshold)
      view = graph.drop_edges(edges_rng, batch, rates)
      rates = centrality.feature_rates(batch, scores, config.mask_features[i], config.threshold)
      made.append(graph.mask_features(features_rng, view, rates))
    return made

  loss = functools.partial(
    losses.grace, temperature=config.temperature, chunk_size=config.chunk_size or None
  )
  return _common.two_views(config, network, views, lambda z1, z2, where: loss(z1, z2, where=where))
