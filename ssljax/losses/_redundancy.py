"""Losses that make the dimensions of an embedding agree across views and differ from each other."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.ops import as_float, check_shape, l2_normalize


def barlow_twins(z1, z2, *, lambd=0.0051, scale_loss=1.0, eps=1e-5, axis_name=None):
  """Barlow Twins: the cross-correlation of two views is to be the identity.

  With x' each feature of x standardised over the batch, (x - mean) / sqrt(variance + eps), and
  C = z1'^T z2' / B:
    scale_loss ( sum_i (1 - C_ii)^2 + lambd sum_{i != j} C_ij^2 )

  Constant embeddings have C = 0 and the loss D, more than any pair of views that agree.

  Args:
    z1: [B, D], embeddings of the first view; z2: [B, D], of the second.
    lambd: weight of the off-diagonal terms; 0.0051 in the authors' code, 5e-3 in the paper.
    scale_loss: of the whole loss; 1/32 in TLDR, 0.024 in an earlier version of the authors' code.
    eps: added to the (biased) variance, as BatchNorm1d(affine=False) does in the authors' code.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: `z1` and `z2` are not two arrays of one shape [B, D].

  Reference: Barlow Twins (https://arxiv.org/abs/2103.03230), Section 2.1, equations 1 and 2. Equals
  the authors' `BarlowTwins.forward`, the statistics being those of the global batch.
  """
  check_shape('z1', z1, ('B', 'D'))
  check_shape('z2', z2, z1.shape)
  z1, z2 = (standardize(as_float(z), eps, axis_name) for z in (z1, z2))
  return scale_loss * _to_identity(correlation(z1, z2, axis_name), lambd)


def mixed_barlow_twins(
  z1, z2, zm, partner, alpha, *, lambd=0.0078125, mixup_loss_scale=4.0, axis_name=None
):
  """Mixed Barlow Twins: what is linear in the images is to be linear in the embeddings.

  The image behind zm_i is alpha (view 1 of i) + (1 - alpha) (view 2 of j), j the partner of i. With
  x' each feature standardised over the batch (unbiased, no eps), C = z1'^T z2' / B and the mixture
  of embeddings t_i = alpha z1'_i + (1 - alpha) z2'_j:
    sum_i (1 - C_ii)^2 + lambd sum_{i != j} C_ij^2
    + mixup_loss_scale lambd ( |(zm' - t)^T z1' / B|^2 + |(zm' - t)^T z2' / B|^2 )

  The mixture t has a gradient, as in the authors' code. Constant embeddings have C = 0 and the loss
  D, more than any pair of views that agree.

  Args:
    z1: [B, D], embeddings of the first view; z2: [B, D], of the second; zm: [B, D], of the mixed
      images.
    partner: int [B], a permutation: the row of the global batch whose second view is mixed in.
    alpha: share of the first view in it, a number or [B].
    lambd: weight of the off-diagonal terms; 1/128 for CIFAR-10, 0.0051 for ImageNet.
    mixup_loss_scale: of the mixed terms; 4 for CIFAR-10 with a ResNet-18. The paper's lambda_reg is
      twice this.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit.

  Reference: Guarding Barlow Twins Against Overfitting with Mixed Samples
  (https://arxiv.org/abs/2312.02151), Section 3. Equals the authors' `main.py`, the statistics being
  those of the global batch; their `main_imagenet.py` has z2' for z1' in the t of the last term.
  """
  check_shape('z1', z1, ('B', 'D'))
  check_shape('z2', z2, z1.shape)
  check_shape('zm', zm, z1.shape)
  check_shape('partner', partner, (len(z1),))
  z1, z2, zm = (standardize(as_float(z), 0, axis_name, unbiased=True) for z in (z1, z2, zm))
  all2 = z2 if axis_name is None else lax.all_gather(z2, axis_name, tiled=True)
  alpha = jnp.broadcast_to(as_float(alpha).astype(z1.dtype), (len(z1),))[:, None]
  gap = zm - (alpha * z1 + (1 - alpha) * all2[partner])

  mixed = sum(jnp.sum(correlation(gap, z, axis_name) ** 2) for z in (z1, z2))
  return _to_identity(correlation(z1, z2, axis_name), lambd) + mixup_loss_scale * lambd * mixed


def tico(z1, z2, covariance, *, beta=0.9, rho=8.0, grad_through_b=False, axis_name=None):
  """TiCo: two views agree, and an embedding avoids the directions that embeddings already take.

  With x' = x at length one and the running second moment C = beta (C of the step before) +
  (1 - beta) M, M = z1'^T z1' / B:
    1 - mean over the batch of  z1' . z2'  +  rho mean of  z1'^T C z1'

  Equal embeddings for all inputs end at rho, the most the second term can be.

  Args:
    z1: [B, D], the student's embeddings of one view, of any length.
    z2: [B, D], the teacher's of the other. It has a gradient here; the caller detaches it.
    covariance: [D, D], C of the step before, zeros at first; no gradient.
    beta: how much of C stays at each step.
    rho: weight of the second term; 8 in the paper, 20 in sayannag/TiCo-pytorch.
    grad_through_b: whether the gradient goes through M as well. lightly, which is followed,
      detaches it; TiCo-pytorch does not, and leaves out the 1.
    axis_name: of `pmap` or `shard_map`, if z1 and z2 are one device's shares (see `ssljax.losses`);
      every device has the whole C.

  Returns:
    The scalar loss of the global batch, and C after this step, without a gradient.

  Raises:
    InputError: a shape does not fit.

  Reference: TiCo (https://arxiv.org/abs/2206.10698), Section 3, algorithm 1. The authors published
  no code; equals lightly's `TiCoLoss`.
  """
  check_shape('z1', z1, ('B', 'D'))
  check_shape('z2', z2, z1.shape)
  check_shape('covariance', covariance, (z1.shape[1],) * 2)
  z1, z2 = l2_normalize(as_float(z1)), l2_normalize(as_float(z2))
  moment = correlation(z1, z1, axis_name)
  moment = moment if grad_through_b else lax.stop_gradient(moment)
  covariance = beta * lax.stop_gradient(as_float(covariance)) + (1 - beta) * moment
  seen = jnp.einsum('bi,ij,bj->b', z1, covariance, z1, precision=lax.Precision.HIGHEST)
  loss = 1 + jnp.mean(rho * seen - jnp.sum(z1 * z2, axis=1))
  loss = loss if axis_name is None else lax.pmean(loss, axis_name)
  return loss, lax.stop_gradient(covariance)


def vicreg(
  z1, z2, *, sim_coeff=25.0, std_coeff=25.0, cov_coeff=1.0, halve_variance=True, eps=1e-4,
  axis_name=None,
):  # fmt: skip
  """VICReg: two views agree, every feature varies, no two features vary together.

    sim_coeff invariance(z1, z2) + std_coeff (variance(z1) + variance(z2)) / 2
    + cov_coeff (covariance(z1) + covariance(z2))

  with the terms `invariance_term`, `variance_term` and `covariance_term`.

  Constant embeddings have no variance and cost std_coeff (1 - sqrt(eps)).

  Args:
    z1: [B, D], embeddings of the first view; z2: [B, D], of the second. B is at least 2.
    sim_coeff, std_coeff, cov_coeff: weights of the terms.
    halve_variance: whether the variances are halved, as in the authors' code, which does not halve
      the covariances; False is the paper, which halves neither.
    eps: added to the variance.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: `z1` and `z2` are not two arrays of one shape [B, D].

  Reference: VICReg (https://arxiv.org/abs/2105.04906), Section 4.1, equations 1 to 6. Equals the
  authors' `VICReg.forward`.
  """
  check_shape('z1', z1, ('B', 'D'))
  check_shape('z2', z2, z1.shape)
  z1, z2 = as_float(z1), as_float(z2)
  variance = variance_term(z1, eps, axis_name) + variance_term(z2, eps, axis_name)
  variance = variance / 2 if halve_variance else variance
  covariance = covariance_term(z1, axis_name) + covariance_term(z2, axis_name)
  invariance = invariance_term(z1, z2, axis_name)
  return sim_coeff * invariance + std_coeff * variance + cov_coeff * covariance


def invariance_term(z1, z2, axis_name=None):
  """Mean of (z1 - z2)^2 over the global batch and the features, of two arrays [B, D]."""
  loss = jnp.mean((z1 - z2) ** 2)
  return loss if axis_name is None else lax.pmean(loss, axis_name)


def variance_term(z, eps=1e-4, axis_name=None):
  """Mean over the features of z [B, D] of max(0, 1 - sqrt(unbiased variance + eps))."""
  centred = center(z, axis_name)
  var = batch_mean(jnp.sum(centred * centred, 0), z, axis_name) * _bessel(z, axis_name)
  return jnp.mean(jax.nn.relu(1 - jnp.sqrt(var + eps)))


def covariance_term(z, axis_name=None):
  """Sum over i != j of cov_ij^2 / D, cov the unbiased covariance of the features of z [B, D]."""
  centred = center(z, axis_name)
  cov = correlation(centred, centred, axis_name) * _bessel(z, axis_name)
  return off_diagonal(cov) / z.shape[1]


def correlation(z1, z2, axis_name=None):
  """z1^T z2 / B of the global batch: [D, E] of [B, D] and [B, E], taken as they are."""
  return batch_mean(jnp.einsum('bi,bj->ij', z1, z2, precision=lax.Precision.HIGHEST), z1, axis_name)


def off_diagonal(matrix):
  """Sum of the squares of a square matrix off its diagonal."""
  return jnp.sum(jnp.where(jnp.eye(len(matrix), dtype=bool), 0, matrix) ** 2)


def _to_identity(c, lambd):
  return jnp.sum((1 - jnp.diagonal(c)) ** 2) + lambd * off_diagonal(c)


def center(z, axis_name=None):
  """Each feature of [B, D] less its mean over the global batch."""
  mean = jnp.mean(z, 0)
  return z - (mean if axis_name is None else lax.pmean(mean, axis_name))


def _bessel(z, axis_name):
  """B / (B - 1) of the global batch: from a biased variance to an unbiased one."""
  count = len(z) * (1 if axis_name is None else lax.axis_size(axis_name))
  return count / (count - 1)


def standardize(z, eps, axis_name=None, *, unbiased=False):
  """Each feature of [B, D] with mean 0 and, but for eps, variance 1 over the global batch."""
  centred = center(z, axis_name)
  var = batch_mean(jnp.sum(centred * centred, 0), z, axis_name)
  var = var * _bessel(z, axis_name) if unbiased else var
  # The floor is for constant features where eps is 0: they become 0, with finite gradients.
  return centred * lax.rsqrt(jnp.maximum(var + eps, 1e-12))


def batch_mean(total, z, axis_name=None):
  """A sum over the rows of z [B, ...] divided by B, of the global batch."""
  mean = total / len(z)
  return mean if axis_name is None else lax.pmean(mean, axis_name)
