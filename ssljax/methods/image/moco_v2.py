"""MoCo v2: a query finds its key, a moving-average encoder's, among a queue of earlier keys.

    q = projector(encoder(view 1)), k = projector'(encoder'(view 2))
    loss = -log( exp(q.k / T) / (exp(q.k / T) + sum over the queue exp(q.w / T)) ), see losses.moco
    then k joins the queue, and the key network <- m key network + (1 - m) query network

Chen et al. 2020, "Improved baselines with momentum contrastive learning", over He et al. 2020.
Follows the authors' PyTorch code. Its batch norm takes statistics on each of 8 GPUs after shuffling
the keys' images among them, so that a query cannot know its key by their common statistics:
`bn_splits` groups do the same on any number of devices.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Chen et al. 2020, Improved baselines with momentum contrastive learning'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': MoCo v2, table 1 and the authors' --mlp --aug-plus --cos; 'cifar': their CIFAR-10
  notebook; 'tiny' is ours."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  sgd = dict(name='sgd', momentum=0.9, warmup_fraction=0.0, decay_all=True)
  common = dict(
    view_stats='separate',
    chunk_size=0,  # > 0: queries whose products with the queue are held at a time
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=256,
        epochs=200,
        optim=dict(learning_rate=0.03, weight_decay=1e-4, **sgd),
        method=dict(
          temperature=0.2,
          momentum=0.999,
          queue_size=65536,
          bn_splits=8,
          projector=(2048, 128),
          views=image.get_config(
            224, scale=(0.2, 1.0), interpolation='bilinear', blur_prob=0.5, **colour
          ),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=200,
        optim=dict(learning_rate=0.06, weight_decay=5e-4, **sgd),
        method=dict(
          temperature=0.1,
          momentum=0.99,
          queue_size=4096,
          bn_splits=8,
          projector=(512, 128),
          views=image.get_config(32, **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          temperature=0.2,
          momentum=0.99,
          queue_size=1024,
          bn_splits=1,
          projector=(128, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  def objective(params, state, outputs, batch, rng, step):
    q, k = outputs['z'][:, 0], outputs['target'][:, 0]
    loss = losses.moco(
      q, k, state['queue'], temperature=config.temperature, chunk_size=config.chunk_size or None
    )
    return loss, (_pair.enqueued(state, k), {'chance_loss': jnp.log(1.0 + config.queue_size)})

  return _pair.with_teacher(
    config,
    objective,
    lambda step: config.momentum,
    student_views=slice(0, 1),
    teacher_views=slice(1, 2),
    bn_splits=config.bn_splits,
    memory=_pair.queue_memory(config.queue_size, config.projector[-1]),
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, norm=None),
  )
