"""NNCLR: a view's nearest neighbour among earlier images finds the prediction from the other view.

    z = projector(encoder(view)), p = predictor(z), n = the row of the queue nearest to z
    loss = ( InfoNCE(n1, p2) + InfoNCE(n2, p1) ) / 2, negatives are the batch's other predictions;
    then z1 joins the queue, see losses.nnclr

Dwibedi et al. 2021, "With a little help from my friends". The authors published no code; follows
the paper and solo-learn, in which batch statistics are those of each view by itself.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Dwibedi et al. 2021, With a little help from my friends'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': section 4.1; 'cifar': solo-learn's, but for the optimizer; 'tiny' is ours."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  lars = dict(name='lars', batch_scaling='linear', warmup_fraction=0.01)
  common = dict(
    view_stats='separate',
    chunk_size=0,  # > 0: neighbours whose products with the predictions are held at a time
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=4096,
        epochs=1000,
        optim=dict(learning_rate=0.3, weight_decay=1e-6, **lars),
        method=dict(
          temperature=0.1,
          queue_size=98304,
          projector=(2048, 2048, 256),
          predictor=(4096, 256),
          views=image.get_config(224, blur_prob=(1.0, 0.1), solarize_prob=(0.0, 0.2), **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=1000,
        optim=dict(learning_rate=1.0, weight_decay=1e-5, **lars),
        method=dict(
          temperature=0.2,
          queue_size=65536,
          projector=(2048, 2048, 256),
          predictor=(4096, 256),
          views=image.get_config(32, solarize_prob=(0.0, 0.2), **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          temperature=0.2,
          queue_size=4096,
          projector=(256, 256, 64),
          predictor=(256, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  def objective(params, state, outputs, batch, rng, step):
    z, p = outputs['projector'], outputs['predictor']
    loss = losses.nnclr(
      *_pair.two(z), *_pair.two(p), state['queue'],
      temperature=config.temperature, chunk_size=config.chunk_size or None,
    )  # fmt: skip
    return loss, (_pair.enqueued(state, z[:, 0]), {'chance_loss': jnp.log(1.0 * len(z))})

  # A bias after the projector's last norm would have no gradient: the predictor's norm undoes it.
  return _pair.one_network(
    config,
    objective,
    outputs=('projector', 'predictor'),
    memory=_pair.queue_memory(config.queue_size, config.projector[-1]),
    encoder=nets['encoder'],
    projector=heads.mlp(
      config.projector, hidden_bias=False, last_bias=False, last_norm='batch_no_bias'
    ),
    predictor=heads.mlp(config.predictor, hidden_bias=False),
  )
