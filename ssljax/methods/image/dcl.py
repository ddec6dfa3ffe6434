"""DCL: SimCLR whose loss leaves the positive pair out of the denominator, for small batches.

    h = encoder(view), z = projector(h), loss = DCL(z1, z2; temperature), see losses.dcl

Yeh et al. 2022, "Decoupled contrastive learning". The authors published no code; the loss is the
paper's, the network and views are SimCLR's, as in the paper.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Yeh et al. 2022, Decoupled contrastive learning'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': the paper's batches of 256 for 200 epochs; 'cifar': its temperature of 0.07; their
  other values are the usual ones of momentum SGD. 'tiny' is ours."""
  colour = dict(jitter=(0.8, 0.8, 0.8, 0.2), jitter_prob=0.8, grayscale_prob=0.2)
  weak_colour = colour | dict(jitter=(0.4, 0.4, 0.4, 0.1))
  common = dict(view_stats='shared', chunk_size=0)
  sgd = dict(name='sgd', learning_rate=0.03, batch_scaling='linear', momentum=0.9)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=256,
        epochs=200,
        optim=dict(warmup_fraction=0.05, weight_decay=1e-4, **sgd),
        method=dict(
          temperature=0.1,
          projector=(2048, 128),
          views=image.get_config(224, blur_prob=0.5, **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=200,
        optim=dict(warmup_fraction=0.0, weight_decay=5e-4, **sgd),
        method=dict(
          temperature=0.07,
          projector=(512, 128),
          views=image.get_config(32, **weak_colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          temperature=0.2,
          projector=(128, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  def loss(z1, z2):
    return losses.dcl(z1, z2, temperature=config.temperature, chunk_size=config.chunk_size or None)

  return decoupled(config, nets, loss)


def decoupled(config, nets, loss):
  """SimCLR's networks, on two views' embeddings the loss (z1, z2) -> scalar."""
  projector = heads.mlp(
    config.projector, hidden_bias=False, last_bias=False, last_norm='batch_no_bias'
  )

  def objective(params, state, z, batch, rng, step):
    chance = jnp.log(2 * len(z) - 2.0)
    return loss(*_pair.two(z)), (state, {'chance_loss': chance})

  return _pair.one_network(config, objective, encoder=nets['encoder'], projector=projector)
