"""Losses under which embeddings follow what is done to the images, instead of ignoring it."""

import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.losses._contrastive import nt_xent
from ssljax.losses._logsumexp import map_rows
from ssljax.losses._redundancy import covariance_term, invariance_term, variance_term
from ssljax.ops import as_float, check_shape, dots, l2_normalize


def care(
  z1, z2, e1, e2, *, temperature=0.5, weight=0.01, equiv_splits=8, chunk_size=None, axis_name=None
):
  """CARE: NT-Xent, and augmentations that turn the sphere of embeddings as a whole.

    nt_xent(z1, z2; temperature) + weight equivariance(e1, e2)
    equivariance = mean over i of 2 sum over j != i in the part of i of (u_i . u_j - v_i . v_j)^2

  with u and v the embeddings e1 and e2 at length one. All images of a part are augmented alike in
  e1, and alike in e2; angles that stay mean that one augmentation against the other acts as an
  orthogonal map. The equivariance is 0 exactly then. Constant embeddings have it 0 too, and
  NT-Xent's ln(2B - 1), chance level.

  Args:
    z1, z2: [B, D], embeddings of two ordinary views, of any length (all four are normalised here).
    e1, e2: [B, D], of views that share their augmentation within a part of the batch.
    temperature: of NT-Xent.
    weight: of the equivariance; 0.01 is the default of the authors' code, their script for CIFAR-10
      has 0.03 and that for ImageNet-100 0.005.
    equiv_splits: number of parts, each of B / equiv_splits consecutive rows.
    chunk_size: of `nt_xent`; the equivariance, too, holds [chunk_size, B / equiv_splits] products
      at a time (or one row of each part) instead of all B^2 / equiv_splits.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`). Parts are those of the global batch.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; temperature or chunk_size is not positive; equiv_splits does
      not divide the batch.

  Reference: CARE (https://arxiv.org/abs/2306.13924). Equals `infoNCE` plus weight times
  `equivariance_loss` of the authors' code, which sums over the others of a part where the paper
  takes a mean, and doubles that.
  """
  check_shape('z1', z1, ('B', 'D'))
  for name, array in {'e1': e1, 'e2': e2}.items():
    check_shape(name, array, z1.shape)
  agreement = nt_xent(z1, z2, temperature=temperature, chunk_size=chunk_size, axis_name=axis_name)
  return agreement + weight * _equivariance(e1, e2, equiv_splits, chunk_size, axis_name)


def sie(
  z1, z2, predicted, *, inv_dim, sim_coeff=10.0, std_coeff=10.0, cov_coeff=1.0, equi_factor=0.45,
  predicted_variance=True, eps=1e-4, axis_name=None,
):  # fmt: skip
  """SIE: one part of the embedding agrees, the other follows a known transformation.

  With z = (i, e), the first inv_dim features and the others, and p the prediction of e2 from e1 and
  the transformation, the terms being VICReg's (see `vicreg`):
    sim_coeff (invariance(i1, i2) + equi_factor invariance(p, e2))
    + std_coeff (variance(z1) + variance(z2) + variance(p)) / 2
    + cov_coeff (covariance(z1) + covariance(z2))

  Nothing is detached. Constant embeddings have no variance and cost 3/2 std_coeff (1 - sqrt(eps)).

  Args:
    z1, z2: [B, D], embeddings of the two views, the invariant part first.
    predicted: p, [B, D - inv_dim].
    inv_dim: width of the invariant part.
    sim_coeff, std_coeff, cov_coeff: weights of the terms.
    equi_factor: of the equivariant part's agreement; 0.45 in the authors' README, 4.5 by default in
      their code.
    predicted_variance: whether p is to vary; False is SIENoVar of the authors' code.
    eps: added to the variance.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit.

  Reference: SIE (https://arxiv.org/abs/2302.10283). Equals `SIE.forward` and
  `SIENoVar.forward` of the authors' code.
  """
  check_shape('z1', z1, ('B', 'D'))
  check_shape('z2', z2, z1.shape)
  check_shape('predicted', predicted, (z1.shape[0], z1.shape[1] - inv_dim))
  z1, z2, predicted = as_float(z1), as_float(z2), as_float(predicted)
  invariance = invariance_term(z1[:, :inv_dim], z2[:, :inv_dim], axis_name)
  equivariance = invariance_term(predicted, z2[:, inv_dim:], axis_name)
  varying = (z1, z2, predicted) if predicted_variance else (z1, z2)
  variance = sum(variance_term(z, eps, axis_name) for z in varying) / 2
  covariance = covariance_term(z1, axis_name) + covariance_term(z2, axis_name)
  similarity = sim_coeff * (invariance + equi_factor * equivariance)
  return similarity + std_coeff * variance + cov_coeff * covariance


def trajectory(left, center, right, *, axis_name=None):
  """Viewpoint trajectories are to be straight: minus the cosine between the way in and the way out.

  With l, c, r at length one and t(v) = v - (v . c) c, the projection to the tangent plane at c:
    mean over the batch of  -cos(t(c - l), t(r - c))

  It is -1 where the three lie in this order on a great circle and 0 for constant embeddings, which
  a loss beside it has to prevent: it is a regulariser, with the authors' VICReg or SimCLR.

  Args:
    left, center, right: [B, D], embeddings of three views in the order of the trajectory, of any
      length (they are normalised here).
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: the arrays are not of one shape [B, D].

  Reference: Wang, Chen, Yu 2024 (https://arxiv.org/abs/2403.14973). Follows the paper: the authors'
  `PoseLoss` is the mean of t(c - l) . t(r - c), without minus and norms, and switched off in their
  code.
  """
  check_shape('left', left, ('B', 'D'))
  for name, array in {'center': center, 'right': right}.items():
    check_shape(name, array, left.shape)
  before, c, after = (l2_normalize(as_float(z)) for z in (left, center, right))

  def tangent(v):
    return l2_normalize(v - jnp.sum(v * c, -1, keepdims=True) * c)

  loss = -jnp.mean(jnp.sum(tangent(c - before) * tangent(after - c), -1))
  return loss if axis_name is None else lax.pmean(loss, axis_name)


def _equivariance(e1, e2, splits, chunk_size, axis_name):
  """Mean over the rows of 2 sum over the others of a part of the squared gap of their cosines."""
  both = l2_normalize(as_float(jnp.stack([e1, e2])))
  if axis_name is not None:
    both = lax.all_gather(both, axis_name, axis=1, tiled=True)
  _, batch, width = both.shape
  if splits < 1 or batch % splits:
    raise InputError(f'equiv_splits is {splits}, wanted a number that divides the {batch} rows')
  parts = both.reshape(2, splits, -1, width)

  def row_losses(rows):
    x, ids = rows
    u, v = dots('insd,nsjd->nisj', x, parts)
    gap = jnp.where(ids[:, None, None] == jnp.arange(u.shape[-1]), 0, u - v)
    return jnp.sum(gap * gap, axis=(1, 2))

  # Row i of every part.
  rows = jnp.moveaxis(parts, 2, 0), jnp.arange(parts.shape[2])
  chunk_size = chunk_size and max(1, chunk_size // splits)
  loss = 2 * jnp.sum(map_rows(row_losses, rows, chunk_size)) / batch
  return loss if axis_name is None else lax.pmean(loss, axis_name)
