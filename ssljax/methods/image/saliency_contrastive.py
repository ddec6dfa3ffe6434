"""Saliency as an augmentation: SimCLR with one of two views made of what stands out of the image.

    view 1 of the image, view 2 of the image times its saliency (augment.saliency.salient),
    both cropped and coloured as usual
    z = projector(encoder(view)), loss = NT-Xent(z1, z2; temperature)

Kocaman, Shir, Baeck, Belbachir 2022, "Saliency can be all you need in contrastive self-supervised
learning". The paper adds the salient image, by global contrast (Cheng et al.), to the augmentations
of several methods; here it is SimCLR, the saliency is histogram contrast, without regions and
without the segmentation that follows them, and it is in the second view with `saliency_prob`.
"""

import jax
import jax.numpy as jnp

from ssljax.augment import image
from ssljax.augment.saliency import salient
from ssljax.methods.image import simclr

PAPER = 'Kocaman et al. 2022, Saliency can be all you need in contrastive self-supervised learning'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """SimCLR's settings; chance and form of the salient view are ours."""
  config = simclr.get_config(preset)
  config.method.saliency_prob = 0.5
  config.method.threshold = 0.0  # 0 weighs pixels by their saliency, more keeps those above it
  return config


def make(config, nets):
  # Two makers of one view each, since the views are of different images.
  first, second = (image.make(image.one_view(config.views, view)) for view in range(2))

  def views(rng, batch):
    first_rng, second_rng, rng = jax.random.split(rng, 3)
    x = image.to_float(batch['image'])
    chosen = jax.random.bernoulli(rng, config.saliency_prob, (len(x), 1, 1, 1))
    other = jnp.where(chosen, jax.vmap(lambda one: salient(one, config.threshold))(x), x)
    pair = first(first_rng, x), second(second_rng, other)
    return {**batch, 'image': jnp.concatenate(pair, 1)}

  return simclr.make(config, nets, views)
