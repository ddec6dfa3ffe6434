"""Patches read at given places, with what they attend to."""

import flax.linen as nn
import jax.numpy as jnp

from ssljax.models.transformer import layer_norm, linear
from ssljax.net import Net, from_linen
from ssljax.ops import attend


def sampled_attention(heads) -> Net:
  """Tokens [N, L, D] read by weights [N, S, L]: [N, S, D].

  y = norm(tokens); out = norm(w y + attention), where the queries are read by the weights too and
  attend to all of y. Rows of weights that are 0 give what nobody should read.

  Reference: UDI (https://arxiv.org/abs/2407.17671), `MaskedAttention` of its code.
  """
  return from_linen(SampledAttention(heads))


class SampledAttention(nn.Module):
  heads: int

  @nn.compact
  def __call__(self, x, weights, *, train: bool, bn_groups: int = 1):
    n, length, dim = x.shape
    weights = weights.astype(x.dtype)
    x = layer_norm(1e-6, x.dtype, 'norm1')(x)
    qkv = linear(3 * dim, x.dtype, 'qkv')(x)
    q, k, v = jnp.split(qkv, 3, -1)

    def split(y):
      return y.reshape(n, -1, self.heads, dim // self.heads)

    y = attend(split(weights @ q), split(k), split(v))
    y = linear(dim, x.dtype, 'proj')(y.reshape(n, -1, dim))
    return layer_norm(1e-6, x.dtype, 'norm2')(y + weights @ x)
