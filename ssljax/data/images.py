"""Images, from files or arrays, made uint8 [H, W, C] of one shape.

Pillow does the work: the short side is resized, bicubic with antialias, and the centre cropped.
Photos are turned upright by their EXIF tag, transparent pixels laid on white, 16-bit images scaled
from 0..65535 to 0..255.
"""

import functools
import io
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from ssljax.data.source import LazySource, Unreadable
from ssljax.errors import InputError


def from_files(
  files: Sequence[str | bytes],
  names: Sequence[str],
  labels: Mapping[str, np.ndarray],
  classes: tuple[str, ...] | None,
  config: ConfigDict,
  where: str,
) -> LazySource:
  """A source of image files, decoded when they are read.

  files: paths or contents; names: theirs in messages. labels: {'label': int32 [N]} or {}.
  The first image that can be read comes first, and its shape is that of all others where the
  config leaves it open. Raises InputError, with `where`, if none can.
  """
  shape = {'size': square(config.image_size), 'channels': config.channels}
  reason, first, image = '', 0, None
  while image is None:
    if first == len(files):
      raise InputError(f'none of the {first} images of {where} can be read, the last: {reason}')
    try:
      image = decode(files[first], names[first], **shape)
    except Unreadable as error:
      reason, first = error, first + 1
  if first:
    order = [first, *range(first), *range(first + 1, len(files))]
    files, names = ([x[i] for i in order] for x in (files, names))
    labels = {name: y[order] for name, y in labels.items()}
  shape = {'size': image.shape[:2], 'channels': image.shape[2]}
  read = functools.partial(_read, files, names, labels, shape)
  return LazySource(read, len(files), classes, names)


def _read(files, names, labels, shape, i):
  image = decode(files[i], names[i], **shape)
  return {'image': image, **{name: y[i] for name, y in labels.items()}}


def decode(
  file: str | bytes, where: str, *, size: tuple[int, int] | None, channels: int
) -> np.ndarray:
  """uint8 [H, W, C] of an image file.

  file: its path or its contents. where: its name in messages. size: (height, width), or None
  for the image's own. channels: 1, 3, or 0 for 1 if the image is grey and 3 otherwise.

  Raises Unreadable for whatever is no whole image.
  """
  from PIL import Image, ImageOps, UnidentifiedImageError

  try:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
      if size:  # JPEG decodes a large photo straight to a smaller one, here at least twice `size`
        image.draft(None, (2 * max(size), 2 * max(size)))
      return _fit(_opaque(_eight_bits(ImageOps.exif_transpose(image))), size, channels)
  except UnidentifiedImageError as error:
    raise Unreadable(f'{where} is not an image of a kind that can be read') from error
  except Exception as error:  # Pillow raises what its decoders raise, of a dozen kinds
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise Unreadable(f'{where} cannot be read as an image ({reason})') from error


def fit(image: np.ndarray, *, size: tuple[int, int] | None, channels: int) -> np.ndarray:
  """The same for an array, uint8 [H, W, C] with 1 or 3 channels."""
  if (size or image.shape[:2]) == image.shape[:2] and channels in (0, image.shape[2]):
    return image
  from PIL import Image

  return _fit(Image.fromarray(image[..., 0] if image.shape[2] == 1 else image), size, channels)


def square(side: int) -> tuple[int, int] | None:
  """(side, side), or None for 0."""
  return (side, side) if side else None


def _fit(image, size, channels) -> np.ndarray:
  from PIL import Image, ImageOps

  image = image.convert({0: 'L' if image.mode in ('1', 'L') else 'RGB', 1: 'L', 3: 'RGB'}[channels])
  if size and size != (image.height, image.width):
    image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BICUBIC)
  pixels = np.array(image)
  return pixels[..., None] if pixels.ndim == 2 else pixels


def _eight_bits(image):
  from PIL import Image

  if image.mode != 'F' and not image.mode.startswith('I'):
    return image
  pixels = np.asarray(image)
  high = 1 if image.mode == 'F' else 2**16 - 1
  if not ((pixels >= 0) & (pixels <= high)).all():
    raise ValueError(f'its values are not all from 0 to {high}')
  return Image.fromarray(np.rint(pixels * (255 / high)).astype(np.uint8))


def _opaque(image):
  from PIL import Image

  if not image.has_transparency_data:
    return image
  image = image.convert('RGBA')
  return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
