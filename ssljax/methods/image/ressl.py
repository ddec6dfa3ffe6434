"""ReSSL: a strong view is as similar to the images of a queue as the teacher finds a weak view.

    q = projector(encoder(strong view)), k = projector'(encoder'(weak view)), both at length one
    loss = cross-entropy of softmax(q.queue / T) to softmax(k.queue / T_teacher), see losses.ressl
    then k joins the queue, and the teacher <- m teacher + (1 - m) student

Zheng et al. 2021, "ReSSL: relational self-supervised learning with weak augmentation". Follows the
authors' PyTorch code. As in MoCo, batch statistics are those of 8 groups of images, shuffled for
the teacher. View 1 is the student's; view 2, the teacher's, is only cropped and mirrored.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Zheng et al. 2021, ReSSL: relational self-supervised learning with weak augmentation'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet': the authors' code; 'cifar': the paper's for small sets; 'tiny' is ours."""
  strong = dict(
    jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=(0.8, 0.0), grayscale_prob=(0.2, 0.0),
    blur_prob=(0.5, 0.0), scale=(0.2, 1.0), interpolation='bilinear',
  )  # fmt: skip
  tiny_views = _pair.TINY_VIEWS | dict(jitter_prob=(0.8, 0.0), grayscale_prob=(0.5, 0.0))
  sgd = dict(name='sgd', momentum=0.9, warmup_fraction=5 / 200)
  common = dict(
    temperature=0.1,
    teacher_temperature=0.04,
    view_stats='separate',
    chunk_size=0,  # > 0: images whose products with the queue are held at a time
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=256,
        epochs=200,
        optim=dict(learning_rate=0.05, weight_decay=1e-4, **sgd),
        method=dict(
          momentum=0.999,
          queue_size=131072,
          bn_splits=8,
          projector=(4096, 512),
          views=image.get_config(224, **strong),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=200,
        optim=dict(learning_rate=0.06, weight_decay=5e-4, **sgd),
        method=dict(
          momentum=0.99,
          queue_size=4096,
          bn_splits=1,
          projector=(512, 128),
          views=image.get_config(32, **strong),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          momentum=0.99,
          queue_size=1024,
          bn_splits=1,
          projector=(128, 64),
          views=image.get_config(32, **tiny_views),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  def objective(params, state, outputs, batch, rng, step):
    q, k = outputs['z'][:, 0], outputs['target'][:, 0]
    loss = losses.ressl(
      q,
      k,
      state['queue'],
      temperature=config.temperature,
      teacher_temperature=config.teacher_temperature,
      chunk_size=config.chunk_size or None,
    )
    chance = jnp.log(1.0 * config.queue_size)
    return loss, (_pair.enqueued(state, k), {'chance_loss': chance})

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
