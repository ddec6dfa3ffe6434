"""Images as rows of patches, and back."""

from ssljax.errors import InputError
from ssljax.ops._check import check_shape


def patchify(images, patch_size):
  """Cuts images into square patches: [B, H, W, C] -> [B, (H / p) * (W / p), p * p * C].

  Patches come row by row; the values of a patch in the order row, column, channel (channel
  fastest), as in MAE.

  Args:
    images: [B, H, W, C].
    patch_size: p, in pixels.

  Raises:
    InputError: `images` is not [B, H, W, C], or p does not divide H and W.
  """
  check_shape('images', images, ('B', 'H', 'W', 'C'))
  b, height, width, c = images.shape
  h, w, p = height // patch_size, width // patch_size, patch_size
  if (h * p, w * p) != (height, width):
    raise InputError(f'images are {height} x {width}, wanted sides that patch_size {p} divides')
  return images.reshape(b, h, p, w, p, c).swapaxes(2, 3).reshape(b, h * w, p * p * c)


def unpatchify(patches, patch_size, height, width):
  """The inverse of `patchify`: [B, L, P] -> [B, height, width, C].

  Args:
    patches: [B, L, P], P = patch_size**2 * C.
    patch_size: p, in pixels.
    height: of the images, in pixels; `width` likewise. L = (height / p) * (width / p).

  Raises:
    InputError: `patches` does not fit the sizes.
  """
  h, w, p = height // patch_size, width // patch_size, patch_size
  if (h * p, w * p) != (height, width):
    raise InputError(f'images are {height} x {width}, wanted sides that patch_size {p} divides')
  check_shape('patches', patches, ('B', h * w, 'P'))
  b, _, values = patches.shape
  if values % (p * p):
    raise InputError(f'patches hold {values} values, wanted a multiple of {p} x {p}')
  return patches.reshape(b, h, w, p, p, -1).swapaxes(2, 3).reshape(b, height, width, -1)
