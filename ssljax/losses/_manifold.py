"""Losses on the capacity of the manifolds that views of an image span."""

import jax.numpy as jnp
from jax import lax

from ssljax.ops import as_float, check_shape, dots, l2_normalize


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


def emp_ssl(z, *, patch_sim=200.0, tcr=1.0, eps=0.2, axis_name=None):
  """EMP-SSL: many patches of an image go to their mean, and each patch's batch fills the space.

  With m_i the mean of image i's views and Z_v the matrix [B, D] of one view:
    - patch_sim mean over images and views of  cos(z_iv, m_i)
    - tcr mean over views of  log det(I + D / (B eps) Z_v^T Z_v) / 2

  The gradient goes through the mean as well. Constant embeddings satisfy the first term and have
  the least total coding rate, which the second asks to be high.

  Args:
    z: [B, V, D], embeddings of V views at length one, taken as they are.
    patch_sim, tcr: weights of the terms.
    eps: squared precision of the coding.
    axis_name: of `pmap` or `shard_map`, if z is one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: z is not [B, V, D].

  Reference: EMP-SSL (https://arxiv.org/abs/2304.03977), Section 3, equations 2 to 4. Equals the
  authors' `main.py`, one group of patches; lightly's `EMPSSLLoss` has the other sign of the rate.
  """
  check_shape('z', z, ('B', 'V', 'D'))
  z = as_float(z)
  width = z.shape[-1]
  mean = l2_normalize(jnp.mean(z, axis=1, keepdims=True))
  similarity = jnp.mean(jnp.sum(l2_normalize(z) * mean, axis=-1))
  moments = dots('bvi,bvj->vij', z, z) / len(z)
  if axis_name is not None:
    similarity, moments = lax.pmean((similarity, moments), axis_name)
  coded = jnp.eye(width, dtype=z.dtype) + width / eps * moments
  diagonal = jnp.diagonal(jnp.linalg.cholesky(coded), axis1=-2, axis2=-1)
  rate = jnp.mean(jnp.sum(jnp.log(diagonal), axis=-1))  # half of the log of the determinant
  return -patch_sim * similarity - tcr * rate


def _nuclear_norm(matrices):
  # Of the singular values alone, jax differentiates without dividing by their differences.
  return jnp.sum(jnp.linalg.svd(matrices, compute_uv=False), axis=-1)
