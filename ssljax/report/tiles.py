"""Small pictures as data URIs."""

import base64
import io

import numpy as np

LARGEST = 96  # pixels a side
PIXELS = 48  # up to here single pixels are seen, so they are kept as they are


def to_uint8(image: np.ndarray) -> np.ndarray:
  """[H, W, C] uint8, or float in [0, 1], as RGB uint8; of other channels the first three."""
  if image.dtype != np.uint8:
    image = np.round(255 * np.clip(np.nan_to_num(image), 0, 1)).astype(np.uint8)
  return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def data_uri(image: np.ndarray) -> str:
  """A picture, at most LARGEST pixels a side: PNG up to PIXELS, JPEG above."""
  from PIL import Image

  picture = Image.fromarray(to_uint8(np.asarray(image)))
  picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
  file, kind = io.BytesIO(), 'PNG' if max(picture.size) <= PIXELS else 'JPEG'
  picture.save(file, kind, optimize=True, **({'quality': 85} if kind == 'JPEG' else {}))
  return f'data:image/{kind.lower()};base64,' + base64.b64encode(file.getvalue()).decode()
