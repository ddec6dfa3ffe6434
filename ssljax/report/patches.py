"""Patches of images as pictures: where a ViT looks, what it takes for alike, what matches what."""

import numpy as np

from ssljax.discovery import cl_vs_mim
from ssljax.report import embed2d
from ssljax.report.tiles import to_uint8

SIDE = 96  # pixels a side, at least, of a picture with marks
MARKS = np.array([[230, 60, 60], [70, 130, 255], [60, 200, 90], [245, 170, 30], [200, 90, 220]])


def class_attention(qkv, grid, *, class_token: bool = True) -> np.ndarray:
  """[N, heads, rows, columns]: how much of its attention each patch gets from the class token.

  qkv: queries and keys of a block, [N, T, heads, d], as of `models/vit.py`. Without a class token,
  how much it gets from all patches on average.
  """
  attention = np.asarray(cl_vs_mim.attention(qkv))
  got = attention[:, :, 0] if class_token else attention.mean(2)
  return got[..., -grid[0] * grid[1] :].reshape(*got.shape[:2], *grid)


def within(tokens) -> np.ndarray:
  """Tokens [N, L, D] less their mean over the patches of each image: what differs inside it."""
  x = np.asarray(tokens, np.float32)
  return x - x.mean(1, keepdims=True)


def pca_rgb(tokens, grid, *, foreground: bool = False) -> np.ndarray:
  """[N, rows, columns, 3] in [0, 1]: three principal components of all patches as red, green, blue.

  The components are those of the patches of all images together, so one colour means one thing in
  all of them. Each is scaled so that 2% of the patches are dark and 2% are full.

  Args:
    tokens: [N, L, D], patches in raster order, as they are or `within` their images.
    foreground: a first component only tells object from ground, as in figure 1 of the DINOv2 paper,
      and the colours are those of the components of what is left. Here it is the first of each
      image by itself, and the ground, black, the side of its mean that has more of the edges.
  """
  x = np.asarray(tokens, np.float32)
  n, length, _ = x.shape
  flat = x.reshape(n * length, -1)
  kept = np.ones(len(flat), bool)
  if foreground and not embed2d.is_constant(flat):
    kept = np.stack([_foreground(tokens, grid) for tokens in x]).ravel()
  colours = np.zeros((len(flat), 3), np.float32)
  if kept.sum() > 3 and not embed2d.is_constant(flat[kept]):
    scores = embed2d.pca(flat[kept], 3)[0][:, :3]
    low, high = np.percentile(scores, [2, 98], axis=0)
    scaled = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    colours[kept, : scaled.shape[1]] = 0.1 + 0.9 * scaled if foreground else scaled
  return colours.reshape(n, *grid, 3)


def _foreground(tokens, grid):
  """bool [rows, columns]: the side of the first component's mean that is less at the edges."""
  if embed2d.is_constant(tokens):
    return np.zeros(grid, bool)
  above = (embed2d.pca(tokens, 1)[0][:, 0] > 0).reshape(grid)
  edge = np.ones(grid, bool)
  edge[1:-1, 1:-1] = False
  return above if above[edge].mean() <= above.mean() else ~above


def _standing_out(tokens, grid):
  """[L]: how far a patch of the foreground is from the mean of its image; 0 for the ground."""
  return np.linalg.norm(tokens - tokens.mean(0), axis=1) * _foreground(tokens, grid).ravel()


def match(a, b) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Of each patch of a [L, D] the most similar of b [M, D]: (index [L], cosine [L], mutual [L]).

  Mutual are those whose match's best is themselves.
  """
  cosine = embed2d.unit(a) @ embed2d.unit(b).T
  index = cosine.argmax(1)
  return index, cosine.max(1), cosine.argmax(0)[index] == np.arange(len(a))


def pictures(
  images, tokens, qkv, grid, *, features, class_token: bool = True, rows: int = 8
) -> dict[str, np.ndarray]:
  """{title: [rows, k, H, W, 3] in [0, 1]}, the title naming the k pictures of an image.

  images: uint8 [N, H, W, C]; tokens: [N, L, D]; qkv: of the last block, or None; features: [N, D],
  by which the image is found that another is matched with.
  """
  rgb = np.stack([to_uint8(x) for x in images]) / np.float32(255)
  tokens = np.asarray(tokens, np.float32)
  inner = within(tokens)
  n = min(rows, len(images))
  shown = {}
  if qkv is not None:
    maps = class_attention([x[:n] for x in qkv], grid, class_token=class_token)
    who = 'the class token' if class_token else 'all patches'
    title = f'the image, and what {who} attend{"s" if class_token else ""} to in the last block, '
    title += 'a picture for each head, from least (black) to most'
    shown[title] = _beside(rgb[:n], heat(maps), grid)
  both = np.stack([pca_rgb(inner, grid, foreground=f)[:n] for f in (False, True)], axis=1)
  title = 'the image, the principal components of its patches as colours, and of its foreground'
  shown[title] = _beside(rgb[:n], both, grid)
  if len(images) > 1:
    other = embed2d.neighbours(np.asarray(features), np.arange(n), 1)[0][:, 0]
    title = 'the image, its nearest neighbour, the same colours on patches that are each other’s '
    title += 'best match, and the neighbour pieced together from the patches of the image'
    shown[title] = np.stack(
      [
        matched(rgb[i], rgb[j], tokens[i], tokens[j], grid, _standing_out(inner[i], grid))
        for i, j in enumerate(other)
      ]
    )
  return shown


def heat(maps) -> np.ndarray:
  """Maps [..., rows, columns] as colours [..., 3], each black at its least, bright at its most."""
  import matplotlib

  scaled = maps - maps.min((-2, -1), keepdims=True)
  scaled = scaled / np.maximum(scaled.max((-2, -1), keepdims=True), 1e-30)
  return matplotlib.colormaps['inferno'](scaled)[..., :3].astype(np.float32)


def enlarged(maps, size) -> np.ndarray:
  """Maps [..., rows, columns, 3] with each patch as large as in an image of `size` (H, W)."""
  rows, columns = maps.shape[-3:-1]
  return maps.repeat(size[0] // rows, -3).repeat(size[1] // columns, -2)


def _beside(rgb, maps, grid):
  """Images [n, H, W, 3] and maps [n, k, rows, columns, 3] -> [n, 1 + k, H, W, 3]."""
  return np.concatenate([rgb[:, None], enlarged(maps, rgb.shape[1:3])], axis=1)


def matched(image, other, a, b, grid, weight) -> np.ndarray:
  """[3, H, W, 3]: two images with patches that match framed alike, and the second in the patches of
  the first that match its own best.

  image, other: [h, w, 3]; they are enlarged to SIDE pixels or more. a, b: their tokens [L, D]; what
  all patches of an image share is taken off. weight: [L], the larger the sooner a patch is framed,
  at 0 never.
  """
  a, b = a - a.mean(0), b - b.mean(0)
  size = image.shape[:2]
  index, _, mutual = match(a, b)
  chosen = _apart(weight, mutual, grid)
  scale = -(-SIDE // min(size))
  big = [x.repeat(scale, 0).repeat(scale, 1) for x in (image, other)]
  for mark, place in zip(MARKS, chosen, strict=False):
    for x, p in ((big[0], place), (big[1], index[place])):
      _frame(x, np.unravel_index(p, grid), scale * size[0] // grid[0], mark / 255)
  back, _, _ = match(b, a)
  h, w = size[0] // grid[0], size[1] // grid[1]
  cut = image.reshape(grid[0], h, grid[1], w, 3).swapaxes(1, 2).reshape(-1, h, w, 3)
  pieced = cut[back].reshape(*grid, h, w, 3).swapaxes(1, 2).reshape(image.shape)
  return np.stack([*big, pieced.repeat(scale, 0).repeat(scale, 1)])


def _apart(weight, allowed, grid):
  """Allowed patches of some weight, the heaviest first, none within two steps of another."""
  chosen = []
  for place in np.argsort(-weight, kind='stable'):
    here = np.array(np.unravel_index(place, grid))
    near = [np.abs(here - np.unravel_index(p, grid)).max() < 2 for p in chosen]
    if weight[place] > 0 and allowed[place] and not any(near) and len(chosen) < len(MARKS):
      chosen.append(place)
  return chosen


def _frame(x, place, patch, colour, width=2):
  top, left = place[0] * patch, place[1] * patch
  inside = x[top + width : top + patch - width, left + width : left + patch - width].copy()
  x[top : top + patch, left : left + patch] = colour
  x[top + width : top + patch - width, left + width : left + patch - width] = inside
