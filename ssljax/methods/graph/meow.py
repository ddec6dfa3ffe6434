"""MEOW: in a network of several kinds of nodes, one view has who is joined, the other through what.

    groups: the nodes joined by one in-between (papers of one author); a meta-path is one kind
    coarse = what arrives along meta-paths; fine = what arrives from the in-betweens, as contexts
    loss = losses.weighted_info_nce(fine, coarse; itself, weights), nodes that clusterings put
      together not being pushed apart
      + prototype_weight * mean over clusterings and nodes of
        -log( exp(fine_i . c_own / T) / sum_k exp(fine_i . c_k / T) ), c_own the centroid of node i

Yu, Ge, Li, Zhou 2022, "Heterogeneous graph contrastive learning with meta-path contexts and
adaptively weighted negative samples". `adaptive=True` is AdaMEOW: an MLP weighs each negative, and
there are no prototypes, as in the authors' code. Clusterings are several k-means of the coarse
view, one iteration each in every step from centroids that are kept. Features are both views' sum.

Differs from the authors' code: there the coarse view asks, and the fine one is clustered, anew in
every step, into hundreds of clusters, each with a temperature of its own by how dense it is.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.models import graph_heads, heads

PAPER = 'Yu et al. 2022, Heterogeneous graph contrastive learning with meta-path contexts'
FAMILY = 'contrastive'
LEVEL = ('node',)
PRESETS = ('acm',)


def get_config(preset='acm'):
  """'acm': sizes of section 5; 'tiny' is for a thousand nodes."""
  width, epochs = {'acm': (64, 300), 'tiny': (64, 150)}[preset]
  return ConfigDict(
    dict(
      encoder=dict(name='metapath', dim=width, drop=0.3),
      batch_size=1,
      epochs=epochs,
      optim=_common.adam(1e-3),
      method=dict(
        temperature=0.5,
        projector=(width, width),
        anchors=512,
        clusters=(4, 8, 16),  # of the clusterings
        prototype_weight=1.0,  # the authors' for ACM and DBLP; 0.1 for AMiner
        adaptive=False,
      ),
    )
  )


def make(config, nets):
  encoder = nets['encoder']
  projector = heads.mlp(config.projector, norm=None, activation=jax.nn.elu)
  weigher = graph_heads.edge_mlp(config.projector[-1])

  def views(rng, batch):
    return {**batch, 'anchors': _common.random_pairs(rng, batch, config.anchors)[..., 0]}

  def init(rng, batch):
    rngs = jax.random.split(rng, 4)
    params, stats = encoder.init(rngs[0], batch)
    z = encoder.apply(params, stats, batch, train=False)[0]['features']
    params = {'encoder': params, 'projector': projector.init(rngs[1], z)[0]}
    projected = jnp.zeros((1, config.projector[-1]))
    if config.adaptive:
      params['weigher'], _ = weigher.init(rngs[2], projected, projected)
    centroids = {
      f'k{k}': ops.l2_normalize(
        jax.random.normal(jax.random.fold_in(rngs[3], k), (k, config.projector[-1]))
      )
      for k in config.clusters
    }
    return params, {'stats': {'encoder': stats}, 'centroids': centroids}

  def loss(params, state, batch, rng, step):
    outputs, stats = encoder.apply(
      params['encoder'], state['stats']['encoder'], batch, train=True, rng=rng
    )
    coarse, fine = (
      ops.l2_normalize(
        projector.apply(params['projector'], {}, outputs[n], train=True)[0].astype(jnp.float32)
      )
      for n in ('coarse', 'fine')
    )
    weight, pull, centroids = by_clusters(fine, coarse, state['centroids'], batch)
    own = batch['anchors'][..., None] == jnp.arange(coarse.shape[1])
    others = batch['nodes'][:, None] & ~own
    if config.adaptive:
      asked = ops.at_nodes(fine, batch['anchors'])[:, :, None]
      logits, _ = weigher.apply(params['weigher'], {}, asked, coarse[:, None], train=True)
      weight = jax.nn.sigmoid(logits)
    value = losses.weighted_info_nce(
      _common.flat(ops.at_nodes(fine, batch['anchors'])),
      _common.flat(coarse),
      _common.flat(own).astype(jnp.float32),
      _common.flat(weight * others),
      temperature=config.temperature,
    )
    if not config.adaptive:
      value += config.prototype_weight * pull
    return value, ({**state, 'stats': {'encoder': stats}, 'centroids': centroids}, {})

  def by_clusters(fine, coarse, kept, batch):
    """The share of clusterings that part an anchor and a node, [P, S, N]; the cross-entropy of each
    node's own cluster among all of its clustering; the moved centroids."""
    parted, pull, moved = 0.0, 0.0, {}
    # Rows of zeros count for nothing.
    rows = jax.lax.stop_gradient(_common.flat(coarse * batch['nodes'][..., None]))
    for name, centroids in kept.items():
      moved[name], near = ops.kmeans(rows, len(centroids), init=centroids, iters=1, spherical=True)
      own = jax.nn.one_hot(near, len(centroids))
      pull += losses.weighted_info_nce(
        _common.flat(fine), moved[name], own, 1 - own,
        temperature=config.temperature, where=_common.flat(batch['nodes']),
      )  # fmt: skip
      near = near.reshape(coarse.shape[:2])
      anchors = jnp.take_along_axis(near, batch['anchors'], 1)
      parted += (anchors[..., None] != near[:, None]).astype(jnp.float32)
    return parted / len(kept), pull / len(kept), moved

  def embed(params, state, batch):
    outputs, _ = encoder.apply(params['encoder'], state['stats']['encoder'], batch, train=False)
    return {'features': _common.flat(outputs['features']).astype(jnp.float32)}

  return Method(init=init, views=views, loss=loss, embed=embed)
