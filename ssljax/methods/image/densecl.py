"""DenseCL: MoCo v2, and the same for every place of the feature map.

    one:   q = projector(encoder(view 1)), k = projector'(encoder'(view 2)), MoCo's loss
    dense: q_s, k_t = dense head of the encoder's map at places s, t; k_m(s) with m(s) the place of
           view 2 whose features are the most alike, MoCo's loss at each place against a second
           queue, of the means of k_t over places, see losses.densecl
    loss = (1 - lambda) one + lambda dense; then both queues and the key network move as in MoCo

Wang et al. 2021, "Dense contrastive learning for self-supervised visual pre-training". Follows the
authors' PyTorch code, with MoCo's shuffled batch statistics in `bn_splits` groups.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.net import fork

PAPER = 'Wang et al. 2021, Dense contrastive learning for self-supervised visual pre-training'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': section 4.1 and the authors' densecl_imagenet_200ep; 'cifar' and 'tiny' are
  ours."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  sgd = dict(name='sgd', momentum=0.9, warmup_fraction=0.0, decay_all=True)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=256,
        epochs=200,
        optim=dict(learning_rate=0.03, weight_decay=1e-4, **sgd),
        method=dict(
          temperature=0.2,
          dense_weight=0.5,
          momentum=0.999,
          queue_size=65536,
          chunk_size=32,  # images whose products with the queue are held at a time
          bn_splits=8,
          projector=(2048, 128),
          view_stats='separate',
          views=image.get_config(
            224, scale=(0.2, 1.0), interpolation='bilinear', blur_prob=0.5, **colour
          ),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=200,
        optim=dict(learning_rate=0.06, weight_decay=5e-4, **sgd),
        method=dict(
          temperature=0.2,
          dense_weight=0.5,
          momentum=0.99,
          queue_size=4096,
          chunk_size=0,
          bn_splits=8,
          projector=(512, 128),
          view_stats='separate',
          views=image.get_config(32, **colour),
        ),
      ),
      'tiny': dict(
        method=dict(
          temperature=0.2,
          dense_weight=0.5,
          momentum=0.99,
          queue_size=1024,
          chunk_size=0,
          bn_splits=1,
          projector=(128, 64),
          view_stats='separate',
          views=image.get_config(32, **_pair.TINY_VIEWS),
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  head = functools.partial(heads.mlp, config.projector, norm=None)

  def memory(rng):
    shape = (config.queue_size, config.projector[-1])
    queues = [ops.l2_normalize(jax.random.normal(r, shape)) for r in jax.random.split(rng)]
    return {'queue': queues[0], 'dense_queue': queues[1], 'pointer': jnp.zeros((), jnp.int32)}

  def places(x):  # [B, V, h, w, C] -> [B, V, S, C]
    return x.reshape(*x.shape[:2], -1, x.shape[-1])

  def outputs(found):
    return {
      'one': found['projector'],
      'dense': places(found['dense']),
      'map': places(found['encoder']['map']),
    }

  def objective(params, state, outputs, batch, rng, step):
    q, k = ({name: x[:, 0] for name, x in outputs[of].items()} for of in ('z', 'target'))
    one = losses.moco(q['one'], k['one'], state['queue'], temperature=config.temperature)
    dense = losses.densecl(
      q['dense'], k['dense'], q['map'], k['map'], state['dense_queue'],
      temperature=config.temperature, chunk_size=config.chunk_size or None,
    )  # fmt: skip
    rows = {'queue': k['one'], 'dense_queue': ops.as_float(k['dense']).mean(1)}
    moved = {
      name: ops.enqueue(state[name], state['pointer'], ops.l2_normalize(x))
      for name, x in rows.items()
    }
    state = {**state, **{name: queue for name, (queue, _) in moved.items()}}
    state['pointer'] = moved['queue'][1]
    metrics = {
      'one_loss': one,
      'dense_loss': dense,
      'chance_loss': jnp.log(1.0 + config.queue_size),
    }
    return (1 - config.dense_weight) * one + config.dense_weight * dense, (state, metrics)

  return _pair.with_teacher(
    config,
    objective,
    lambda step: config.momentum,
    student_views=slice(0, 1),
    teacher_views=slice(1, 2),
    bn_splits=config.bn_splits,
    memory=memory,
    join=functools.partial(fork, {'dense': lambda outputs: _pair.feature_maps(outputs)[-1]}),
    outputs=outputs,
    encoder=nets['encoder'],
    projector=head(),
    dense=head(),
  )
