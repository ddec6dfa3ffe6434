"""Losses on the capacity of the manifolds that views of an image span."""

import jax.numpy as jnp
from jax import lax

from ssljax.ops import as_float, check_shape, l2_normalize


def mmcr(z, z_momentum=None, *, lmbda=0.0, axis_name=None):
  """Maximum manifold capacity: images' centroids spread out, views of one image do not.

  With x' = x at length one, c_i the mean of image i's views z_i', [V, D], and |.|_* the nuclear
  norm (the sum of singular values):
    - | (c_1, ..., c_B) |_*  +  lmbda mean over i of | z_i' |_*

  Given a second network's embeddings, c_i is the mean of both networks' centroids. The first term
  is not divided by B, as in the authors' code. The gradient of the nuclear norm is U V^T of the
  singular value decomposition, finite also where singular values are equal or 0 (a subgradient
  there). Constant embeddings score -sqrt(B), the highest value of aligned views; the lowest is
  -sqrt(B min(B, D)).

  Args:
    z: [B, V, D], embeddings of V views, of any length.
    z_momentum: [B, V, D], a moving-average network's; the caller detaches it.
    lmbda: weight of the second term; 0 in the published runs.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`); the centroids are gathered.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit.

  Reference: MMCR (https://arxiv.org/abs/2303.03307), Section 2.2, equation 4. Equals the authors'
  `MMCR_Loss` and `MMCR_Momentum_Loss`, where views of an image are adjacent rows.
  """
  check_shape('z', z, ('B', 'V', 'D'))
  z = l2_normalize(as_float(z))
  centroids = jnp.mean(z, axis=1)
  if z_momentum is not None:
    check_shape('z_momentum', z_momentum, z.shape)
    centroids = (centroids + jnp.mean(l2_normalize(as_float(z_momentum)), axis=1)) / 2
  if axis_name is not None:
    centroids = lax.all_gather(centroids, axis_name, tiled=True)
  loss = -_nuclear_norm(centroids)
  if lmbda:
    loss = loss + lmbda * jnp.mean(_nuclear_norm(z))
  return loss if axis_name is None else lax.pmean(loss, axis_name)


def _nuclear_norm(matrices):
  # Of the singular values alone, jax differentiates without dividing by their differences.
  return jnp.sum(jnp.linalg.svd(matrices, compute_uv=False), axis=-1)
