"""SSCD: a descriptor that finds edited copies of an image, by one threshold for all images.

    u = linear(GeM(encoder's map)) at length one, of two heavily edited views of an image
    some views are composites of two images (mixup, CutMix), and so copies of both
    loss = NT-Xent with all of its copies as positives
           - weight * mean log distance to the nearest view that is no copy, see losses.sscd

Pizzi, Roy, Ravindra, Goyal, Douze 2022, "A self-supervised descriptor for image copy detection".
Follows the authors' PyTorch code, with its STRONG_BLUR views; those it calls ADVANCED also have
text, emoji and JPEG artefacts. The descriptor is `projection` of what `embed` gives; for use it is
whitened, and its similarities normalised: see ssljax.evaluators.copy_detection.
"""

import functools

import jax
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import composite, image
from ssljax.methods.image import _pair
from ssljax.models import heads, pooling
from ssljax.net import fork

PAPER = 'Pizzi et al. 2022, A self-supervised descriptor for image copy detection'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': section 5.2 and the authors' defaults; 'cifar' and 'tiny' are ours."""
  edits = dict(jitter=(0.8, 0.8, 0.8, 0.2), jitter_prob=0.8, grayscale_prob=0.2, blur_prob=0.5)
  common = dict(temperature=0.05, power=3.0, mix_prob=0.05, mix_alpha=2.0, view_stats='shared')
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
          warmup_fraction=0.05,
          weight_decay=1e-6,
        ),
        method=dict(
          entropy_weight=30.0,
          projector=(512,),
          chunk_size=0,  # > 0: pairs whose similarities are held at a time
          views=image.get_config(224, blur_sigma=(1.0, 5.0), blur_kernel=31, **edits),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar', zero_init_residual=True),
        batch_size=512,
        epochs=200,
        optim=dict(
          name='lars',
          learning_rate=0.3,
          batch_scaling='linear',
          warmup_fraction=0.05,
          weight_decay=1e-6,
        ),
        method=dict(
          entropy_weight=10.0,
          projector=(128,),
          chunk_size=0,
          views=image.get_config(32, blur_sigma=(0.1, 1.0), **edits),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          entropy_weight=5.0,
          projector=(64,),
          chunk_size=0,
          views=image.get_config(
            32, **{**_pair.TINY_VIEWS, **edits, 'flip': 0.5}, blur_sigma=(0.1, 1.0)
          ),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  def objective(params, state, z, batch, rng, step):
    loss = losses.sscd(
      *_pair.two(z),
      batch['content'],
      temperature=config.temperature,
      entropy_weight=config.entropy_weight,
      chunk_size=config.chunk_size or None,
    )
    return loss, (state, {})

  method = _pair.one_network(
    config,
    objective,
    join=functools.partial(fork, {'projector': lambda outputs: _pair.feature_maps(outputs)[-1]}),
    encoder=nets['encoder'],
    projector=pooling.pooled(heads.mlp(config.projector, norm=None), config.power),
  )

  def views(rng, batch):
    view_rng, mix_rng = jax.random.split(rng)
    batch = method.views(view_rng, batch)
    x, content = composite.composites(
      mix_rng, batch['image'], prob=config.mix_prob, alpha=config.mix_alpha
    )
    return {**batch, 'image': x, 'content': content}

  return method._replace(views=views)
