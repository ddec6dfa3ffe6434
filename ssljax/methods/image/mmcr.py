"""MMCR: the centroids of images' views span as much as they can.

    z = projector(encoder(view)) at length one for V views, c = mean of an image's z
    loss = - nuclear norm of the matrix of all c, see losses.mmcr

Yerxa, Kuang, Simoncelli, Chung 2023, "Learning efficient coding of natural images with maximum
manifold capacity representations". Follows the authors' PyTorch code. With momentum > 0 a moving
average of the network sees the views too and c is the mean of both networks' centroids, as in their
runs on ImageNet.
"""

from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Yerxa et al. 2023, Learning efficient coding of natural images with MMCR'
FAMILY = 'redundancy-reduction'


def get_config(preset='imagenet'):
  """'imagenet': the authors' `pretrain_imagenet.py`, 8 views; 'cifar': `pretrain_cifar_stl.py`, 40
  views; 'tiny' is ours."""
  colour = dict(jitter_prob=0.8, grayscale_prob=0.2)
  common = dict(lmbda=0.0, view_stats='shared')
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=2048,
        epochs=100,
        optim=dict(
          name='lars',
          learning_rate=0.8,
          batch_scaling='linear',
          warmup_fraction=0.1,
          final_fraction=0.001,
          weight_decay=1e-6,
        ),
        method=dict(
          momentum=0.99,
          projector=(8192, 8192, 512),
          views=image.get_config(
            224,
            num_views=8,
            jitter=(0.4, 0.4, 0.2, 0.1),
            blur_prob=(1.0, 0.1) * 4,
            solarize_prob=(0.0, 0.2) * 4,
            **colour,
          ),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet50', stem='cifar'),
        batch_size=32,
        epochs=500,
        optim=dict(
          name='adamw',
          learning_rate=1e-3,
          schedule='constant',
          warmup_fraction=0.0,
          weight_decay=1e-6,
        ),
        method=dict(
          momentum=0.0,
          projector=(512, 128),
          views=image.get_config(32, num_views=40, jitter=(0.4, 0.4, 0.4, 0.1), **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          momentum=0.0,
          projector=(256, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  nets = dict(
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, hidden_bias=False, last_bias=False),
  )

  def objective(params, state, z, batch, rng, step):
    return losses.mmcr(z, lmbda=config.lmbda), (state, {})

  def objective_of_two(params, state, outputs, batch, rng, step):
    return losses.mmcr(outputs['z'], outputs['target'], lmbda=config.lmbda), (state, {})

  if not config.momentum:
    return _pair.one_network(config, objective, **nets)
  return _pair.with_teacher(config, objective_of_two, lambda step: config.momentum, **nets)
