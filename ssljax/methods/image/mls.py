"""MLS: MoCo v2, and as further labels the images of the queue whose features are nearest.

    g = encoder(view 1), z = projector(g); queues of the key network's g' and z' of view 2
    loss = MoCo(z, z') + lambda BCE(z . queue of z' / T; y), y = 1 for the k rows of the queue of g'
    nearest to g, see losses.mls; then the queues and the key network move as in MoCo

Zhu, Fu, Wu 2023, "Multi-label self-supervised learning with scene images". There is no public code:
this is the paper's text. It does not say the size of the batch (here DenseCL's on COCO, of which
the learning rate is), whether z has length one in the BCE (here it has, as in MoCo), nor how batch
statistics are shuffled (here as in MoCo, in `bn_splits` groups).
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.net import features

PAPER = 'Zhu et al. 2023, Multi-label self-supervised learning with scene images'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': sections 3.3 and 4.1, which train on MS-COCO; 'cifar' and 'tiny' are ours."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  sgd = dict(name='sgd', momentum=0.9, warmup_fraction=0.0, decay_all=True)
  common = dict(
    temperature=0.2,
    multi_label_weight=0.5,
    view_stats='separate',
    chunk_size=0,  # > 0: images whose products with the queues are held at a time
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=256,
        epochs=400,
        optim=dict(learning_rate=0.3, weight_decay=1e-4, **sgd),
        method=dict(
          topk=20,
          momentum=0.995,
          queue_size=4096,
          bn_splits=8,
          projector=(2048, 256),
          views=image.get_config(224, scale=(0.2, 1.0), blur_prob=0.5, **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=200,
        optim=dict(learning_rate=0.06, weight_decay=5e-4, **sgd),
        method=dict(
          topk=20,
          momentum=0.99,
          queue_size=4096,
          bn_splits=8,
          projector=(512, 256),
          views=image.get_config(32, **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          topk=5,
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
  def outputs(found):
    return {'g': features(found['encoder']), 'z': found['projector']}

  def objective(params, state, outputs, batch, rng, step):
    q, k = ({name: x[:, 0] for name, x in outputs[of].items()} for of in ('z', 'target'))
    options = {'temperature': config.temperature, 'chunk_size': config.chunk_size or None}
    one = losses.moco(q['z'], k['z'], state['queue'], **options)
    many = losses.mls(
      q['z'], q['g'], state['queue'], state['feature_queue'], topk=config.topk, **options
    )
    queue, pointer = ops.enqueue(state['queue'], state['pointer'], ops.l2_normalize(k['z']))
    feature_queue, _ = ops.enqueue(
      state['feature_queue'], state['pointer'], ops.l2_normalize(k['g'])
    )
    state = {**state, 'queue': queue, 'feature_queue': feature_queue, 'pointer': pointer}
    metrics = {'one_loss': one, 'multi_label_loss': many}
    return one + config.multi_label_weight * many, (state, metrics)

  method = _pair.with_teacher(
    config,
    objective,
    lambda step: config.momentum,
    student_views=slice(0, 1),
    teacher_views=slice(1, 2),
    bn_splits=config.bn_splits,
    outputs=outputs,
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, norm=None),
  )

  def init(rng, batch):
    rngs = jax.random.split(rng, 3)
    params, state = method.init(rngs[0], batch)
    shapes = jax.eval_shape(method.forward, params, state, batch, rng, 0)[0]['target']
    for name, r, of in (('queue', rngs[1], 'z'), ('feature_queue', rngs[2], 'g')):
      rows = jax.random.normal(r, (config.queue_size, shapes[of].shape[-1]))
      state[name] = ops.l2_normalize(rows)
    return params, {**state, 'pointer': jnp.zeros((), jnp.int32)}

  return method._replace(init=init)
