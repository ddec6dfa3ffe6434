"""Eigenvectors of many small symmetric matrices."""

import jax
import jax.numpy as jnp

from ssljax.ops._normalize import l2_normalize


def leading_eigenvectors(x, count, steps=40):
  """Eigenvectors of the largest eigenvalues of symmetric matrices.

  By subspace iteration of (x + I) / 2, products and Gram-Schmidt alone, so it runs the same on any
  device and inside any program; eigenvalues near each other are not fully separated.

  Args:
    x: [..., S, S], symmetric, with eigenvalues in [-1, 1].
    count: how many, at most S.
    steps: of the iteration.

  Returns:
    [..., S, count], columns of length one, that of the largest eigenvalue first.
  """
  size = x.shape[-1]
  places = jnp.arange(size, dtype=jnp.float32)[:, None]
  # Fixed vectors of which none is orthogonal to what is looked for, unless by accident.
  start = jnp.cos((places + 0.5) * jnp.arange(count) * jnp.pi / size + jnp.arange(count))
  start = jnp.broadcast_to(start, (*x.shape[:-1], count))
  shifted = (x + jnp.eye(size)) / 2

  def orthogonal(v):
    done = []
    for i in range(count):
      one = v[..., i]
      for other in done:
        one = one - jnp.sum(one * other, -1, keepdims=True) * other
      done.append(l2_normalize(one))
    return jnp.stack(done, -1)

  def step(v, _):
    return orthogonal(jnp.matmul(shifted, v, precision='highest')), None

  return jax.lax.scan(step, orthogonal(start), None, length=steps)[0]
