"""SupCon: each view finds all views of its class, its own image's or not. It learns from labels.

    h = encoder(view), z = projector(h) at length one
    loss = SupCon(z, labels; temperature), see losses.supcon

Khosla et al. 2020, "Supervised contrastive learning". The presets are those of the authors' two
codes, TensorFlow for ImageNet and PyTorch for CIFAR-10; no projector has batch norm. The ImageNet
views are AutoAugment's there, which the library has not: SimCLR's stand for them.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.net import Net

PAPER = 'Khosla et al. 2020, Supervised contrastive learning'
FAMILY = 'supervised-contrastive'
UNIT = Net(lambda rng, x, **_: ({}, {}), lambda params, state, x, **_: (ops.l2_normalize(x), state))


def get_config(preset='imagenet'):
  """'imagenet': the authors' supcon_imagenet_resnet50.sh; 'cifar': the command in their README;
  'tiny' is ours."""
  colour = dict(jitter=(0.8, 0.8, 0.8, 0.2), jitter_prob=0.8, grayscale_prob=0.2)
  weak_colour = colour | dict(jitter=(0.4, 0.4, 0.4, 0.1))
  common = dict(contrast_mode='all', chunk_size=0, view_stats='shared')
  pytorch = dict(base_temperature=0.07, normalize_features=False, last_bias=True)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=6144,
        epochs=350,
        optim=dict(
          name='lars',
          learning_rate=0.4,
          batch_scaling='linear',
          warmup_fraction=12 / 350,
          weight_decay=1e-3,
        ),
        method=dict(
          temperature=0.1,
          base_temperature=1.0,
          normalize_features=True,  # the encoder's, before the projector
          last_bias=False,
          projector=(128,),
          views=image.get_config(224, blur_prob=0.5, **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet50', stem='cifar'),
        batch_size=1024,
        epochs=1000,
        optim=dict(
          name='sgd',
          learning_rate=0.5,
          momentum=0.9,
          warmup_fraction=0.01,
          final_fraction=0.001,
          weight_decay=1e-4,
          decay_all=True,
        ),
        method=dict(
          temperature=0.1,
          projector=(2048, 128),
          views=image.get_config(32, scale=(0.2, 1.0), **weak_colour),
          **pytorch,
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          temperature=0.1,
          projector=(128, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **pytorch,
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  def objective(params, state, z, batch, rng, step):
    t, base = config.temperature, config.base_temperature
    loss = losses.supcon(
      ops.l2_normalize(z),
      batch['label'],
      temperature=t,
      base_temperature=base,
      contrast_mode=config.contrast_mode,
      chunk_size=config.chunk_size or None,
    )
    return loss, (state, {'chance_loss': t / base * jnp.log(z.shape[0] * z.shape[1] - 1.0)})

  projector = heads.mlp(config.projector, norm=None, last_bias=config.last_bias)
  unit = {'unit': UNIT} if config.normalize_features else {}
  method = _pair.one_network(
    config, objective, encoder=nets['encoder'], **unit, projector=projector
  )
  return method._replace(labels=True)
