"""Batch Styles Standardization: SimCLR on views whose whole batch wears one image's style.

    for each view v:  a crop of every image; of one of these crops, drawn anew, every crop takes the
                      amplitudes of the low frequencies, keeping its own phases
                      (augment.fourier.swap_amplitude); then one colour jitter for all
    z = projector(encoder(view)), loss = NT-Xent(z1, z2; temperature)

Negatives that share a style cannot be told apart by it, so that the features need not hold the
domain of an image.

Scalbert, Vakalopoulou, Couzinie-Devy 2024, "Towards domain-invariant self-supervised learning with
batch styles standardization". Follows the paper; its code was not consulted, so the window's range
of areas and the order of the steps are ours where the paper's text leaves them open.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax.augment import image
from ssljax.augment.fourier import swap_amplitude
from ssljax.methods.image import simclr

PAPER = (
  'Scalbert et al. 2024, Towards domain-invariant self-supervised learning with batch styles '
  'standardization'
)
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """SimCLR's settings; the window's share of the spectrum is ours."""
  config = simclr.get_config(preset)
  config.method.style_area = (0.02, 1.0)
  return config


def make(config, nets):
  low, high = config.style_area
  # Geometry is drawn for each image, and leaves it in [0, 1]; colours are drawn once for a view.
  off = dict.fromkeys(('jitter_prob', 'grayscale_prob', 'blur_prob', 'solarize_prob'), (0.0,))
  crops = image.make(ConfigDict(dict(config.views, **off, mean=(0.0,), std=(1.0,))))
  still = dict.fromkeys(('flip', 'rotate_prob'), (0.0,))
  colours = ConfigDict(dict(config.views, **still, scale=(1.0, 1.0), ratio=(1.0, 1.0)))

  def standardize(rng, x, view):
    style_rng, area_rng, colour_rng = jax.random.split(rng, 3)
    chosen = jnp.arange(len(x)) == jax.random.randint(style_rng, (), 0, len(x))
    # As a sum, so that devices exchange one image and not the batch.
    style = jnp.where(chosen[:, None, None, None], x, 0).sum(0)
    area = jax.random.uniform(area_rng, minval=low, maxval=high)
    parameters = image.sample(colour_rng, colours, x.shape[1:], view)

    def restyle(one):
      return image.apply(jnp.clip(swap_amplitude(one, style, area), 0, 1), parameters, colours)

    return jax.vmap(restyle)(x)

  def views(rng, batch):
    crop_rng, rng = jax.random.split(rng)
    x = crops(crop_rng, batch['image'])
    rngs = jax.random.split(rng, x.shape[1])
    made = [standardize(r, x[:, view], view) for view, r in enumerate(rngs)]
    return {**batch, 'image': jnp.stack(made, 1)}

  return simclr.make(config, nets, views)
