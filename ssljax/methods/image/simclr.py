"""SimCLR: two views of an image find each other among all views of the batch.

    h = encoder(view), z = projector(h), loss = NT-Xent(z1, z2; temperature), see losses.nt_xent

Chen, Kornblith, Norouzi, Hinton 2020, "A simple framework for contrastive learning of visual
representations". Follows the authors' TensorFlow code in the projector (batch norm after both
layers, the last one without bias) and the paper in the loss, which the code doubles by adding its
two directions instead of averaging them.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Chen et al. 2020, A simple framework for contrastive learning of visual representations'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': section 2 and appendix B; 'cifar': appendix B.9; 'tiny': minutes on two cores."""
  colour = dict(jitter=(0.8, 0.8, 0.8, 0.2), jitter_prob=0.8, grayscale_prob=0.2)
  weak_colour = colour | dict(jitter=(0.4, 0.4, 0.4, 0.1))
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=4096,
        epochs=100,
        optim=dict(
          name='lars',
          learning_rate=0.3,
          batch_scaling='linear',
          warmup_fraction=0.1,
          weight_decay=1e-6,
        ),
        method=dict(
          temperature=0.1,
          projector=(2048, 128),
          view_stats='shared',
          chunk_size=0,  # > 0: rows of similarities held at a time, memory linear in the batch
          views=image.get_config(224, blur_prob=0.5, **colour),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=1000,
        optim=dict(
          name='lars',
          learning_rate=1.0,
          batch_scaling='linear',
          warmup_fraction=0.01,
          weight_decay=1e-6,
        ),
        method=dict(
          temperature=0.5,
          projector=(512, 128),
          view_stats='shared',
          chunk_size=0,
          views=image.get_config(32, **weak_colour),
        ),
      ),
      'tiny': dict(
        encoder=_pair.TINY_ENCODER,
        batch_size=256,
        epochs=12,
        optim=dict(name='adamw', learning_rate=2e-3, weight_decay=1e-4),
        method=dict(
          temperature=0.2,
          projector=(128, 64),
          view_stats='shared',
          chunk_size=0,
          views=image.get_config(32, **_pair.TINY_VIEWS),
        ),
      ),
    }[preset]
  )


def make(config, nets, views=None):
  """views: as of `_pair.one_network`, for methods that only make other views."""
  projector = heads.mlp(
    config.projector, hidden_bias=False, last_bias=False, last_norm='batch_no_bias'
  )

  def objective(params, state, z, batch, rng, step):
    loss = losses.nt_xent(
      *_pair.two(z), temperature=config.temperature, chunk_size=config.chunk_size or None
    )
    return loss, (state, {'chance_loss': jnp.log(2 * len(z) - 1.0)})

  return _pair.one_network(
    config, objective, views=views, encoder=nets['encoder'], projector=projector
  )
