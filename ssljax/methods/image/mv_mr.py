"""MV-MR: embeddings depend on each other and on features of the image that were computed by hand.

    z = projector(encoder(augmented view)), z' = projector(encoder(image))
    loss = mean (z - z')^2 + standard deviations below 1 + 1 - dCor(z, z') + sum_k 1 - dCor(z, r_k)

with dCor the distance correlation over the batch, see losses.mv_mr, and r_k representations of the
image: its 'pixels', those 'augmented', its 'scattering' coefficients, its 'hog', histograms of
oriented gradients, and the 'deviation' of each pixel's neighbourhood.

Kinakh, Drozdova, Voloshynovskiy 2022, "MV-MR: multi-views and multi-representations for
self-supervised learning and knowledge distillation". The representations are those of the authors'
`SelfSupervisedModule`; their published code adds dCor(z, r_k) where the paper maximises it, as is
done here (representation_weight = -1 is theirs). Distillation, where a teacher's features are one
more representation, is not here.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.methods.image import _pair
from ssljax.models import heads, scattering

PAPER = 'Kinakh et al. 2022, MV-MR: multi-views and multi-representations'
FAMILY = 'redundancy-reduction'
REPRESENTATIONS = ('pixels', 'scattering', 'augmented', 'hog', 'deviation')


def get_config(preset='imagenet'):
  """'imagenet', 'cifar': the authors' configurations for ImageNet and CIFAR-20; 'tiny' is ours, of
  two of the representations."""
  colour = dict(jitter=(0.8, 0.8, 0.8, 0.2), jitter_prob=0.8, grayscale_prob=0.2)
  weak = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.1, scale=(0.2, 1.0))
  adam = dict(name='adam', weight_decay=1e-6, warmup_fraction=10 / 1000, decay_all=True)
  common = dict(
    representations=REPRESENTATIONS,
    representation_weight=1.0,
    std_margin=1.0,
    hog_bins=24,
    hog_cell=8,
    scales=2,  # of the scattering, as its orientations
    orientations=8,
    chunk_size=0,  # > 0: rows of distances held at a time
    view_stats='separate',
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=256,
        epochs=1000,
        optim=adam | dict(learning_rate=1e-4, final_fraction=1e-2),
        method=dict(
          projector=(8192, 8192, 8192),
          views=image.get_config(224, num_views=1, blur_prob=1.0, **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet50', stem='cifar', zero_init_residual=True),
        batch_size=512,
        epochs=1000,
        optim=adam | dict(learning_rate=2e-4, final_fraction=5e-3),
        method=dict(
          projector=(8192, 8192, 8192),
          views=image.get_config(32, num_views=1, **weak),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          projector=(256, 256),
          views=image.get_config(32, num_views=1, **_pair.TINY_VIEWS),
          **common | dict(representations=('pixels', 'hog')),
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
    view_rng, other_rng = jax.random.split(rng)
    plain = image.prepare(batch['image'], config.views)[:, None]
    seen = {'image': jnp.concatenate([augment(view_rng, batch['image']), plain], axis=1)}
    if 'augmented' in config.representations:
      seen['augmented'] = augment(other_rng, batch['image'])[:, 0]
    return batch | seen

  def objective(params, state, z, batch, rng, step):
    plain = batch['image'][:, -1]
    made = {
      'pixels': lambda: plain,
      'scattering': lambda: scattering.scatter(plain, config.scales, config.orientations),
      'augmented': lambda: batch['augmented'],
      'hog': lambda: ops.hog(plain, bins=config.hog_bins, cell=config.hog_cell),
      'deviation': lambda: deviation(plain),
    }
    loss = losses.mv_mr(
      *_pair.two(z),
      [made[name]().reshape(len(plain), -1) for name in config.representations],
      std_margin=config.std_margin,
      representation_weight=config.representation_weight,
      chunk_size=config.chunk_size or None,
    )
    return loss, (state, {})

  projector = heads.mlp(config.projector, hidden_bias=False, last_bias=False)
  return _pair.one_network(
    config, objective, views=views, encoder=nets['encoder'], projector=projector
  )


def deviation(images):
  """The standard deviation of the 3 x 3 pixels around each: [B, H, W, C] of the same."""
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='reflect')
  window = dict(window_dimensions=(1, 3, 3, 1), window_strides=(1, 1, 1, 1), padding='VALID')

  def box(x):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, **window) / 9

  variance = box(padded**2) - box(padded) ** 2
  return jnp.sqrt(jnp.maximum(variance, 0) + 1e-8)
