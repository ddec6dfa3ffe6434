"""All4One: a view agrees with neighbours of the other, with what self-attention makes of several of
them, and feature by feature.

    z = projector(encoder(view)), p = predictor(z), q = predictor2(z), k = the teacher's z
    n = the five nearest to k in the queue, c = attention(n), s = attention(q and the four nearest)
    loss = ( NNCLR(n, p) + InfoNCE(c of one view, s of the other) + feature_contrast(z, k) ) / 2
    then k1 joins the queue, and the teacher moves as in BYOL, see losses.all4one

Estepa et al. 2023, "All4One: symbiotic neighbour contrastive learning via self-attention and
redundancy reduction". Follows the authors' code in solo-learn, also in its table of positions,
whose axes are exchanged (`models.first_token`). There the attention has a learning rate of its own,
0.1; here it has everyone's.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.method import two_part
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.models.first_token import first_token
from ssljax.net import over_views

PAPER = 'Estepa et al. 2023, All4One: symbiotic neighbour contrastive learning'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'cifar': solo-learn's for CIFAR-100, but for the optimizer; 'imagenet': the same heads with
  BYOL's views, ours, as the paper trains on subsets of ImageNet; 'tiny' is ours, with one layer of
  attention, for three cost much beside so small an encoder."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  lars = dict(name='lars', batch_scaling='linear', warmup_fraction=0.01)
  common = dict(
    centroid_temperature=0.1,
    neighbors=5,
    heads=8,
    dropout=0.1,
    view_stats='separate',
    chunk_size=0,  # > 0: rows of products with the batch held at a time
    total_steps=config_dict.placeholder(int),
  )
  large = dict(
    temperature=0.2, tau_base=0.99, queue_size=98304, projector=(2048, 2048, 256),
    predictor=(4096, 256), layers=3,
  )  # fmt: skip
  blur = dict(blur_prob=(1.0, 0.1), solarize_prob=(0.0, 0.2))
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=1024,
        epochs=200,
        optim=dict(learning_rate=0.3, weight_decay=1e-6, **lars),
        method=dict(views=image.get_config(224, **blur, **colour), **large, **common),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=1000,
        optim=dict(learning_rate=1.0, weight_decay=1e-5, **lars),
        method=dict(
          views=image.get_config(32, solarize_prob=(0.0, 0.2), **colour), **large, **common
        ),
      ),
      'tiny': dict(
        method=dict(
          temperature=0.2,
          tau_base=0.97,
          queue_size=4096,
          projector=(256, 256, 64),
          predictor=(256, 64),
          layers=1,
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  width = config.projector[-1]
  predictor = heads.mlp(config.predictor, hidden_bias=False)
  second = over_views(predictor, view_stats=config.view_stats)
  attention = first_token(layers=config.layers, heads=config.heads, dropout=config.dropout)
  draw_views = _pair.make_views(config.views)

  def views(rng, batch):
    # For the dropout in each example's four sequences.
    seeds = jax.random.bits(jax.random.fold_in(rng, 1), (len(batch['image']), 4, 2))
    return {**draw_views(rng, batch), 'seed': seeds}

  def objective(params, state, outputs, batch, rng, step):
    loss = losses.all4one(
      **outputs,
      temperature=config.temperature,
      centroid_temperature=config.centroid_temperature,
      chunk_size=config.chunk_size or None,
    )
    return loss, (_pair.enqueued(state, outputs['targets'][:, 0]), {})

  method = _pair.with_teacher(
    config,
    objective,
    lambda step: ops.cosine_ramp(step, config.total_steps, config.tau_base),
    memory=_pair.queue_memory(config.queue_size, width),
    views=views,
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, hidden_bias=False, last_bias=False, last_norm='batch'),
    predictor=predictor,
  )

  def init(rng, batch):
    params, state = method.init(rng, batch)
    rngs = jax.random.split(jax.random.fold_in(rng, 1))
    params['predictor2'], stats = second.init(rngs[0], jnp.zeros((2, 2, width)))
    params['attention'], _ = attention.init(rngs[1], jnp.zeros((1, config.neighbors, width)))
    return params, {**state, 'predictor2': stats}

  def forward(params, state, batch, rng, step):
    found, state = method.forward(params, state, batch, rng, step)
    z, k = found['z'], found['target']
    q, stats = second.apply(params['predictor2'], state['predictor2'], z, train=True)
    _, ids = ops.nearest(ops.l2_normalize(k).reshape(-1, width), state['queue'], config.neighbors)
    near = state['queue'][ids].reshape(*k.shape[:2], -1, width).astype(q.dtype)
    shifted = jnp.concatenate([q[:, :, None], near[:, :, :-1]], axis=2)
    tokens = jnp.concatenate([near, shifted], axis=1)  # [B, 4, neighbors, D]
    attended, _ = attention.apply(
      params['attention'], {}, tokens.reshape(-1, *tokens.shape[2:]), train=True,
      seeds=batch['seed'].reshape(-1, 2),
    )  # fmt: skip
    centroids, moved = jnp.split(attended.reshape(*tokens.shape[:2], -1), 2, axis=1)
    outputs = {'z': z, 'p': found['p'], 'centroids': centroids, 'shifted': moved, 'targets': k}
    return outputs | {'neighbors': near[:, :, 0]}, {**state, 'predictor2': stats}

  fields = {name: getattr(method, name) for name in ('views', 'embed', 'embed_views', 'update')}
  return two_part(init=init, forward=forward, objective=objective, **fields)
