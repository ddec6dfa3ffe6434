"""Losses that predict representations of what is hidden: learned ones, or fixed features."""

import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.ops import as_float, check_shape, gradient_ratio, patchify

NORMS = ('layer', 'instance', 'batch', 'none')


def i_jepa(pred, tokens, places, *, beta=1.0, eps=1e-5, axis_name=None):
  """The loss of I-JEPA: how far the predicted tokens of hidden blocks are from the teacher's.

  With h = (t - mean) / sqrt(var + eps) the teacher's tokens, each normalised over its features:
    mean over images, blocks, places and features of smooth_l1(pred - h at the places),
    smooth_l1(d) = d^2 / (2 beta) where |d| < beta, and |d| - beta / 2 elsewhere

  The teacher's tokens get no gradient. Constant tokens, which are 0 when normalised, are a minimum:
  that the teacher is a moving average of the student and that only the student has a predictor is
  what keeps training away from it.

  Args:
    pred: [B, M, K, D], of M blocks of K patches each. Predictions from several contexts count as
      further blocks.
    tokens: [B, N, D], the teacher's, of all patches.
    places: int [B, M, K], which patches were predicted.
    beta: where the loss becomes linear, more than 0.
    eps: of the normalisation.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, or beta is not more than 0.

  Reference: I-JEPA (https://arxiv.org/abs/2301.08243), Section 3, which writes the squared distance
  and does not normalise; this is the authors' `train.py`.
  """
  check_shape('tokens', tokens, ('B', 'N', 'D'))
  batch, _, dim = tokens.shape
  check_shape('places', places, (batch, 'M', 'K'))
  check_shape('pred', pred, (*places.shape, dim))
  if not beta > 0:
    raise InputError(f'beta is {beta}, wanted more than 0')
  h = _normalised(lax.stop_gradient(as_float(tokens)), (-1,), eps)
  h = jnp.take_along_axis(h, places.reshape(batch, -1, 1), axis=1).reshape(pred.shape)
  loss = jnp.mean(_smooth_l1(as_float(pred) - h, beta))
  return loss if axis_name is None else lax.pmean(loss, axis_name)


def data2vec_targets(layers, *, norm='layer', final_norm='layer', eps=1e-5, axis_name=None):
  """What data2vec predicts: the mean of a teacher's last K layers, each normalised first.

  Args:
    layers: K arrays [B, T, D], the tokens after each of these layers.
    norm: of each layer, without parameters, by the biased variance: 'layer' over the features of a
      token, 'instance' over the tokens of an example for each feature, 'batch' over all tokens of
      the batch for each feature, or 'none'.
    final_norm: the same, of their mean.
    eps: added to the variances.
    axis_name: as in `data2vec`; only 'batch' needs it.

  Returns:
    [B, T, D] in float32, without a gradient.

  Raises:
    InputError: shapes differ, there is no layer, or a norm is unknown.

  Reference: data2vec (https://arxiv.org/abs/2202.03555), Section 3.3. The paper normalises layers
  alone; the authors' command for images, whose numbers it reports, normalises both, that for speech
  has 'instance' and 'none'.
  """
  if not len(layers):
    raise InputError('layers has no array, wanted one or more of [B, T, D]')
  for name, value in (('norm', norm), ('final_norm', final_norm)):
    if value not in NORMS:
      raise InputError(f'{name} is {value!r}, wanted one of {list(NORMS)}')
  for i, layer in enumerate(layers):
    check_shape(f'layers[{i}]', layer, jnp.shape(layers[0]) if i else ('B', 'T', 'D'))

  def normed(x, norm):
    axes = {'layer': (-1,), 'instance': (1,), 'batch': (0, 1), 'none': None}[norm]
    if axes is None:
      return x
    return _normalised(x, axes, eps, axis_name if norm == 'batch' else None)

  mean = sum(normed(lax.stop_gradient(as_float(x)), norm) for x in layers) / len(layers)
  return normed(mean, final_norm)


def data2vec(pred, targets, mask, *, beta=2.0, reduction='mean', scale=1.0, axis_name=None):
  """The loss of data2vec: smooth L1 between predictions and targets of hidden tokens.

  smooth_l1(d) = d^2 / (2 beta) where |d| < beta, and |d| - beta / 2 elsewhere; d^2 for beta = 0.

  Constant targets are a minimum: what keeps training away from it is that they come from a moving
  average of the student and are normalised (Section 5.1 of the paper). Without a hidden token the
  loss is 0.

  Args:
    pred: [B, T, D], the student's.
    targets: [B, T, D], of `data2vec_targets`; get no gradient.
    mask: [B, T], 1 where the student did not see the token.
    beta: where the loss becomes linear.
    reduction: 'mean' over hidden tokens and features, as in the authors' code for images; 'sum'
      over both, as in fairseq, where the trainer divides by the number of tokens.
    scale: multiplies the loss; fairseq's for speech is 1 / sqrt(D).
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, beta is negative or the reduction unknown.

  Reference: data2vec (https://arxiv.org/abs/2202.03555), Section 3.3, equation 1.
  """
  check_shape('pred', pred, ('B', 'T', 'D'))
  check_shape('targets', targets, pred.shape)
  check_shape('mask', mask, pred.shape[:2])
  if beta < 0:
    raise InputError(f'beta is {beta}, wanted 0 or more')
  if reduction not in ('mean', 'sum'):
    raise InputError(f"reduction is {reduction!r}, wanted 'mean' or 'sum'")
  d = as_float(pred) - lax.stop_gradient(as_float(targets))
  error = _smooth_l1(d, beta) if beta > 0 else d * d
  hidden = as_float(mask)
  total, count = jnp.sum(error.sum(-1) * hidden), jnp.sum(hidden)
  if axis_name is not None:
    total, count = lax.psum((total, count), axis_name)
  if reduction == 'mean':
    total = total / (jnp.maximum(count, 1) * pred.shape[-1])
  return scale * total


def sar_jepa(pred, images, places, mask, *, patch_size, radii=(5, 9, 13, 17), axis_name=None):
  """The loss of SAR-JEPA: squared error of gradient features of hidden patches in local windows.

  The targets of a patch are the pixels of `ops.gradient_ratio` of the image, at each of the radii:
    sum over windows and places of mask * mean over P of (pred - target)^2, divided by sum(mask)

  It is one mean over all hidden patches of the batch, and 0 without one. The target is fixed, so
  a constant representation is no minimum.

  Args:
    pred: [B, W, K, P], of the K patches of each of W windows; P = radii * patch_size^2 * C, one
      radius after the other, each in the order row, column, channel.
    images: [B, H, W, C] of positive values; get no gradient.
    places: int [B, W, K], which patches of the image these are.
    mask: [B, W, K], 1 where the patch was hidden.
    patch_size: side of a patch in pixels.
    radii: of the windows of the gradients, in pixels.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, or patch_size does not divide the images.

  Reference: SAR-JEPA (https://arxiv.org/abs/2311.15153), Section 3; equals `forward_loss` of the
  authors' `models_lomar.py`, whose "kernel sizes" 5, 9, 13 and 17 are radii.
  """
  images = lax.stop_gradient(as_float(images))
  maps = [patchify(gradient_ratio(images, radius), patch_size) for radius in radii]
  target = jnp.concatenate(maps, axis=-1)
  batch, _, values = target.shape
  check_shape('places', places, (batch, 'W', 'K'))
  check_shape('pred', pred, (*places.shape, values))
  check_shape('mask', mask, places.shape)
  target = jnp.take_along_axis(target, places.reshape(batch, -1, 1), axis=1).reshape(pred.shape)
  error, hidden = jnp.mean((as_float(pred) - target) ** 2, axis=-1), as_float(mask)
  total, count = jnp.sum(error * hidden), jnp.sum(hidden)
  if axis_name is not None:
    total, count = lax.psum((total, count), axis_name)
  return total / jnp.maximum(count, 1)


def _smooth_l1(d, beta):
  size = jnp.abs(d)
  return jnp.where(size < beta, 0.5 * d * d / beta, size - 0.5 * beta)


def _normalised(x, axes, eps, axis_name=None):
  def mean(x):
    local = jnp.mean(x, axis=axes, keepdims=True)
    return local if axis_name is None else lax.pmean(local, axis_name)

  centred = x - mean(x)
  return centred * lax.rsqrt(mean(centred * centred) + eps)
