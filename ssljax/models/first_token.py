"""What self-attention makes of a short sequence, read at its first token: All4One's centroids."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ssljax.errors import InputError
from ssljax.models.transformer import layer_norm
from ssljax.net import Net, from_linen


def first_token(*, layers=3, heads=8, dropout=0.1) -> Net:
  """Post-norm transformer encoder (Vaswani et al. 2017) of [N, L, D], its first token out: [N, D].

  Positions are added first; feed-forward layers are 2 D wide. Layers are those of torch's
  `TransformerEncoderLayer`, and so are the names of their parameters, `in_proj` being the stacked
  queries, keys and values. In training `dropout` needs `seeds` [N, 2], 32 random bits each: what is
  dropped from a sequence depends on its own seeds alone, not on the rest of its batch.

  Raises InputError if `dropout` is not in [0, 1), D is no multiple of `heads`, or seeds are wanted
  and missing.
  """
  if not 0 <= dropout < 1:
    raise InputError(f'dropout is {dropout}, wanted 0 or more and less than 1')
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
  def __call__(self, x, *, train: bool, seeds=None):
    if x.shape[-1] % self.heads:
      raise InputError(f'x has {x.shape[-1]} features, wanted a multiple of {self.heads} heads')
    rate = self.dropout if train else 0.0
    if rate and seeds is None:
      raise InputError('dropout needs seeds [N, 2] in training')
    x = x + jnp.asarray(positions(*x.shape[1:]), x.dtype)
    for i in range(self.layers):
      last = i == self.layers - 1
      x = Layer(self.heads, first_only=last, name=f'layers_{i}')(
        x, functools.partial(drop, seeds, rate, i)
      )
    return x[:, 0]


class Layer(nn.Module):
  """first_only: gives the first token alone, [N, 1, D], the others being keys and values only."""

  heads: int
  first_only: bool

  @nn.compact
  def __call__(self, x, dropout):
    n, length, dim = x.shape

    def dense(size, name):
      return nn.Dense(size, dtype=x.dtype, kernel_init=nn.initializers.xavier_uniform(), name=name)

    qkv = dense(3 * dim, 'in_proj')(x).reshape(n, length, 3, self.heads, -1)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    if self.first_only:
      q, x = q[:, :1], x[:, :1]
    weights = jnp.einsum('nqhd,nkhd->nhqk', q, k) / (dim / self.heads) ** 0.5
    weights = dropout('weights', jax.nn.softmax(weights))
    y = jnp.einsum('nhqk,nkhd->nqhd', weights, v).reshape(x.shape)
    y = dropout('attended', dense(dim, 'out_proj')(y))
    x = layer_norm(1e-5, x.dtype, 'norm1')(x + y)
    y = dropout('hidden', nn.relu(dense(2 * dim, 'linear1')(x)))
    y = dropout('out', dense(dim, 'linear2')(y))
    return layer_norm(1e-5, x.dtype, 'norm2')(x + y)


def drop(seeds, rate, layer, place, y):
  """y [N, ...] with zeros for a share `rate` of it, and the rest scaled up to make up for it.

  16 random bits decide on each number, so the share is a multiple of 1 / 65,536: on a CPU, drawing
  32 for each took as long as the products.
  """
  if not rate:
    return y
  size, site = y[0].size, 4 * layer + ('weights', 'attended', 'hidden', 'out').index(place)
  dropped = round(rate * 2**16)

  def draw(seed):
    key = jax.random.fold_in(jax.random.wrap_key_data(seed, impl='threefry2x32'), site)
    words = jax.random.bits(key, (-(-size // 2),))
    return lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size]

  kept = jax.vmap(draw)(seeds).reshape(y.shape) >= dropped
  return jnp.where(kept, y / (1 - dropped / 2**16), 0)
