"""Trees of arrays as paths, and the shapes that our networks want."""

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import models
from ssljax.models import decoders
from ssljax.models.positions import sincos_positions

# Positions of an encoder that are no parameters and yet stand in files.
FIXED = ('sincos', 'sincos_rows')


def flat(tree):
  return {
    '/'.join(str(k.key) for k in path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


def nest(flat):
  """Nested dicts of arrays by path."""
  tree = {}
  for path, x in flat.items():
    node = tree
    *folders, last = path.split('/')
    for folder in folders:
      node = node.setdefault(folder, {})
    node[last] = x
  return tree


def channels(config, arrays):
  """Of the images that the encoder takes."""
  if 'patch_size' in config:
    return len(arrays['encoder/patch_embed/kernel']) // config.patch_size**2
  return arrays['encoder/conv1/kernel'].shape[2]


def shapes(config, arrays):
  """Shapes of the encoder's parameters and state, by path."""
  encoder = models.make(config, dtype=jnp.float32)
  size = config.get('image_size', 64)
  image = jax.ShapeDtypeStruct((1, size, size, channels(config, arrays)), jnp.float32)
  params, state = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x), image)
  return tuple({p: x.shape for p, x in flat(tree).items()} for tree in (params, state))


def decoder_shapes(config, decoder, arrays):
  patches = (config.image_size // config.patch_size) ** 2
  pixels = config.patch_size**2 * channels(config, arrays)
  net = decoders.mae_decoder(num_patches=patches, patch_dim=pixels, **decoder)
  tokens = jax.ShapeDtypeStruct((1, 1 + patches, config.dim), jnp.float32)
  restore = jax.ShapeDtypeStruct((1, patches), jnp.int32)
  params, _ = jax.eval_shape(lambda x, r: net.init(jax.random.key(0), x, r), tokens, restore)
  return {p: x.shape for p, x in flat(params).items()}


def table(side, dim, class_token, rows_first=False):
  """The fixed table [T, D] as files hold it, with zeros for the class token."""
  grid = sincos_positions(side, side, dim, rows_first=rows_first)
  return np.pad(np.asarray(grid), ((int(class_token), 0), (0, 0)))
