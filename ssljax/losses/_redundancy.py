"""Losses that make the dimensions of an embedding agree across views and differ from each other."""

import jax.numpy as jnp
from jax import lax

from ssljax.ops import as_float, check_shape


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
  c = batch_mean(jnp.einsum('bi,bj->ij', z1, z2, precision=lax.Precision.HIGHEST), z1, axis_name)
  on = jnp.sum((1 - jnp.diagonal(c)) ** 2)
  off = jnp.sum(jnp.where(jnp.eye(len(c), dtype=bool), 0, c) ** 2)
  return scale_loss * (on + lambd * off)


def standardize(z, eps, axis_name=None):
  """Each feature of [B, D] with mean 0 and, but for eps, variance 1 over the global batch."""
  mean = jnp.mean(z, 0)
  mean = mean if axis_name is None else lax.pmean(mean, axis_name)
  centred = z - mean
  var = jnp.mean(centred * centred, 0)
  var = var if axis_name is None else lax.pmean(var, axis_name)
  return centred * lax.rsqrt(var + eps)


def batch_mean(total, z, axis_name=None):
  """A sum over the rows of z [B, ...] divided by B, of the global batch."""
  mean = total / len(z)
  return mean if axis_name is None else lax.pmean(mean, axis_name)
