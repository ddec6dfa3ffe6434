"""The transformer block of vision transformers, with what published models differ in as options."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models.positions import rotate
from ssljax.ops import attend, gelu, project

xavier = nn.initializers.xavier_uniform()
token_init = nn.initializers.normal(0.02)


def layer_norm(epsilon, dtype, name):
  return nn.LayerNorm(epsilon, dtype=dtype, use_fast_variance=False, name=name)


def linear(features, dtype, name, **options):
  """A layer of x W + b; W's gradient is that of `ops.project`, for deep networks on CPUs."""
  return nn.Dense(
    features, dtype=dtype, kernel_init=xavier, dot_general=_product, name=name, **options
  )


def _product(x, kernel, axes, precision):
  """`project` with the arguments of `lax.dot_general`, of which a linear layer has one choice."""
  del axes, precision
  return project(x, kernel)


class Qkv(nn.Module):
  """Queries, keys and values in one product; bias 'all', 'none', or 'no_key' (DINOv3)."""

  bias: str

  @nn.compact
  def __call__(self, x):
    dim = x.shape[-1]
    y = project(x, self.param('kernel', xavier, (dim, 3 * dim)).astype(x.dtype))
    if self.bias == 'none':
      return y
    if self.bias == 'all':
      return y + self.param('bias', nn.initializers.zeros, (3 * dim,)).astype(x.dtype)
    q, v = (self.param(f'bias_{n}', nn.initializers.zeros, (dim,)) for n in 'qv')
    return y + jnp.concatenate([q, jnp.zeros_like(q), v]).astype(x.dtype)


class Attention(nn.Module):
  """Self-attention on [N, L, D]; returns the output and queries, keys, values [N, L, heads, d].

  angles: of the last tokens, see `positions.rotate`; tokens before them (class, registers) do not
  turn. The queries and keys returned have turned.
  """

  heads: int
  qkv_bias: str = 'all'
  qk_norm: bool = False

  @nn.compact
  def __call__(self, x, angles=None):
    n, length, dim = x.shape
    qkv = Qkv(self.qkv_bias, name='qkv')(x)
    q, k, v = jnp.moveaxis(qkv.reshape(n, length, 3, self.heads, -1), 2, 0)
    if self.qk_norm:
      q, k = layer_norm(1e-6, x.dtype, 'q_norm')(q), layer_norm(1e-6, x.dtype, 'k_norm')(k)
    if angles is not None:
      still = length - _tokens(angles, dim // self.heads)
      q, k = (jnp.concatenate([t[:, :still], rotate(t[:, still:], angles)], 1) for t in (q, k))
    y = attend(q, k, v).reshape(x.shape)
    y = linear(dim, x.dtype, 'proj')(y)
    return y, (q, k, v)


def _tokens(angles, head_dim):
  """How many tokens angles are for: [(N,) L, head_dim / 2] or [(N,) L, 2, head_dim / 4]."""
  return angles.shape[-2] if angles.shape[-1] * 2 == head_dim else angles.shape[-3]


class Mlp(nn.Module):
  hidden: int

  @nn.compact
  def __call__(self, x):
    y = linear(self.hidden, x.dtype, 'fc1')(x)
    y = gelu(y)
    return linear(x.shape[-1], x.dtype, 'fc2')(y)


class SwiGlu(nn.Module):
  """silu(x w1) * (x w2), then w3 (Shazeer 2020); w1 and w2 lie in one kernel, as in DINOv2."""

  hidden: int

  @nn.compact
  def __call__(self, x):
    both = linear(2 * self.hidden, x.dtype, 'w12')(x)
    gate, y = jnp.split(both, 2, axis=-1)
    return linear(x.shape[-1], x.dtype, 'w3')(nn.silu(gate) * y)


class Block(nn.Module):
  """Pre-norm transformer block on [N, L, D]: (x, (queries, keys, values)).

  drop_path drops a branch for whole samples; `rate` in the call, which may be traced, stands for
  it where layers are scanned over. layer_scale > 0 multiplies each branch by a learned vector that
  begins with that value (CaiT). mlp: 'gelu' with mlp_ratio * D hidden units, or 'swiglu' with two
  thirds of that, rounded up to a multiple of swiglu_align.
  """

  heads: int
  mlp_ratio: float = 4.0
  layer_norm_eps: float = 1e-6
  drop_path: float = 0.0
  qkv_bias: str = 'all'
  qk_norm: bool = False
  layer_scale: float = 0.0
  mlp: str = 'gelu'
  swiglu_align: int = 8

  @nn.compact
  def __call__(self, x, train: bool, angles=None, rate=None):
    def branch(y, name):
      if self.layer_scale:
        gamma = self.param(name, nn.initializers.constant(self.layer_scale), x.shape[-1:])
        y *= gamma.astype(y.dtype)
      if not train or (rate is None and not self.drop_path):
        return y
      kept = 1 - (self.drop_path if rate is None else rate)
      alive = jax.random.bernoulli(self.make_rng('dropout'), kept, (len(y), 1, 1))
      return jnp.where(alive, y / kept, 0).astype(y.dtype)

    hidden = int(self.mlp_ratio * x.shape[-1])
    if self.mlp == 'swiglu':
      hidden = -(-int(hidden * 2 / 3) // self.swiglu_align) * self.swiglu_align
    y = layer_norm(self.layer_norm_eps, x.dtype, 'norm1')(x)
    y, qkv = Attention(self.heads, self.qkv_bias, self.qk_norm, name='attn')(y, angles)
    x = x + branch(y, 'ls1')
    y = layer_norm(self.layer_norm_eps, x.dtype, 'norm2')(x)
    feed = (SwiGlu if self.mlp == 'swiglu' else Mlp)(hidden, name='mlp')
    return x + branch(feed(y), 'ls2'), qkv
