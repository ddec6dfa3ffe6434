"""Random views of images on the device, with the semantics of torchvision's v1 transforms.

A view is a random resized crop, mirrored or not, then rotation, colour jitter, greyscale, blur,
solarisation and normalisation. Drawing the parameters (`sample`) is apart from using them
(`apply`), so that a method can have both:

  config = get_config(32, jitter_prob=0.8, grayscale_prob=0.2)      # two views
  x = make(config)(rng, images)                                    # [B, 2, 32, 32, C]
  x, parameters = make(config, with_parameters=True)(rng, images)  # parameters: {name: [B, 2, ...]}

Where torchvision rounds uint8 images after each operation, these stay float32. A chance that is 0
for every view leaves its operation out of the compiled program.
"""

import jax
import jax.numpy as jnp
import ml_collections

from ssljax.augment._color import (
  HUE,
  JITTER_UNIFORMS,
  adjust_brightness,
  adjust_contrast,
  adjust_hue,
  adjust_saturation,
  color_jitter,
  grayscale,
  jitter_parameters,
  solarize,
)
from ssljax.augment._config import CHANCES, blur_kernel, check, get_config, one_view, per_view
from ssljax.augment._geometry import CROP_UNIFORMS, crop_box, crop_resize, gaussian_blur, rotate
from ssljax.errors import InputError

__all__ = [
  'adjust_brightness',
  'adjust_contrast',
  'adjust_hue',
  'adjust_saturation',
  'apply',
  'color_jitter',
  'crop_box',
  'crop_resize',
  'gaussian_blur',
  'get_config',
  'grayscale',
  'jitter_parameters',
  'main',
  'make',
  'one_view',
  'parameter_vector',
  'prepare',
  'rotate',
  'sample',
  'solarize',
  'to_display',
  'to_float',
]


def main(config):
  """The views of the size that features are taken at: of several sizes those named 'global'."""
  return config if 'size' in config else config['global']


def make(config, *, with_parameters=False):
  """Builds the jitted function that draws the views of a batch.

  The views of an image depend on `rng` and its place in the batch alone, not on the other images
  nor on the number of devices, and nothing crosses the batch axis. With `shared_by` > 1 the images
  of one part of the batch are altered alike; their v-th views share the draws.

  Args:
    config: of `get_config`; for multi-crop several by name, {'global': config, 'local': config}.
    with_parameters: whether to return what `sample` drew as well.

  Returns:
    views(rng, images): images uint8, or float in [0, 1], [B, H, W, C] -> float32 [B, num_views,
    size, size, C], normalised; with parameters a pair of that and a dict of [B, num_views, ...]. Of
    several configs, each of these is a dict by name.

  Raises:
    InputError: a field has a value that cannot be.
  """
  if 'size' not in config:
    return _make_several(config, with_parameters)
  check(config)
  config = ml_collections.FrozenConfigDict(config)

  def views(rng, images):
    images = to_float(images)
    view = jnp.arange(config.num_views)

    def one(key, view, image):
      parameters = sample(key, config, image.shape, view)
      return apply(image, parameters, config), parameters

    parts = -(-len(images) // config.shared_by)
    keys = jax.random.split(rng, (parts, config.num_views))
    if config.shared_by > 1:
      keys = keys[jnp.arange(len(images)) // config.shared_by]
    images, parameters = jax.vmap(jax.vmap(one, (0, 0, None)), (0, None, 0))(keys, view, images)
    return (images, parameters) if with_parameters else images

  return jax.jit(views)


def sample(key, config, shape, view=0):
  """Draws the parameters of one view of one image.

  Args:
    key: random key.
    config: of `get_config`.
    shape: (height, width, ...) of the image.
    view: which view, for chances that differ between views; may be traced.

  Returns:
    A dict with `box` int32 [4] (top, left, height, width in pixels of the image) and, unless its
    chance is 0 for every view: `flip` bool; `angle` float32, in degrees; `factors` float32 [4] and
    `order` int32 [4] of `color_jitter`; `grayscale` bool; `sigma` float32, in pixels of the view, 0
    for no blur; `solarize` bool.
  """
  chances = {field: per_view(config, field) for field in CHANCES}
  drawn = {field: jnp.array(chances[field])[view] for field in CHANCES if any(chances[field])}
  # One draw for everything: each separate one adds half a second to the compilation.
  turns = 2 if 'rotate_prob' in drawn else 0
  uniforms = jax.random.uniform(key, (CROP_UNIFORMS + JITTER_UNIFORMS + 5 + turns,))
  crop, jitter, rest = jnp.split(uniforms, (CROP_UNIFORMS, CROP_UNIFORMS + JITTER_UNIFORMS))
  flip, gray, blur, spread, invert, *turn = rest

  parameters = {'box': crop_box(crop, *shape[:2], config.scale, config.ratio)}
  if 'flip' in drawn:
    parameters['flip'] = flip < drawn['flip']
  if 'rotate_prob' in drawn:
    low, high = config.rotate
    parameters['angle'] = jnp.where(turn[0] < drawn['rotate_prob'], low + (high - low) * turn[1], 0)
  if 'jitter_prob' in drawn and any(config.jitter):
    parameters['factors'], parameters['order'] = jitter_parameters(
      jitter, config.jitter, drawn['jitter_prob']
    )
  if 'grayscale_prob' in drawn:
    parameters['grayscale'] = gray < drawn['grayscale_prob']
  if 'blur_prob' in drawn:
    low, high = config.blur_sigma
    parameters['sigma'] = jnp.where(blur < drawn['blur_prob'], low + (high - low) * spread, 0)
  if 'solarize_prob' in drawn:
    parameters['solarize'] = invert < drawn['solarize_prob']
  return parameters


def apply(image, parameters, config):
  """Makes the view of an image that `parameters`, from `sample`, describe.

  Args:
    image: float [H, W, C] in [0, 1]. If C is not 3, saturation, hue and greyscale do nothing.
    parameters: dict of `sample`; an operation whose parameters are missing is left out.
    config: of `get_config`; gives what is not random: size, interpolation, blur kernel, mean, std.

  Returns:
    float32 [size, size, C], normalised.
  """
  flip = parameters.get('flip', False)
  image = crop_resize(image, parameters['box'], config.size, config.interpolation, flip)
  if 'angle' in parameters:
    image = rotate(image, parameters['angle'])
  if 'factors' in parameters:
    hue = config.jitter[HUE] > 0
    image = color_jitter(image, parameters['factors'], parameters['order'], hue)
  if 'grayscale' in parameters:
    image = grayscale(image, parameters['grayscale'])
  if 'sigma' in parameters:
    image = gaussian_blur(image, parameters['sigma'], blur_kernel(config))
  if 'solarize' in parameters:
    image = jnp.where(parameters['solarize'], solarize(image), image)
  return _normalize(image, config)


def parameter_vector(parameters, shape):
  """What `sample` drew as one vector, for networks that are told how a view was made.

  Of those that there are, in this order: the box as shares of the image's sides, `flip`, the sine
  and cosine of `angle`, `factors`, `grayscale`, `sigma`, `solarize`; not the order of the jitter.

  Args:
    parameters: dict of `sample`, with any leading axes.
    shape: (height, width, ...) of the image.

  Returns:
    float32 [..., P].
  """
  height, width = shape[:2]
  parts = [parameters['box'] / jnp.array([height, width, height, width], jnp.float32)]
  for name in ('flip', 'angle', 'factors', 'grayscale', 'sigma', 'solarize'):
    if name in parameters:
      value = parameters[name]
      if name == 'angle':
        value = jnp.stack([jnp.sin(jnp.deg2rad(value)), jnp.cos(jnp.deg2rad(value))], -1)
      elif name != 'factors':
        value = value[..., None]
      parts.append(jnp.asarray(value, jnp.float32))
  return jnp.concatenate(parts, -1)


def prepare(images, config):
  """Images for evaluation: nothing random, the whole image resized to `size`, normalised.

  Args:
    images: uint8, or float in [0, 1], [B, H, W, C].
    config: of `get_config`.

  Returns:
    float32 [B, size, size, C].
  """
  images = to_float(images)
  height, width = images.shape[1:3]
  if (height, width) != (config.size, config.size):
    box = (0, 0, height, width)
    images = jax.vmap(lambda x: crop_resize(x, box, config.size, config.interpolation))(images)
  return _normalize(images, config)


def normalize(images, config):
  """Images [B, H, W, C], uint8 or float in [0, 1], of any size, normalised and not resized."""
  return _normalize(to_float(images), config)


def to_display(x, config):
  """Normalised images [..., C] back to [0, 1]: clip(x * std + mean, 0, 1)."""
  return jnp.clip(x * jnp.array(config.std) + jnp.array(config.mean), 0, 1)


def _make_several(configs, with_parameters):
  makers = {name: make(configs[name], with_parameters=with_parameters) for name in sorted(configs)}

  def views(rng, images):
    keys = jax.random.split(rng, len(makers))
    outputs = {n: m(k, images) for (n, m), k in zip(makers.items(), keys, strict=True)}
    if not with_parameters:
      return outputs
    return {n: o[0] for n, o in outputs.items()}, {n: o[1] for n, o in outputs.items()}

  return jax.jit(views)


def to_float(images):
  """Images [B, H, W, C], uint8 or float in [0, 1], as float32 in [0, 1]."""
  if images.ndim != 4:
    raise ValueError(f'images has shape {images.shape}, wanted [B, H, W, C]')
  if images.dtype == jnp.uint8:
    return jnp.asarray(images, jnp.float32) / 255
  if jnp.issubdtype(images.dtype, jnp.floating):
    return jnp.asarray(images, jnp.float32)
  raise InputError(f'images have dtype {images.dtype}, wanted uint8 or float in [0, 1]')


def _normalize(image, config):
  channels = image.shape[-1]
  for field in ('mean', 'std'):
    if len(config[field]) not in (1, channels):
      raise InputError(
        f'{field} has {len(config[field])} values for images of {channels} channels, '
        'wanted one, or one for each channel'
      )
  return (image - jnp.array(config.mean)) / jnp.array(config.std)
