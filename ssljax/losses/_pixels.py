"""Losses of masked models in pixels and in places, and of several tasks at once."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.losses._contrastive import check_positive, info_nce
from ssljax.ops import as_float, check_shape, patchify


def simmim(pred, images, mask, *, patch_size, axis_name=None):
  """The loss of SimMIM: absolute error of the hidden pixels.

  With x the patches of the images, [B, L, P] of C channels:
    sum over patches and P of mask * |pred - x|, divided by C (count + 1e-5)

  count is the number of hidden pixels of the batch: an image with more of them weighs more. Without
  a hidden patch the loss is 0. The target is not detached, as in the authors' code; images are not
  trained.

  Args:
    pred: [B, L, P], predicted patches, P = patch_size**2 * C in the order row, column, channel.
    images: [B, H, W, C], what was masked; L = (H / patch_size) * (W / patch_size).
    mask: [B, L], 1 where the patch was hidden, or bool.
    patch_size: side of a patch in pixels.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, or patch_size does not divide the images.

  Reference: SimMIM (https://arxiv.org/abs/2111.09886), Section 3.4. Equals `SimMIM.forward` of the
  authors' code, and but for the 1e-5 the reconstruction loss of GMML
  (https://arxiv.org/abs/2205.14986) and SiT (https://arxiv.org/abs/2104.03602); a mask of ones
  gives their loss of all pixels.
  """
  x = patchify(as_float(images), patch_size)
  check_shape('pred', pred, x.shape)
  check_shape('mask', mask, x.shape[:2])
  hidden = as_float(mask)
  error = jnp.sum(jnp.abs(as_float(pred) - x), axis=-1)
  total, count = jnp.sum(error * hidden), jnp.sum(hidden)
  if axis_name is not None:
    total, count = lax.psum((total, count), axis_name)
  return total / (count * patch_size**2 + 1e-5) / images.shape[-1]


def cim(
  logits, targets, queries=None, keys=None, *,
  sigma_corr=1.0, sigma_cont=1.0, temperature=0.2, axis_name=None,
):  # fmt: skip
  """Correlational image modelling: find the place in the context where each exemplar was cut out.

    sigma_corr sum over v of mean over B, H, W of -log softmax(logits)[target]
    + sigma_cont sum over v of 2 T info_nce(queries_v, keys; T)

  Keys get no gradient; the second term is left out without queries. Constant logits score V ln(2),
  constant queries 2 T V ln(B).

  Args:
    logits: [B, V, H, W, 2], for V exemplars of each image whether a place of the context is outside
      or inside.
    targets: int or bool [B, V, H, W], 1 inside.
    queries: [B, V, D], the predictions from the exemplars, of any length.
    keys: [B, D], the teacher's projections of the contexts, of any length.
    sigma_corr, sigma_cont: weights of the two terms; the authors' published run has sigma_cont 0.
    temperature: T.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, or temperature is not positive.

  Reference: CIM (https://arxiv.org/abs/2303.12670), Section 3. Equals `forward_mask_loss` and
  `forward_global_loss` of the authors' code: two-class cross-entropy, where the paper has the
  binary one, sums over exemplars, and a MoCo v3 term that the paper does not have.
  """
  check_shape('logits', logits, ('B', 'V', 'H', 'W', 2))
  check_shape('targets', targets, logits.shape[:-1])
  check_positive(temperature=temperature)
  outside, inside = jnp.moveaxis(as_float(logits), -1, 0)
  # -log softmax of two classes is the softplus of the wrong one's lead.
  lead = jnp.where(jnp.asarray(targets) > 0, outside - inside, inside - outside)
  loss = jnp.sum(jnp.mean(jax.nn.softplus(lead), axis=(0, 2, 3)))
  loss = sigma_corr * (loss if axis_name is None else lax.pmean(loss, axis_name))
  if queries is None:
    return loss
  check_shape('queries', queries, (*logits.shape[:2], 'D'))
  check_shape('keys', keys, (len(queries), queries.shape[-1]))
  options = {'temperature': temperature, 'axis_name': axis_name}
  found = [
    info_nce(queries[:, v], lax.stop_gradient(keys), **options) for v in range(queries.shape[1])
  ]
  return loss + sigma_cont * 2 * temperature * sum(found)


def uncertainty_weighted(terms, log_variance):
  """Several losses in one, each weighed by how uncertain it is: sum_k exp(-s_k) L_k + s_k.

  The least over s is sum_k log L_k + 1, at s_k = log L_k: no task outweighs another just because
  its numbers are large. Losses must be positive.

  Args:
    terms: [K], the losses L.
    log_variance: [K], s, trained with everything else; begin with zeros.

  Returns:
    The scalar sum.

  Raises:
    InputError: the two arrays are not of one shape [K].

  Reference: Kendall et al. 2018 (https://arxiv.org/abs/1705.07115), Section 3.2, as used in SiT
  (https://arxiv.org/abs/2104.03602, first version).
  """
  check_shape('terms', terms, ('K',))
  check_shape('log_variance', log_variance, terms.shape)
  s = as_float(log_variance)
  return jnp.sum(jnp.exp(-s) * as_float(terms) + s)
