"""CARE: contrastive learning in which augmentations act on the sphere as rotations.

    z = projector(encoder(view)), of two views augmented each by itself
    e = projector(encoder(view)), of two more, all images of a part of the batch augmented alike
    loss = NT-Xent(z1, z2; temperature) + weight equivariance(e1, e2), see losses.care

Gupta, Robinson, Lim, Villar, Jegelka 2024, "Structuring representation geometry with rotationally
equivariant contrastive learning". Follows the authors' code in the loss and in passing each view by
itself, and the paper in that every part of the batch draws augmentations of its own: in the code
all parts of a batch share one pair.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = (
  'Gupta et al. 2024, Structuring representation geometry with rotationally equivariant '
  'contrastive learning'
)
FAMILY = 'equivariant'


def get_config(preset='imagenet'):
  """'imagenet' and 'cifar': the authors' scripts for ImageNet-100 (simclr_v1.sh: 200 epochs, SGD,
  4 splits on each of 4 GPUs) and CIFAR-10 (Adam without schedule); 'tiny' is ours."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.2, blur_prob=0.5)
  common = dict(view_stats='separate', chunk_size=0)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=256,
        epochs=200,
        optim=dict(
          name='sgd', learning_rate=0.4, weight_decay=1e-4, warmup_fraction=0.0, decay_all=True
        ),
        method=dict(
          temperature=0.2,
          weight=0.005,
          equiv_splits=16,
          projector=(2048, 128),
          views=image.get_config(224, scale=(0.2, 1.0), **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet50', stem='cifar'),
        batch_size=256,
        epochs=400,
        optim=dict(
          name='adamw',
          learning_rate=1e-3,
          weight_decay=1e-6,
          schedule='constant',
          warmup_fraction=0.0,
        ),
        method=dict(
          temperature=0.5,
          weight=0.03,
          equiv_splits=16,
          projector=(512, 128),
          views=image.get_config(32, **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          temperature=0.2,
          weight=0.03,
          equiv_splits=8,
          projector=(128, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  pair = image.make(config.views)

  def views(rng, batch):
    own_rng, shared_rng = jax.random.split(rng)
    images = batch['image']
    size = max(len(images) // config.equiv_splits, 1)
    shared = image.make(ConfigDict(dict(config.views, shared_by=size)))
    both = pair(own_rng, images), shared(shared_rng, images)
    part = jnp.arange(len(images)) // size
    return {**batch, 'image': jnp.concatenate(both, 1), 'part': part}

  def objective(params, state, z, batch, rng, step):
    # Parts stay together whatever the order of the batch has become.
    e = z[jnp.argsort(batch['part']), 2:]
    loss = losses.care(
      z[:, 0],
      z[:, 1],
      e[:, 0],
      e[:, 1],
      temperature=config.temperature,
      weight=config.weight,
      equiv_splits=config.equiv_splits,
      chunk_size=config.chunk_size or None,
    )
    return loss, (state, {'chance_loss': jnp.log(2 * len(z) - 1.0)})

  projector = heads.mlp(config.projector, hidden_bias=False)
  return _pair.one_network(
    config, objective, views=views, encoder=nets['encoder'], projector=projector
  )
