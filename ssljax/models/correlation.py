"""Where in an image an exemplar is: a map from cross-attention, and maps made larger."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ssljax.errors import InputError
from ssljax.models.positions import sincos_positions
from ssljax.models.transformer import Mlp, layer_norm, linear
from ssljax.net import Net, from_linen
from ssljax.ops import attend


def correlation_decoder(*, dim=512, heads=16) -> Net:
  """Two logits, outside and inside, for each patch of a context and each of its exemplars (CIM).

  apply(params, state, context [N, 1 + L, D], exemplars [N, V, 1 + K, D], train=...) -> [N, V, L,
  2]. The first token of each is the class token. One pre-norm block of cross-attention, with the
  context as queries and the exemplar as keys and values (Li et al. 2023, section 3.3).

  Raises InputError if L is no square.
  """
  return from_linen(CorrelationDecoder(dim, heads))


class CorrelationDecoder(nn.Module):
  dim: int
  heads: int

  @nn.compact
  def __call__(self, context, exemplars, *, train: bool):
    def dense(width, name):
      return linear(width, context.dtype, name)

    def norm(name):
      return layer_norm(1e-6, context.dtype, name)

    def split(y):
      return y.reshape(*y.shape[:-1], self.heads, -1)

    side = math.isqrt(context.shape[1] - 1)
    if side**2 != context.shape[1] - 1:
      raise InputError(f'context has {context.shape[1] - 1} patches, wanted a square number')
    embed, norm1 = dense(self.dim, 'embed'), norm('norm1')
    positions = jnp.pad(sincos_positions(side, side, self.dim), ((1, 0), (0, 0)))
    x, t = embed(context) + positions.astype(context.dtype), norm1(embed(exemplars))
    q = split(dense(self.dim, 'q')(norm1(x)))
    k, v = jnp.split(dense(2 * self.dim, 'kv')(t), 2, axis=-1)
    # The queries are those of all exemplars.
    q = jnp.broadcast_to(q[:, None], (*t.shape[:2], *q.shape[1:]))
    flat = (y.reshape(-1, *y.shape[2:]) for y in (q, split(k), split(v)))
    y = attend(*flat).reshape(*t.shape[:2], -1, self.dim)
    x = x[:, None] + dense(self.dim, 'proj')(y)
    x = x + Mlp(4 * self.dim, name='mlp')(norm('norm2')(x))
    return dense(2, 'pred')(norm('norm')(x)[:, :, 1:])


def enlarge(maps, size):
  """Square maps [N, V, L, C] as [N, V, size, size, C], bilinear, corners on corners."""
  side = math.isqrt(maps.shape[2])
  at = np.arange(size) * (side - 1) / max(size - 1, 1)
  weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(side))).astype(np.float32)
  grid = maps.reshape(*maps.shape[:2], side, side, -1).astype(jnp.float32)
  exact = jax.lax.Precision.HIGHEST
  return jnp.einsum('yh,xw,nvhwc->nvyxc', weights, weights, grid, precision=exact)
