"""Crops, resizing and blur: linear maps of rows and of columns, so each is two small matrices.

A dense matrix costs more multiplications than a loop over its band, but they are matrix products on
every platform: at 224 pixels a matrix is 200 kB and one image takes 0.1 GFLOP. Rotation is no such
map; it gathers pixels.
"""

import math

import jax
import jax.numpy as jnp

from ssljax.errors import InputError

CROP_UNIFORMS = 40


def crop_box(uniforms, height, width, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
  """The box of torchvision's RandomResizedCrop, as a function of the random numbers it takes.

  Of ten proposals with area ~ U(scale) * height * width and aspect ratio ~ exp(U(log ratio)), the
  first that fits in the image is placed uniformly; if none fits, the box is the largest central one
  whose ratio is within `ratio`.

  Args:
    uniforms: [40] in [0, 1): ten areas, ten ratios, ten vertical and ten horizontal places.
    height, width: of the image in pixels, Python ints.
    scale: least and greatest share of the image's area.
    ratio: least and greatest width / height.

  Returns:
    int32 [4]: top, left, height, width in pixels.
  """
  area, aspect, top, left = uniforms.reshape(4, -1)
  area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
  low, high = (math.log(r) for r in ratio)
  aspect = jnp.exp(low + (high - low) * aspect)
  h, w = jnp.round(jnp.sqrt(area / aspect)), jnp.round(jnp.sqrt(area * aspect))
  fits = (h > 0) & (h <= height) & (w > 0) & (w <= width)
  boxes = jnp.stack([jnp.floor(top * (height - h + 1)), jnp.floor(left * (width - w + 1)), h, w])
  box = boxes[:, jnp.argmax(fits)].astype(jnp.int32)
  return jnp.where(jnp.any(fits), box, jnp.array(_central_box(height, width, ratio), jnp.int32))


def crop_resize(image, box, size, method='bicubic', flip=False):
  """Cuts a box out of an image, resizes it to a square with antialiasing, mirrors it if asked.

  Output pixel o is the mean of the box's pixels i with weights k((i - c(o)) / max(1, step)), where
  c(o) is the centre of o in the image, step = box side / size, and k the triangle (bilinear) or
  Keys' cubic with a = -1/2 (bicubic; the constant of Pillow, and of torchvision with antialiasing).
  Pixels outside the box do not count, as where one crops first and resizes then. Bicubic overshoots
  are clipped to [0, 1], as they are in uint8 images.

  Args:
    image: [H, W, C] in [0, 1].
    box: [4], top, left, height, width in pixels, height and width at least 1; may be traced.
    size: side of the output in pixels, a Python int.
    method: 'bilinear' or 'bicubic'.
    flip: whether to mirror left and right; may be traced.

  Returns:
    [size, size, C].
  """
  height, width, _ = image.shape
  top, left, box_height, box_width = box
  rows = _resize_matrix(top, box_height, height, size, method)
  columns = _resize_matrix(left, box_width, width, size, method)
  image = _separable(image, rows, jnp.where(flip, columns[::-1], columns))
  return jnp.clip(image, 0, 1) if method == 'bicubic' else image


def gaussian_blur(image, sigma, kernel_size):
  """Convolves an image, reflected at its borders, with a truncated Gaussian of sum 1 (torchvision).

  Args:
    image: [H, W, C], both sides greater than kernel_size // 2.
    sigma: standard deviation in pixels; may be traced; 0 leaves the image as it is.
    kernel_size: odd number of taps, a Python int.

  Returns:
    [H, W, C].

  Raises:
    InputError: the kernel is even or reaches further than one reflection.
  """
  height, width, _ = image.shape
  if kernel_size % 2 == 0 or kernel_size // 2 >= min(height, width):
    raise InputError(
      f'kernel_size is {kernel_size} for an image of {height}x{width}, wanted an odd number, '
      'half of it below both sides'
    )
  rows, columns = (_blur_matrix(sigma, kernel_size // 2, n) for n in (height, width))
  return _separable(image, rows, columns)


def rotate(image, degrees):
  """Turns an image counterclockwise about its centre, bilinear, black where nothing is seen.

  The output pixel at (x, y) from the centre, x to the right and y down, shows the image at (c x - s
  y, s x + c y), c and s the cosine and sine of the angle, as Pillow's Image.rotate with BILINEAR.

  Args:
    image: [H, W, C].
    degrees: the angle; may be traced.

  Returns:
    [H, W, C].
  """
  height, width, _ = image.shape
  angle = jnp.deg2rad(degrees)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  y = jnp.arange(height)[:, None] + 0.5 - height / 2
  x = jnp.arange(width) + 0.5 - width / 2
  row, column = sin * x + cos * y + height / 2, cos * x - sin * y + width / 2
  inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
  # From here in pixel centres. Beyond the outermost the image goes on as they are.
  row, column = jnp.clip(row - 0.5, 0, height - 1), jnp.clip(column - 0.5, 0, width - 1)
  top, left = jnp.floor(row).astype(jnp.int32), jnp.floor(column).astype(jnp.int32)
  down, right = (row - top)[..., None], (column - left)[..., None]
  bottom, end = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
  above = (1 - right) * image[top, left] + right * image[top, end]
  below = (1 - right) * image[bottom, left] + right * image[bottom, end]
  return jnp.where(inside[..., None], (1 - down) * above + down * below, 0)


def _central_box(height, width, ratio):
  w = min(width, round(height * ratio[1]))
  h = min(height, round(width / ratio[0]))
  return (height - h) // 2, (width - w) // 2, h, w


def _resize_matrix(start, extent, size, out_size, method):
  step = extent / out_size
  centers = start + (jnp.arange(out_size) + 0.5) * step
  pixels = jnp.arange(size) + 0.5
  weights = _KERNELS[method](jnp.abs(pixels - centers[:, None]) / jnp.maximum(step, 1))
  weights = jnp.where((pixels > start) & (pixels < start + extent), weights, 0)
  return weights / jnp.sum(weights, 1, keepdims=True)


def _triangle(x):
  return jnp.maximum(1 - x, 0)


def _cubic(x):
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


_KERNELS = {'bilinear': _triangle, 'bicubic': _cubic}


def _blur_matrix(sigma, radius, size):
  # At 1e-3 every tap but the central one underflows, and the matrix is exactly the identity.
  sigma = jnp.maximum(sigma, 1e-3)

  def tap(distance):
    return jnp.where(jnp.abs(distance) <= radius, jnp.exp(-0.5 * (distance / sigma) ** 2), 0)

  taps = tap(jnp.arange(-radius, radius + 1))
  o, i = jnp.arange(size)[:, None], jnp.arange(size)
  last = size - 1
  # Pixel i stands also at -i and at 2 last - i, its mirror images, except the two border pixels.
  matrix = tap(i - o) + jnp.where(i > 0, tap(i + o), 0)
  matrix += jnp.where(i < last, tap(2 * last - i - o), 0)
  return matrix / jnp.sum(taps)


def _separable(image, rows, columns):
  # On accelerators the default precision of a product keeps 8 to 10 bits, which shows in an image.
  return jnp.einsum('yh,hwc,xw->yxc', rows, image, columns, precision=jax.lax.Precision.HIGHEST)
