"""Weights of other libraries, in and out.

  config, params, report = convert.load('dino_deitsmall16_pretrain.pth')
  encoder = models.make(config, dtype=jnp.float32)
  outputs, _ = encoder.apply(params['encoder'], params['stats'], images, train=False)

Nothing is downloaded and no pickled code runs. `layouts.py` and its neighbours are the tables of
names.
"""

from ssljax.convert import files, reading
from ssljax.convert.reading import LAYOUTS, Report
from ssljax.convert.starting import start_from
from ssljax.convert.writing import save, to_layout

__all__ = ['LAYOUTS', 'Report', 'load', 'save', 'start_from', 'to_layout']


def load(path, *, layout=None, part=None, heads=None, decoder_heads=None, image_size=None):
  """(encoder config, parameters, report) of a file or a folder of Hugging Face.

  Args:
    path: .safetensors, .pth, .pt, .bin, or a folder with config.json and one of these.
    layout: one of LAYOUTS; found by the names if not given. Name it where names are shared: 'timm'
      and 'dino' resize positions in different ways.
    part: a piece of the prefix of names, where a file has several networks ('student').
    heads, decoder_heads: where no config.json has them and they are not 64 (32) channels each.
    image_size: of the config of an encoder with rotary positions; the others' is their table's.

  Returns:
    A config for `models.make`; {'encoder': params, 'stats': state, and 'decoder' for MAE}; and a
    Report of every tensor.

  Raises InputError, one sentence, if a tensor is missing, has another shape or has no place.
  """
  config, params, report = reading.convert(
    files.read(path),
    layout=layout,
    part=part,
    heads=heads,
    decoder_heads=decoder_heads,
    image_size=image_size,
  )
  report.check()
  return config, params, report
