"""What self-attention makes of a short sequence, read at its first token: All4One's centroids."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ssljax.errors import InputError
from ssljax.models.transformer import layer_norm
from ssljax.net import Net, from_linen


def first_token(*, layers=3, heads=8, dropout=0.1) -> Net:
  """Post-norm transformer encoder (Vaswani et al. 2017) of [N, L, D], its first token out: [N, D].

  Positions are added first; feed-forward layers are 2 D wide. Layers are those of torch's
  `TransformerEncoderLayer`, and so are the names of their parameters, `in_proj` being the stacked
  queries, keys and values. `dropout` needs `rng` in training.

  Raises InputError if D is no multiple of `heads`.
  """
  return from_linen(FirstToken(layers, heads, dropout))


def positions(length, width):
  """The table of All4One's code [L, D], whose axes have changed places.

  Row c is channel c of sinusoidal positions of L channels, sine and cosine in turn, over the D
  features as if they were the places of a sequence.
  """
  even = length + length % 2
  frequencies = np.repeat(10000.0 ** (-np.arange(0, even, 2) / even), 2)[:length, None]
  angles = frequencies * np.arange(width)
  return np.where(np.arange(length)[:, None] % 2, np.cos(angles), np.sin(angles))


class FirstToken(nn.Module):
  layers: int
  heads: int
  dropout: float

  @nn.compact
  def __call__(self, x, *, train: bool):
    if x.shape[-1] % self.heads:
      raise InputError(f'x has {x.shape[-1]} features, wanted a multiple of {self.heads} heads')
    x = x + jnp.asarray(positions(*x.shape[1:]), x.dtype)
    for i in range(self.layers):
      x = Layer(self.heads, self.dropout, name=f'layers_{i}')(x, train)
    return x[:, 0]


class Layer(nn.Module):
  heads: int
  dropout: float

  @nn.compact
  def __call__(self, x, train: bool):
    n, length, dim = x.shape
    drop = nn.Dropout(self.dropout, deterministic=not train)

    def dense(size, name):
      return nn.Dense(size, dtype=x.dtype, kernel_init=nn.initializers.xavier_uniform(), name=name)

    qkv = dense(3 * dim, 'in_proj')(x).reshape(n, length, 3, self.heads, -1)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    weights = jnp.einsum('nqhd,nkhd->nhqk', q, k) / (dim / self.heads) ** 0.5
    weights = drop(jax.nn.softmax(weights))
    y = jnp.einsum('nhqk,nkhd->nqhd', weights, v).reshape(x.shape)
    x = layer_norm(1e-5, x.dtype, 'norm1')(x + drop(dense(dim, 'out_proj')(y)))
    y = drop(nn.relu(dense(2 * dim, 'linear1')(x)))
    return layer_norm(1e-5, x.dtype, 'norm2')(x + drop(dense(dim, 'linear2')(y)))
