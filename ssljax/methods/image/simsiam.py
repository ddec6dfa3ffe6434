"""SimSiam: predict the same network's projection of the other view, which gets no gradient.

    z = projector(encoder(view)), p = predictor(z)
    loss = - ( cos(p1, stop z2) + cos(p2, stop z1) ) / 2, see losses.simsiam

Chen, He 2021, "Exploring simple Siamese representation learning". Follows the authors' PyTorch
code: the projector ends in a batch norm without scale and bias, and the predictor's learning rate
does not fall. The projections' standard deviation over the batch, of unit vectors and times
sqrt(D), is reported as `spread`: 1 when they fill the sphere, 0 when they collapse (section 4.1).
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Chen & He 2021, Exploring simple Siamese representation learning'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet': section 3, 100 epochs; 'cifar': appendix D; 'tiny' is ours."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  sgd = dict(name='sgd', momentum=0.9, warmup_fraction=0.0, decay_all=True)
  sgd |= dict(batch_scaling='linear', constant=('^predictor/',))
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=512,
        epochs=100,
        optim=dict(learning_rate=0.05, weight_decay=1e-4, **sgd),
        method=dict(
          projector=(2048, 2048, 2048),
          predictor=(512, 2048),
          view_stats='separate',
          views=image.get_config(
            224, scale=(0.2, 1.0), interpolation='bilinear', blur_prob=0.5, **colour
          ),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=800,
        optim=dict(learning_rate=0.03, weight_decay=5e-4, **sgd),
        method=dict(
          projector=(2048, 2048),
          predictor=(512, 2048),
          view_stats='separate',
          views=image.get_config(32, scale=(0.2, 1.0), **colour),
        ),
      ),
      'tiny': dict(
        method=dict(
          projector=(256, 256),
          predictor=(64, 256),
          view_stats='separate',
          views=image.get_config(32, **_pair.TINY_VIEWS),
        ),
        **_pair.TINY | dict(optim=_pair.TINY['optim'] | dict(constant=('^predictor/',))),
      ),
    }[preset]
  )


def make(config, nets):
  projector = heads.mlp(
    config.projector, hidden_bias=False, last_bias=False, last_norm='batch_no_affine'
  )
  predictor = heads.mlp(config.predictor, hidden_bias=False)

  def objective(params, state, outputs, batch, rng, step):
    p, z = outputs['predictor'], outputs['projector']
    loss = losses.simsiam(*_pair.two(p), *_pair.two(z))
    spread = jnp.mean(jnp.std(ops.l2_normalize(z), axis=0)) * z.shape[-1] ** 0.5
    return loss, (state, {'spread': spread})

  return _pair.one_network(
    config,
    objective,
    outputs=('projector', 'predictor'),
    encoder=nets['encoder'],
    projector=projector,
    predictor=predictor,
  )
