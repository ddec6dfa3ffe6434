"""What separates contrastive from masked pre-training inside a ViT, block by block.

    attention distance  mean over queries of sum_k A_qk |place_q - place_k|: how far it looks
    attention NMI       I(query; key) / sqrt(H(query) H(key)): whether keys depend on the query
    high frequencies    log amplitude of the tokens' maps at the highest frequency, less at zero
    separability        accuracy of a linear probe on the mean token

Contrastive learning looks far and, in late blocks, at the same keys whatever the query (NMI near
0), and keeps low frequencies; masked modelling looks near and keeps high ones. Park et al. 2023,
"What do self-supervised vision transformers learn?", sections 2 and 3, and the authors' notebooks.

Everything takes what `models/vit.py` returns: 'qkv' and 'layers', patches the last of their tokens.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.errors import InputError
from ssljax.ops import as_float

PAPER = 'Park et al. 2023, What do self-supervised vision transformers learn?'
FAMILY = 'metric'
MODALITY = 'image'
HIGHEST = jax.lax.Precision.HIGHEST


def attention(qkv):
  """softmax(q k' / sqrt(d)) of one block: (q, k, ...) [N, T, heads, d] -> [N, heads, T, T]."""
  q, k = (as_float(x) for x in qkv[:2])
  scores = jnp.einsum('nqhd,nkhd->nhqk', q, k, precision=HIGHEST) * q.shape[-1] ** -0.5
  return jax.nn.softmax(scores, axis=-1)


def between_patches(attention, grid):
  """The part of an attention [..., T, T] that goes from patches to patches, rows made to sum to 1.

  Class token and registers, which come first, are left out.
  """
  count = grid[0] * grid[1]
  if attention.shape[-1] < count or attention.shape[-2] < count:
    raise InputError(
      f'attention has shape {list(attention.shape)}, wanted [..., T, T] with T at least {count}, '
      f'the patches of a grid of {grid[0]} rows and {grid[1]} columns'
    )
  a = as_float(attention)[..., -count:, -count:]
  return a / jnp.maximum(a.sum(-1, keepdims=True), 1e-30)


def attention_distance(attention, grid, *, patch_size: int = 1):
  """Mean distance, in pixels, from a query patch to the keys it attends to: [N, heads].

  attention: [N, heads, T, T]; patch_size: pixels a side, 1 for distances in patches.
  """
  places = np.stack(np.unravel_index(np.arange(grid[0] * grid[1]), grid), -1)
  apart = patch_size * np.linalg.norm(places[:, None] - places, axis=-1)
  return (between_patches(attention, grid) * apart).sum(-1).mean(-1)


def attention_nmi(attention, grid):
  """Normalised mutual information of query and key patches, queries uniform: [N, heads].

  0 where every query attends to the same keys (attention collapse), 1 where each has its own.
  attention: [N, heads, T, T].
  """
  a = between_patches(as_float(attention), grid)
  keys = a.mean(-2, keepdims=True)
  joint = jnp.where(a > 0, a * (_log(a) - _log(keys)), 0).sum((-1, -2)) / a.shape[-2]
  spread = -jnp.where(keys > 0, keys * _log(keys), 0).sum((-1, -2))
  # If all attention is on one key, there is nothing that queries could tell of it.
  return joint / jnp.sqrt(jnp.log(a.shape[-2]) * jnp.maximum(spread, 1e-12))


def _log(x):
  return jnp.log(jnp.maximum(x, 1e-37))


def log_amplitude(tokens, grid):
  """Log amplitude of the tokens' maps along the diagonal of frequencies, less that at zero: [F].

  The mean over images and channels of log(|FFT| + 1e-6), at i cycles over the shorter side for
  entry i, F = (shorter side + 1) // 2. The last entry is very negative in late blocks of
  contrastive models and nearer to 0 with masked modelling.

  tokens: [N, T, D], patches last, of a grid of at least 3 rows and 3 columns.
  """
  rows, columns = grid
  if min(grid) < 3 or tokens.ndim != 3 or tokens.shape[1] < rows * columns:
    raise InputError(
      f'tokens has shape {list(tokens.shape)}, wanted [N, T, D] with T at least {rows * columns}, '
      f'the patches of a grid of {rows} rows and {columns} columns, at least 3 of each'
    )
  maps = as_float(tokens)[:, -rows * columns :].reshape(len(tokens), rows, columns, -1)
  amplitude = jnp.log(jnp.abs(jnp.fft.fft2(maps, axes=(1, 2))) + 1e-6).mean((0, 3))
  i = np.arange((min(grid) + 1) // 2)
  diagonal = amplitude[i * rows // min(grid), i * columns // min(grid)]
  return diagonal - diagonal[0]


def by_depth(layers, qkv, grid, *, patch_size: int = 1) -> dict:
  """{'attention_distance', 'attention_nmi', 'high_frequency'}: a number for each block, [depth].

  layers, qkv: of `models/vit.py`; without the second (a ViT with `scan`) the last remains.
  """
  maps = [attention(block) for block in qkv]
  found = {'high_frequency': [log_amplitude(x, grid)[-1] for x in layers]}
  if maps:
    distances = [attention_distance(a, grid, patch_size=patch_size).mean() for a in maps]
    shared = [attention_nmi(a, grid).mean() for a in maps]
    found = {'attention_distance': distances, 'attention_nmi': shared, **found}
  return {name: jnp.stack(values) for name, values in found.items()}


def separability(train_layers, train_y, test_layers, test_y, *, num_classes: int, seed: int = 0):
  """Accuracy of the linear probe (`linear-v1`) on the mean token after each block: [depth] floats.

  train_layers, test_layers: [N, T, D] for each block, or [N, D] of means already taken; labels [N].
  """
  from ssljax.evaluators import linear_v1

  def pooled(x):
    return np.asarray(x, np.float32) if np.ndim(x) == 2 else np.asarray(x, np.float32).mean(1)

  return [
    linear_v1(pooled(a), train_y, pooled(b), test_y, num_classes=num_classes, seed=seed)['accuracy']
    for a, b in zip(train_layers, test_layers, strict=True)
  ]
