"""Masks with a fixed number of removed tokens, so that shapes are static under jit."""

import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.ops._check import check_shape


def random_mask(noise, keep):
  """Keeps the `keep` tokens with the smallest noise, in the order of their noise.

  Args:
    noise: [B, L], one draw for each token.
    keep: K, how many tokens stay in each row, from 1 to L.

  Returns:
    keep_ids: int32 [B, K], the tokens that stay; for `take_tokens`.
    restore: int32 [B, L], the place of each token in the order of noise; for `restore_tokens`.
    mask: float32 [B, L], 1 where the token is removed.

  Raises:
    InputError: `noise` is not [B, L], or `keep` is not in 1..L.

  Reference: MAE (https://arxiv.org/abs/2111.06377), Section 3; the order is that of
  `random_masking` in the authors' code.
  """
  check_shape('noise', noise, ('B', 'L'))
  if not 1 <= keep <= noise.shape[1]:
    raise InputError(f'keep is {keep}, wanted 1 to {noise.shape[1]}, the number of tokens')
  order = jnp.argsort(noise, axis=1)
  restore = jnp.argsort(order, axis=1)
  return order[:, :keep], restore, (restore >= keep).astype(jnp.float32)


def take_tokens(x, ids):
  """The tokens at `ids`: x [B, L, D], ids [B, K] -> [B, K, D].

  Raises:
    InputError: a shape does not fit.
  """
  check_shape('x', x, ('B', 'L', 'D'))
  check_shape('ids', ids, (x.shape[0], 'K'))
  return jnp.take_along_axis(x, ids[..., None], axis=1)


def restore_tokens(kept, fill, restore):
  """Puts kept tokens back in their places and `fill` in the empty ones.

  Args:
    kept: [B, K, D], tokens in the order of `keep_ids`.
    fill: [D], what a removed token becomes (MAE's mask token); cast to the dtype of `kept`.
    restore: int [B, L], from `random_mask`.

  Returns:
    [B, L, D].

  Raises:
    InputError: a shape does not fit.
  """
  check_shape('kept', kept, ('B', 'K', 'D'))
  batch, count, width = kept.shape
  check_shape('fill', fill, (width,))
  check_shape('restore', restore, (batch, 'L'))
  empty = jnp.broadcast_to(fill.astype(kept.dtype), (batch, restore.shape[1] - count, width))
  return take_tokens(jnp.concatenate([kept, empty], axis=1), restore)
