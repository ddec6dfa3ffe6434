"""What the encoder of a run makes of single patches, of images of any size.

run = restore.open_run('runs/mae')
see = looking.make(run.config, run.train_state, run.program.mesh)
found = see(images)  # uint8 [N, H, W, C]; 'tokens', 'layers', 'qkv' as models/vit.py has them
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import models, sharding
from ssljax.augment import image
from ssljax.discovery import cl_vs_mim
from ssljax.errors import InputError
from ssljax.models import vit
from ssljax.report import patches

ROWS = 8  # images shown
MEASURED = 64  # images that a number for a block is the mean of
PATCHES = 576  # of an image shown larger than in training: attention costs their square


def has_patches(config) -> bool:
  """Whether the encoder of a run's config is a ViT."""
  return config.encoder.name in vit.VARIANTS


def make(config, train_state, mesh, read=lambda outputs: outputs, *, batch_size=64) -> Callable:
  """(images uint8 [N, H, W, C]) -> read(outputs of the encoder), NumPy arrays [N, ...].

  Args:
    config: of a run whose encoder is a ViT. train_state: its parameters, at params['encoder'].
    mesh: the devices it lies on.
    read: picks of the outputs what is wanted; the rest is not computed.
    batch_size: images at a time, of one compiled shape.

  Sides of images are multiples of the patch size. They are normalised as in training, not resized.

  Raises InputError for another encoder, or a method that keeps its encoder elsewhere.
  """
  if not has_patches(config):
    raise InputError(f'encoder is {config.encoder.name}, wanted a ViT, which has patches')
  if 'encoder' not in train_state.params:
    raise InputError(f'method {config.method.name} has no parameters named encoder')
  encoder = models.make(
    config.encoder.copy_and_resolve_references(), dtype=jnp.dtype(config.compute_dtype)
  )
  params, stats = train_state.params['encoder'], train_state.state.get('stats', {})
  views = image.main(config.method.views)

  def apply(params, images):
    x = image.normalize(images, views)
    outputs, _ = encoder.apply(params, stats.get('encoder', stats), x, train=False)
    return jax.tree.map(lambda y: y.astype(jnp.float32), read(outputs))

  apply = jax.jit(apply, out_shardings=sharding.replicated(mesh))

  def see(images):
    images = np.asarray(images)
    size = min(batch_size, len(images))
    parts = []
    for start in range(0, len(images), size):
      rows = images[start : start + size]
      padded = np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])
      parts.append(jax.device_get(apply(params, sharding.put_replicated(padded, mesh))))
    return jax.tree.map(lambda *ys: np.concatenate(ys)[: len(images)], *parts)

  return see


def grid_of(config, images) -> tuple[int, int]:
  """(rows, columns) of patches in images [N, H, W, C]."""
  return tuple(side // config.encoder.patch_size for side in images.shape[1:3])


def at_view_size(config, images) -> np.ndarray:
  """Images as uint8 [N, size, size, C], of the size that the encoder is trained on."""
  views = image.main(config.method.views)
  if images.shape[1:3] == (views.size, views.size):
    return images
  shown = image.to_display(jax.jit(image.prepare, static_argnums=1)(images, _frozen(views)), views)
  return np.asarray(jnp.round(255 * shown), np.uint8)


def at_best_size(config, images) -> np.ndarray:
  """Square images as they are where they have more patches than in training, for those show more:
  up to three times the side, and PATCHES. Others at the size of training."""
  size, (height, width) = image.main(config.method.views).size, images.shape[1:3]
  fits = height == width and height % config.encoder.patch_size == 0
  if fits and size < height <= 3 * size and math.prod(grid_of(config, images)) <= PATCHES:
    return images
  return at_view_size(config, images)


def _frozen(views):
  from ml_collections import FrozenConfigDict

  return FrozenConfigDict(views)


def look(config, train_state, mesh, images, features) -> tuple[dict, dict]:
  """What a report shows of a ViT: ({title: [n, k, H, W, C] in [0, 1]}, {name: [depth]}).

  images: uint8 [N, H, W, C]; features: [N, D] of the same, by which an image's neighbour is found.
  The numbers are of images at the size of training, as in the paper.
  """
  see = make(config, train_state, mesh)
  measured, shown = (f(config, images[:MEASURED]) for f in (at_view_size, at_best_size))
  found = see(measured)
  numbers = {
    name: np.asarray(values)
    for name, values in cl_vs_mim.by_depth(
      found['layers'],
      found['qkv'],
      grid_of(config, measured),
      patch_size=config.encoder.patch_size,
    ).items()
    if np.isfinite(values).all()
  }
  if shown.shape != measured.shape:
    read = lambda out: {'tokens': out['tokens'], 'qkv': out['qkv'][-1:]}  # noqa: E731
    found = make(config, train_state, mesh, read, batch_size=ROWS)(shown)
  pictures = patches.pictures(
    shown,
    found['tokens'],
    found['qkv'][-1] if found['qkv'] else None,
    grid_of(config, shown),
    features=features[: len(shown)],
    class_token=config.encoder.class_token,
    rows=ROWS,
  )
  return pictures, numbers
