"""Colour operations with given parameters, after torchvision's v1 functions on tensors.

Images are [H, W, C] in [0, 1] and stay there; parameters may be traced. Saturation, hue and
greyscale need three channels and leave every other image as it is (torchvision does so with one
channel and refuses other counts).

Inside, an image is a list of planes [H, W]. Then every step of a chain reads each pixel once; on
[H, W, C] each channel's output reads all three inputs, and when XLA fuses n steps into one loop the
work grows as 3^n.
"""

import itertools

import jax.numpy as jnp

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
JITTER_UNIFORMS = 6

_ORDERS = tuple(itertools.permutations(range(4)))


def grayscale(image, where=True):
  """[H, W, C] -> [H, W, C] with 0.2989 R + 0.587 G + 0.114 B in every channel.

  These are torchvision's weights on tensors; Pillow's mode L, used on its images, has 0.299 for red
  and rounds to whole grey levels. Where `where`, which may be traced, is false, nothing changes.
  """
  if image.shape[-1] != 3:
    return image
  planes = _planes(image)
  luma = _luma(planes)
  return jnp.stack([jnp.where(where, luma, plane) for plane in planes], -1)


def adjust_brightness(image, factor):
  """clip(factor * image, 0, 1)."""
  return _blend(image, 0.0, factor)


def adjust_contrast(image, factor):
  """clip(factor * image + (1 - factor) * m, 0, 1), m the mean over the image of its greyscale.

  Where C is not 3, m is the mean over the channels too.
  """
  return _blend(image, jnp.mean(_luma(_planes(image))), factor)


def adjust_saturation(image, factor):
  """clip(factor * image + (1 - factor) * grayscale(image), 0, 1)."""
  return _blend(image, grayscale(image), factor) if image.shape[-1] == 3 else image


def adjust_hue(image, shift):
  """Turns the hue of HSV by `shift` of the full circle, saturation and value unchanged.

  With value v, chroma c = max - min and hue h in sixths of the circle, the channels are
  v - c * clip(min(k, 4 - k), 0, 1), k = (n + h) mod 6, n = 5, 3, 1 for red, green, blue.
  """
  return image if image.shape[-1] != 3 else jnp.stack(_turn_hue(_planes(image), shift), -1)


def color_jitter(image, factors, order, hue=True):
  """Applies the four adjustments in a given order.

  Brightness, contrast and saturation are one form, f * image + (1 - f) * base, so a traced choice
  among them costs nothing; hue, which is not, is evaluated once, between three steps that do
  nothing unless they come before it and three that do nothing unless they come after it.

  Args:
    image: [H, W, C].
    factors: [4], brightness, contrast, saturation, hue; (1, 1, 1, 0) leaves the image as it is.
    order: int [4], a permutation of BRIGHTNESS, CONTRAST, SATURATION, HUE, first applied first.
    hue: a Python bool; False leaves the hue step out, whatever its factor.

  Returns:
    [H, W, C].
  """
  hue_step = jnp.argmax(order == HUE)
  steps = jnp.arange(3)
  operations = order[steps + (steps >= hue_step)]
  before = steps < hue_step
  colored = image.shape[-1] == 3

  def blends(planes, active):
    for operation, on in zip(operations, active, strict=True):
      luma = _luma(planes)
      base = jnp.where(operation == CONTRAST, jnp.mean(luma), luma)
      base = jnp.where(operation == BRIGHTNESS, 0, base)
      on = on if colored else on & (operation != SATURATION)
      factor = jnp.where(on, factors[operation], 1)
      planes = [_blend(plane, base, factor) for plane in planes]
    return planes

  planes = _planes(image)
  if hue and colored:
    planes = blends(_turn_hue(blends(planes, before), factors[HUE]), ~before)
  else:
    planes = blends(planes, [True] * 3)
  return jnp.stack(planes, -1)


def solarize(image, threshold=128 / 255):
  """Inverts the pixels at or above the threshold: 1 - image where image >= threshold."""
  return jnp.where(image >= threshold, 1 - image, image)


def jitter_parameters(uniforms, strengths, prob=1.0):
  """The factors and order for `color_jitter`, by torchvision's ColorJitter inside RandomApply.

  Args:
    uniforms: [6] in [0, 1): four factors, the order, whether to jitter at all.
    strengths: (b, c, s, h): factors ~ U(max(0, 1 - b), 1 + b), likewise c, s; hue ~ U(-h, h).
    prob: probability of jittering; may be traced. Without it the factors are (1, 1, 1, 0).

  Returns:
    (factors float32 [4], order int32 [4]).
  """
  *blends, hue = strengths
  low = jnp.array([*(max(0.0, 1 - s) for s in blends), -hue], jnp.float32)
  high = jnp.array([*(1 + s for s in blends), hue], jnp.float32)
  factors = low + (high - low) * uniforms[:4]
  identity = jnp.array([1, 1, 1, 0], jnp.float32)
  order = jnp.array(_ORDERS, jnp.int32)[(uniforms[4] * len(_ORDERS)).astype(jnp.int32)]
  return jnp.where(uniforms[5] < prob, factors, identity), order


def _planes(image):
  return [image[..., channel] for channel in range(image.shape[-1])]


def _luma(planes):
  if len(planes) != 3:
    return sum(planes) / len(planes)
  red, green, blue = planes
  return 0.2989 * red + 0.587 * green + 0.114 * blue


def _blend(image, base, factor):
  return jnp.clip(factor * image + (1 - factor) * base, 0, 1)


def _turn_hue(planes, shift):
  red, green, blue = planes
  value = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
  # Grey pixels have no hue; any finite one will do, as it is multiplied by a chroma of zero.
  per_chroma = 1 / jnp.where(chroma > 0, chroma, 1)
  # No `value == red`: compiled, the two may be computed apart and rounded differently, and neither
  # red, green nor blue would equal the value.
  hue = jnp.where(
    (red >= green) & (red >= blue),
    (green - blue) * per_chroma,
    jnp.where(green >= blue, (blue - red) * per_chroma + 2, (red - green) * per_chroma + 4),
  )

  def channel(n):
    k = n + hue + 6 * shift
    k -= 6 * jnp.floor(k / 6)
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

  return [channel(5.0), channel(3.0), channel(1.0)]
