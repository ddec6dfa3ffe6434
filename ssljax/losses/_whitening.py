"""Losses between whitened embeddings."""

import itertools

import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.ops import as_float, check_shape, l2_normalize, whiten


def w_mse(z, perms, *, w_size=128, w_eps=0.0, norm=True, axis_name=None):
  """W-MSE: views agree after their embeddings are whitened, so that they cannot all be equal.

  Each permutation of the batch is cut into chunks of w_size, and of each chunk each view is
  whitened by itself (`ops.whiten`). With w the whitened embeddings and w' = w at length one, the
  mean over the permutations, the pairs of views and the batch of
    |w_u' - w_v'|^2 = 2 - 2 cos(w_u, w_v)    or, without norm, of |w_u - w_v|^2 / D

  Constant embeddings cannot be whitened: they become 0, and score 2 with norm, as views that have
  nothing in common. Without norm they score 0.

  Args:
    z: [B, V, D], embeddings of V views, at least 2.
    perms: int [w_iter, B], the permutations.
    w_size: rows whitened together, more than D, twice D in the paper; divides B.
    w_eps: of `ops.whiten`; 0 in the authors' code.
    norm: whether the whitened embeddings are compared at length one.
    axis_name: of `pmap` or `shard_map`, if z is one device's share of the batch (see
      `ssljax.losses`); every device has the permutations of the global batch and gathers z.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, or w_size does not divide the batch.

  Reference: W-MSE (https://arxiv.org/abs/2007.06346), Section 3, equations 5 and 6. Equals the
  authors' `WMSE.forward`.
  """
  check_shape('z', z, ('B', 'V', 'D'))
  if z.shape[1] < 2:
    raise InputError(f'z has shape {z.shape}, wanted at least 2 views, [B, V, D]')
  z = as_float(z)
  z = z if axis_name is None else lax.all_gather(z, axis_name, tiled=True)
  batch, views, width = z.shape
  check_shape('perms', perms, ('w_iter', batch))
  if batch % w_size:
    raise InputError(f'w_size is {w_size}, wanted a divisor of {batch}, the batch')
  chunks = z[perms].reshape(-1, w_size, views, width).swapaxes(1, 2)
  w = whiten(chunks, w_eps)
  w = l2_normalize(w) if norm else w

  def error(a, b):
    return 2 - 2 * jnp.mean(jnp.sum(a * b, axis=-1)) if norm else jnp.mean((a - b) ** 2)

  errors = [error(w[:, i], w[:, j]) for i, j in itertools.combinations(range(views), 2)]
  loss = sum(errors) / len(errors)
  return loss if axis_name is None else lax.pmean(loss, axis_name)
