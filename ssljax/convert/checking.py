"""What --check does: reads the file again, compares bit for bit, and runs the network."""

import jax.numpy as jnp
import numpy as np

from ssljax import models
from ssljax.convert import files, reading, trees, writing
from ssljax.errors import InputError


def compare(config, params, decoder, written, layout, dtype):
  """A sentence; InputError unless the file gives these very parameters, rounded to its dtype."""
  again, found, report = reading.convert(files.read(written), layout=layout)
  report.check()
  wanted = {
    p: np.asarray(x).astype(writing.DTYPES[dtype]).astype(np.float32)
    for p, x in trees.flat(writing.unstack(params)).items()
  }
  found = trees.flat(found)
  if layout.startswith('timm') and config.get('registers') and 'encoder/pos_embed' in wanted:
    for tree in (wanted, found):  # timm adds the class token's position to it
      tree['encoder/cls_token'] = tree['encoder/cls_token'] + tree.pop('encoder/pos_embed')[0]
  if wanted.keys() != found.keys():
    name = sorted(wanted.keys() ^ found.keys())[0]
    raise InputError(f'{written} does not give back {name}')
  for path, x in wanted.items():
    if not np.array_equal(x, found[path], equal_nan=True):
      raise InputError(f'{written} gives back another {path}')
  for field in ('dim', 'depth', 'heads', 'patch_size', 'image_size', 'layer_norm_eps', 'positions'):
    if field in config and config[field] != again[field]:
      raise InputError(f'{written} gives back {field} {again[field]}, wanted {config[field]}')
  if dict(decoder or {}) != report.decoder:
    raise InputError(f'{written} gives back another decoder: {report.decoder}')
  return f'read again: {len(wanted)} arrays are equal bit for bit'


def forward(config, params):
  """A sentence on the features of one test image; InputError unless they are finite."""
  flat = trees.flat(params)
  size = config.get('image_size', 64)
  image = np.random.default_rng(0).standard_normal(
    (1, size, size, trees.channels(config, flat)), np.float32
  )
  encoder = models.make(config, dtype=jnp.float32)
  out, _ = encoder.apply(params['encoder'], params['stats'], image, train=False)
  features = np.asarray(out['features'])
  if not np.isfinite(features).all():
    raise InputError('the features of a test image are not finite')
  return f'features of a test image: {list(features.shape)}, {features.std():.4g} their deviation'
