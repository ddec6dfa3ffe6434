"""MV-MR: embeddings depend on each other and on features of the image that were computed by hand.

    z = projector(encoder(augmented view)), z' = projector(encoder(image))
    loss = mean (z - z')^2 + standard deviations below 1 + 1 - dCor(z, z') + sum_k 1 - dCor(z, r_k)

with dCor the distance correlation over the batch and r_k representations of the image: its pixels
and its histograms of oriented gradients, see losses.mv_mr and ops.hog.

Kinakh, Drozdova, Voloshynovskiy 2022, "MV-MR: multi-views and multi-representations for
self-supervised learning and knowledge distillation". Where the authors' code has further
representations (scattering, augmented pixels, local deviation) this has `representations` of the
config; and their published code adds dCor(z, r_k) where the paper maximises it, as is done here
(representation_weight = -1 is theirs).
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Kinakh et al. 2022, MV-MR: multi-views and multi-representations'
FAMILY = 'redundancy-reduction'
REPRESENTATIONS = ('pixels', 'hog')


def get_config(preset='imagenet'):
  """'imagenet', 'cifar': the authors' configurations for ImageNet and CIFAR-20; 'tiny' is ours."""
  colour = dict(jitter=(0.8, 0.8, 0.8, 0.2), jitter_prob=0.8, grayscale_prob=0.2)
  adam = dict(name='adamw', learning_rate=1e-4, weight_decay=1e-6, warmup_fraction=0.0)
  common = dict(
    representations=REPRESENTATIONS,
    representation_weight=1.0,
    std_margin=1.0,
    hog_bins=24,
    hog_cell=8,
    view_stats='separate',
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=256,
        epochs=100,
        optim=adam,
        method=dict(
          projector=(8192, 8192, 8192),
          views=image.get_config(224, num_views=1, blur_prob=0.5, **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet50', stem='cifar', zero_init_residual=True),
        batch_size=256,
        epochs=1000,
        optim=adam,
        method=dict(
          projector=(8192, 8192, 8192),
          views=image.get_config(32, num_views=1, **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          projector=(256, 256),
          views=image.get_config(32, num_views=1, **_pair.TINY_VIEWS),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  for name in config.representations:
    if name not in REPRESENTATIONS:
      raise InputError(
        f'method.representations has {name!r}, wanted some of {", ".join(REPRESENTATIONS)}'
      )
  augment = image.make(config.views)

  def views(rng, batch):
    plain = image.prepare(batch['image'], config.views)[:, None]
    return {**batch, 'image': jnp.concatenate([augment(rng, batch['image']), plain], axis=1)}

  def objective(params, state, z, batch, rng, step):
    plain = batch['image'][:, -1]
    features = {'pixels': plain, 'hog': ops.hog(plain, bins=config.hog_bins, cell=config.hog_cell)}
    loss = losses.mv_mr(
      z[:, 0],
      z[:, 1],
      [features[name].reshape(len(plain), -1) for name in config.representations],
      std_margin=config.std_margin,
      representation_weight=config.representation_weight,
    )
    return loss, (state, {})

  projector = heads.mlp(config.projector, hidden_bias=False, last_bias=False)
  return _pair.one_network(
    config, objective, views=views, encoder=nets['encoder'], projector=projector
  )
