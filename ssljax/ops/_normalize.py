"""Vectors of length one."""

import jax
import jax.numpy as jnp

from ssljax.ops._check import as_float


def l2_normalize(z, axis=-1, eps=1e-12):
  """Scales vectors to length one: z * rsqrt(max(sum(z * z), eps)).

  The floor is on the squared norm, inside the root, as in BYOL's code. A zero vector stays zero and
  its gradient is finite; `z / (norm(z) + eps)` and `z / max(norm(z), eps)` have NaN there.

  Args:
    z: array of any shape; computed in float32 at least, returned in the dtype of `z`.
    axis: the axis or axes that hold one vector.
    eps: smallest squared norm; shorter vectors are multiplied by 1 / sqrt(eps).
  """
  x = as_float(z)
  squared = jnp.sum(x * x, axis=axis, keepdims=True)
  return (x * jax.lax.rsqrt(jnp.maximum(squared, eps))).astype(jnp.result_type(z))
