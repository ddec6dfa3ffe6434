"""Whitening by the Cholesky factor of the covariance."""

import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular

from ssljax.ops._check import as_float
from ssljax.ops._dots import dots


def whiten(x, eps=0.0):
  """Rows with mean 0 and the identity as covariance: L^-1 (x - mean), L L^T the covariance.

  The covariance is unbiased and shrunk, (1 - eps) cov + eps I. With fewer rows than features, or
  nearly equal features, the covariance is singular, or nearly so in float32: give it an eps. Where
  it has no factor, a little more than its rounding is added to its diagonal, which keeps the result
  finite: constant rows become 0.

  Args:
    x: [..., N, D], N rows of D features; leading axes are separate sets of rows.
    eps: share of the identity in the covariance.

  Returns:
    [..., N, D], in float32 at least.

  Reference: W-MSE (https://arxiv.org/abs/2007.06346), Section 3; `Whitening2d` of its code.
  """
  x = as_float(x)
  rows, features = x.shape[-2:]
  x = x - jnp.mean(x, axis=-2, keepdims=True)
  products = dots('...ni,...nj->...ij', x, x)
  identity = jnp.eye(features, dtype=x.dtype)
  cov = (1 - eps) * products / (rows - 1) + eps * identity
  known = lax.stop_gradient(cov)
  fails = jnp.isnan(jnp.linalg.cholesky(known)).any((-1, -2))
  little = 4 * jnp.finfo(x.dtype).eps * jnp.trace(known, axis1=-2, axis2=-1) + 1e-12
  floor = jnp.where(fails, little, 0)[..., None, None]
  factor = jnp.linalg.cholesky(cov + floor * identity)
  return solve_triangular(factor, x.swapaxes(-1, -2), lower=True).swapaxes(-1, -2)
