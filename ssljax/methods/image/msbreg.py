"""MSBReg: embeddings as particles that are pulled together, spread out and shaken.

    online: p_v = predictor(projector(encoder(view v))); target: z_v = projector'(encoder'(view v))
    loss = mean |p_v - mean of the image's z|^2 + singular_weight (singular values of all p equal)
    + brownian_weight mean p_v . (a random direction of the image), all at length one, see
    losses.msbreg; after each step  target <- tau target + (1 - tau) online

Moon, Buracas, Park, Kim, Canny 2022, "An embedding-dynamic approach to self-supervised learning".
The authors published no code. What the paper leaves to words, and the weights, are ours (see the
loss); heads, views, optimizer and teacher are those of BYOL, on which it builds.
"""

import jax
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Moon et al. 2022, An embedding-dynamic approach to self-supervised learning'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet', 'cifar': BYOL's with 4 views; 'tiny' is ours."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  common = dict(
    singular_weight=1.0,
    brownian_weight=0.1,
    view_stats='separate',
    total_steps=config_dict.placeholder(int),
  )
  lars = dict(name='lars', batch_scaling='linear', warmup_fraction=0.01, weight_decay=1.5e-6)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=4096,
        epochs=300,
        optim=dict(learning_rate=0.3, **lars),
        method=dict(
          tau_base=0.99,
          projector=(4096, 256),
          predictor=(4096, 256),
          views=image.get_config(
            224, num_views=4, blur_prob=(1.0, 0.1) * 2, solarize_prob=(0.0, 0.2) * 2, **colour
          ),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=500,
        optim=dict(learning_rate=1.0, **lars),
        method=dict(
          tau_base=0.99,
          projector=(2048, 256),
          predictor=(2048, 256),
          views=image.get_config(32, num_views=4, solarize_prob=(0.0, 0.2) * 2, **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          tau_base=0.97,
          projector=(256, 64),
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
    weights = {name: config[name] for name in ('singular_weight', 'brownian_weight')}
    loss = losses.msbreg(outputs['p'], outputs['target'], batch['noise'], **weights)
    return loss, (state, {})

  method = _pair.with_teacher(
    config,
    objective,
    lambda step: ops.cosine_ramp(step, config.total_steps, config.tau_base),
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, hidden_bias=False, last_bias=False),
    predictor=heads.mlp(config.predictor, hidden_bias=False, last_bias=False),
  )

  def views(rng, batch):
    view_rng, noise_rng = jax.random.split(rng)
    noise = jax.random.normal(noise_rng, (len(batch['image']), config.predictor[-1]))
    return {**method.views(view_rng, batch), 'noise': noise}

  return method._replace(views=views)
