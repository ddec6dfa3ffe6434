"""Pooling of feature maps."""

import jax.numpy as jnp

from ssljax.net import Net


def gem(x, power=3.0, eps=1e-6):
  """Generalised mean over the places of a map: mean(max(x, eps)^p)^(1 / p), [N, h, w, D] -> [N, D].

  p = 1 is the mean, and as p grows it nears the maximum. Meant for maps of no negative values.
  Computed in float32 at least, returned in the dtype of `x`.

  Reference: Radenovic et al. 2018 (https://arxiv.org/abs/1711.02512), Section 3.2.
  """
  y = jnp.maximum(x.astype(jnp.promote_types(x.dtype, jnp.float32)), eps)
  return (jnp.mean(y**power, axis=(1, 2)) ** (1 / power)).astype(x.dtype)


def pooled(head: Net, power=3.0) -> Net:
  """`head` on the generalised mean of a map [N, h, w, D]."""

  def init(rng, x, **options):
    return head.init(rng, gem(x, power), **options)

  def apply(params, state, x, **options):
    return head.apply(params, state, gem(x, power), **options)

  return Net(init, apply)
