"""What methods on views of images have in common."""

import jax
import jax.numpy as jnp

from ssljax.augment import image

# For presets 'tiny': what two views of a small picture may differ in without losing its subject.
TINY_VIEWS = {
  'scale': (0.4, 1.0),
  'interpolation': 'bilinear',
  'flip': 0.0,
  'jitter': (0.4, 0.4, 0.4, 0.2),
  'jitter_prob': 0.8,
  'grayscale_prob': 0.5,
}
TINY_ENCODER = {'name': 'resnet10', 'stem': 'small', 'width': 16}


def make_views(config):
  """(rng, batch) -> batch with 'image' [B, H, W, C] replaced by its views [B, V, h, w, C]."""
  augment = image.make(config)

  def views(rng, batch):
    return {**batch, 'image': augment(rng, batch['image'])}

  return views


def make_embed(network, config):
  """(params, state, batch) -> {'features', 'projection'} of whole images, statistics frozen.

  `network` is a `net.chain` of at least 'encoder'; params and state['stats'] are its own.
  """

  def embed(params, state, batch):
    x = image.prepare(batch['image'], config)
    outputs, _ = network.apply(params, state['stats'], x, train=False)
    named = {'features': outputs['encoder']['features']}
    if 'projector' in outputs:
      named['projection'] = outputs['projector']
    return jax.tree.map(lambda y: y.astype(jnp.float32), named)

  return embed


def make_embed_views(views, embed, config):
  """(params, state, batch, rng) -> features [B, V, D] of random views of each image."""

  def embed_views(params, state, batch, rng):
    x = image.to_display(views(rng, batch)['image'], config)
    x = x if x.ndim == 5 else x[:, None]
    flat = {**batch, 'image': x.reshape(-1, *x.shape[2:])}
    return embed(params, state, flat)['features'].reshape(*x.shape[:2], -1)

  return embed_views
