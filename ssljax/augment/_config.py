"""The fields of a view, their defaults, and what they may be."""

import difflib

import ml_collections

from ssljax.augment._color import HUE
from ssljax.errors import InputError

CHANCES = ('flip', 'rotate_prob', 'jitter_prob', 'grayscale_prob', 'blur_prob', 'solarize_prob')


def get_config(size, **overrides):
  """Two random resized crops, mirrored or not, of `size` pixels a side; colour and blur are off.

  A chance may be given as one number or as a tuple with one for each view, as BYOL's
  blur_prob=(1.0, 0.1); it is kept as a tuple, of length 1 or num_views.

  Raises:
    InputError: an override is no field.
  """
  config = ml_collections.ConfigDict(
    {
      'size': size,
      'num_views': 2,
      'scale': (0.08, 1.0),  # share of the area a crop takes
      'ratio': (3 / 4, 4 / 3),  # its width / height
      'interpolation': 'bicubic',
      'flip': (0.5,),
      'rotate': (-180.0, 180.0),  # degrees, counterclockwise, about the centre of the view
      'rotate_prob': (0.0,),
      'jitter': (0.4, 0.4, 0.4, 0.1),  # brightness, contrast, saturation, hue
      'jitter_prob': (0.0,),
      'grayscale_prob': (0.0,),
      'blur_prob': (0.0,),
      'blur_sigma': (0.1, 2.0),  # pixels
      'blur_kernel': 0,  # taps, odd; 0: a tenth of the side, as in SimCLR
      'solarize_prob': (0.0,),
      'mean': (0.5,),  # one value, or one for each channel
      'std': (0.5,),
      'shared_by': 1,  # so many consecutive images of the batch share their draws
    }
  )
  for field, value in overrides.items():
    if field not in config:
      near = difflib.get_close_matches(field, config, 1, 0.0)[0]
      raise InputError(f'views have no field {field}, the nearest is {near}')
    config[field] = (value,) if field in CHANCES and isinstance(value, int | float) else value
  return config


def per_view(config, field):
  """A chance as one float for each view."""
  value = config[field]
  value = tuple(value) if isinstance(value, list | tuple) else (value,)
  return tuple(map(float, value * config.num_views if len(value) == 1 else value))


def one_view(config, view):
  """The config that makes one of the views, by its number, by itself."""
  chances = {field: (per_view(config, field)[view],) for field in CHANCES}
  return ml_collections.ConfigDict({**config, **chances, 'num_views': 1})


def blur_kernel(config):
  """The taps of the blur: SimCLR's rule unless given, but no fewer than 3, the least that blurs."""
  return config.blur_kernel or max(3, config.size // 20 * 2 + 1)


def check(config):
  """Raises InputError for the first field whose value cannot be."""
  kernel = blur_kernel(config)
  requirements = {
    'size': (config.size >= 1, 'a positive number of pixels'),
    'num_views': (config.num_views >= 1, 'at least 1'),
    'scale': (_is_range(config.scale) and config.scale[0] > 0, '(low, high) with 0 < low <= high'),
    'ratio': (_is_range(config.ratio) and config.ratio[0] > 0, '(low, high) with 0 < low <= high'),
    'interpolation': (config.interpolation in ('bilinear', 'bicubic'), 'bilinear or bicubic'),
    'rotate': (_is_range(config.rotate), '(low, high) with low <= high'),
    'shared_by': (config.shared_by >= 1, 'at least 1'),
    'jitter': (
      len(config.jitter) == 4 and min(config.jitter) >= 0 and config.jitter[HUE] <= 0.5,
      'four numbers of at least 0, the last (hue) at most 0.5',
    ),
    'blur_sigma': (
      _is_range(config.blur_sigma) and config.blur_sigma[0] > 0,
      '(low, high) with 0 < low <= high',
    ),
    'blur_kernel': (
      not any(per_view(config, 'blur_prob')) or (kernel % 2 == 1 and kernel // 2 < config.size),
      'an odd number below twice the size, or 0',
    ),
    'std': (min(config.std) > 0, 'positive numbers'),
  }
  for field in CHANCES:
    chances = per_view(config, field)
    fits = len(chances) == config.num_views and min(chances) >= 0 and max(chances) <= 1
    requirements[field] = (fits, 'numbers from 0 to 1, one or one for each view')
  for field, (fits, wanted) in requirements.items():
    if not fits:
      raise InputError(f'views.{field} is {config[field]}, wanted {wanted}')


def _is_range(value):
  return len(value) == 2 and value[0] <= value[1]
