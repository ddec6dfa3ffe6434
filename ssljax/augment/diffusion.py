"""Diffusion matrices of small graphs, as dense arrays; encoders apply them step by step instead."""

import jax
import jax.numpy as jnp


def ppr(adjacency, alpha=0.2, *, self_loop=True):
  """Personalised PageRank [N, N]: alpha (I - (1 - alpha) D^-1/2 A D^-1/2)^-1.

  adjacency: [N, N], symmetric. self_loop: whether I is added to it first.
  Hassani & Khasahmadi 2020, equation 2; equals `compute_ppr` of MVGRL's code.
  """
  a = adjacency + jnp.eye(len(adjacency), dtype=adjacency.dtype) * self_loop
  degree = a.sum(1)
  scale = jnp.where(degree > 0, jnp.where(degree > 0, degree, 1) ** -0.5, 0)
  normal = scale[:, None] * a * scale
  eye = jnp.eye(len(a), dtype=a.dtype)
  return alpha * jnp.linalg.inv(eye - (1 - alpha) * normal)


def heat(adjacency, t=5.0, *, entrywise=False):
  """Heat kernel [N, N]: exp(t (A D^-1 - I)), the matrix exponential.

  Hassani & Khasahmadi 2020, equation 3. The code of MVGRL takes the exponential of each entry of
  t (A D^-1 - 1) instead, after adding I to A: with `entrywise` it is that.
  """
  if entrywise:
    a = adjacency + jnp.eye(len(adjacency), dtype=adjacency.dtype)
    return jnp.exp(t * (a / a.sum(0) - 1))
  walk = adjacency / jnp.maximum(adjacency.sum(0), 1)
  return jax.scipy.linalg.expm(t * (walk - jnp.eye(len(walk), dtype=walk.dtype)))
