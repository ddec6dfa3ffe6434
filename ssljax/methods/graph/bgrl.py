"""BGRL: a node's representation in one view predicts a slow teacher's in the other view.

    p = predictor(encoder(view 1)), t = teacher encoder(view 2), no gradient
    loss = 2 - 2 cos(p, t), a mean over nodes, both ways added; teacher = moving average of encoder

Thakoor, Tallec, Azar, Azabou, Dyer, Munos, Velickovic, Valko 2022, "Large-scale representation
learning on graphs via bootstrapping". Follows the paper; there are no negatives, so cost is linear
in nodes. Batch norm has statistics of each view.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import graph
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.models import heads

PAPER = 'Thakoor et al. 2022, Large-scale representation learning on graphs via bootstrapping'
FAMILY = 'self-distillation'
LEVEL = ('node',)
PRESETS = ('cora',)


def get_config(preset='cora'):
  """'cora': appendix B's settings for citation graphs of this size (the paper has others);
  'tiny' is for a thousand nodes."""
  method = dict(drop_edges=(0.2, 0.4), mask_features=(0.3, 0.4), momentum=0.99)
  method['total_steps'] = config_dict.placeholder(int)
  sizes = {'cora': (256, 512, 500), 'tiny': (64, 128, 200)}
  dim, hidden, epochs = sizes[preset]
  return ConfigDict(
    dict(
      encoder=dict(name='gcn', dim=dim, hidden=hidden, activation='prelu', norm='batch'),
      batch_size=1,
      epochs=epochs,
      optim=_common.adam(1e-3, 1e-5) | dict(schedule='cosine', warmup_fraction=0.1),
      method=method | dict(predictor_hidden=hidden),
    )
  )


def make(config, nets):
  encoder = nets['encoder']

  def predictor(width):
    return heads.mlp((config.predictor_hidden, width), norm=None)

  def views(rng, batch):
    made = []
    for i in range(2):
      edges_rng, features_rng = jax.random.split(jax.random.fold_in(rng, i))
      view = graph.drop_edges(edges_rng, batch, config.drop_edges[i])
      made.append(graph.mask_features(features_rng, view, config.mask_features[i]))
    return {**batch, 'views': tuple(made)}

  def init(rng, batch):
    first, second = jax.random.split(rng)
    params, stats = encoder.init(first, batch['views'][0])
    h = encoder.apply(params, stats, batch['views'][0], train=False)[0]['features']
    head, _ = predictor(h.shape[-1]).init(second, h)
    state = {'stats': {'encoder': stats}, 'teacher': params, 'teacher_stats': stats}
    return {'encoder': params, 'predictor': head}, state

  def loss(params, state, batch, rng, step):
    stats, teacher_stats = state['stats']['encoder'], state['teacher_stats']
    where, seen, wanted = _common.flat(batch['nodes']), [], []
    for i, view in enumerate(batch['views']):
      view_rng = jax.random.fold_in(rng, i)
      outputs, stats = encoder.apply(params['encoder'], stats, view, train=True, rng=view_rng)
      h = _common.flat(outputs['features'])
      seen.append(predictor(h.shape[-1]).apply(params['predictor'], {}, h, train=True)[0])
      outputs, teacher_stats = encoder.apply(
        state['teacher'], teacher_stats, view, train=True, rng=view_rng
      )
      wanted.append(jax.lax.stop_gradient(_common.flat(outputs['features'])))
    value = 2 * sum(
      losses.sce(p, t, gamma=1.0, eps=None, where=where)
      for p, t in zip(seen, wanted[::-1], strict=True)
    )
    return value, (
      {**state, 'stats': {'encoder': stats}, 'teacher_stats': teacher_stats},
      {'feature_std': jnp.mean(jnp.std(wanted[0], axis=0))},
    )

  def update(params, state, step):
    momentum = ops.cosine_ramp(step, config.total_steps, config.momentum)
    return {**state, 'teacher': ops.ema(state['teacher'], params['encoder'], momentum)}

  return Method(
    init=init,
    views=views,
    loss=loss,
    update=update,
    embed=_common.make_embed(_common.encoder_only(encoder)),
  )
