"""Losses of a page's layout: where its objects are, and that they look alike in two views."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, l2_normalize


def focal(logits, target, *, alpha=0.25, gamma=2.0, axis_name=None):
  """Focal loss of a mask: the cross-entropy of each place, small where the answer is clear.

  With p' = sigmoid(x) and alpha' = alpha where the target is 1, and 1 less these where it is 0:
    mean of  -alpha' (1 - p')^gamma log p'

  Args:
    logits: [B, h, w]; target: [B, h, w], 0 or 1.
    alpha: weight of the target 1; gamma: 0 is the weighted cross-entropy.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit.

  Reference: Lin et al. 2017 (https://arxiv.org/abs/1708.02002), equation 5; `sigmoid_focal_loss` of
  torchvision with reduction='mean'.
  """
  check_shape('logits', logits, ('B', 'h', 'w'))
  check_shape('target', target, logits.shape)
  x, target = as_float(logits), target.astype(as_float(logits).dtype)
  signed = x * (2 * target - 1)
  weight = alpha * target + (1 - alpha) * (1 - target)
  each = -weight * jax.nn.sigmoid(-signed) ** gamma * jax.nn.log_sigmoid(signed)
  terms = each.mean((1, 2))
  return batch_mean(terms.sum(), terms, axis_name)


def selfdocseg(
  p1, p2, layout, z1, z2, valid, mask, *, layout_weight=1.0, similarity_weight=1.0,
  focal_alpha=0.25, focal_gamma=2.0, squash=True, axis_name=None,
):  # fmt: skip
  """SelfDocSeg: objects of a page are alike in two views, and the page's layout is found.

    layout_weight focal(layout, mask)
      - similarity_weight mean over valid objects of (cos(p1, z2) + cos(p2, z1)) / 2

  The targets z get no gradient. Constant embeddings would be as good; as in BYOL, the predictor and
  the slow teacher prevent that.

  Args:
    p1, p2: [B, M, D], predictions for objects in each view; z1, z2: [B, M, D], of the teacher.
    layout: [B, h, w], logits of where objects are; mask: [B, h, w], where they are.
    valid: bool [B, M], which objects there are.
    layout_weight, similarity_weight: alpha and beta of the authors' code.
    focal_alpha, focal_gamma: alpha and gamma of `focal`.
    squash: whether the sigmoid of `layout` is given to `focal`, which takes another, as in the
      authors' code: a place then has a probability of 0.5 to 0.73. False is the paper's.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch, at least -similarity_weight.

  Raises:
    InputError: a shape does not fit.

  Reference: SelfDocSeg (https://arxiv.org/abs/2305.00795), Section 3; follows `training_step` of
  the authors' code.
  """
  check_shape('p1', p1, ('B', 'M', 'D'))
  for name, x in {'p2': p2, 'z1': z1, 'z2': z2}.items():
    check_shape(name, x, p1.shape)
  check_shape('valid', valid, p1.shape[:2])
  x = jax.nn.sigmoid(as_float(layout)) if squash else layout
  found = focal(x, mask, alpha=focal_alpha, gamma=focal_gamma, axis_name=axis_name)

  def cosine(p, z):
    return jnp.sum(l2_normalize(as_float(p)) * lax.stop_gradient(l2_normalize(as_float(z))), -1)

  alike = (cosine(p1, z2) + cosine(p2, z1)) / 2
  total, count = jnp.where(valid, alike, 0).sum(), valid.sum()
  if axis_name is not None:
    total, count = lax.psum((total, count), axis_name)
  return layout_weight * found - similarity_weight * total / jnp.maximum(count, 1)
