"""Losses that fill in what was masked."""

import jax.numpy as jnp
from jax import lax

from ssljax.ops import as_float, check_shape, patchify


def mae(pred, images, mask, *, patch_size, norm_pix=True, axis_name=None):
  """The loss of MAE: squared error of the removed patches' pixels.

  With x the patches of the images, [B, L, P]:
    sum over patches of mask * mean over P of (pred - x)^2, divided by sum(mask)

  It is one mean over all removed patches of the batch: an image with more of them weighs more. With
  `norm_pix` each patch of the target is first (x - mean) / sqrt(var + 1e-6), var the unbiased
  variance (divided by P - 1). Without a removed patch the loss is 0. The target is not detached, as
  in the authors' code; images are not trained.

  Args:
    pred: [B, L, P], predicted patches, P = patch_size**2 * C in the order row, column, channel.
    images: [B, H, W, C], what was masked; L = (H / patch_size) * (W / patch_size).
    mask: [B, L], 1 where the patch was removed, 0 where the encoder saw it.
    patch_size: side of a patch in pixels.
    norm_pix: whether targets are normalised, patch by patch (the paper's better setting).
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, or patch_size does not divide the images.

  Reference: MAE (https://arxiv.org/abs/2111.06377), Section 3, "Reconstruction target". Equals
  `forward_loss` of the authors' `models_mae.py` (there with NCHW images). The paper does not say
  which variance and epsilon.
  """
  x = patchify(as_float(images), patch_size)
  check_shape('pred', pred, x.shape)
  check_shape('mask', mask, x.shape[:2])
  if norm_pix:
    variance = jnp.var(x, axis=-1, ddof=1, keepdims=True)
    x = (x - jnp.mean(x, axis=-1, keepdims=True)) * lax.rsqrt(variance + 1e-6)
  error = jnp.mean((as_float(pred) - x) ** 2, axis=-1)
  removed = as_float(mask)
  total, count = jnp.sum(error * removed), jnp.sum(removed)
  if axis_name is not None:
    total, count = lax.psum((total, count), axis_name)
  return total / jnp.maximum(count, 1)
