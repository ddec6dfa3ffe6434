"""Batch normalisation with torch's conventions and a choice of whose rows share statistics."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax


class BatchNorm(nn.Module):
  """y = (x - mean) / sqrt(var + epsilon) * scale + bias over all axes but the last.

  Called on x [B V, ..., C] with the view index fastest. With `bn_groups=V` each view is normalised
  by its own statistics, with 1 all rows share them; `train=False` uses the running ones, which
  only a `train=True` call changes: new = momentum * old + (1 - momentum) * batch, the mean over
  groups. As in torch, the batch is normalised by its biased variance and the running variance
  averages the unbiased one. Statistics are of the global batch, in float32 or x's wider type, and
  kept in float32; the result has the dtype of x. With `where`, bool [B V, ..., 1], statistics are
  of the True places alone and the result is 0 elsewhere (a sparse batch norm).

  Raises ValueError if bn_groups does not divide the rows.
  """

  use_scale: bool = True
  use_bias: bool = True
  scale_init: nn.initializers.Initializer = nn.initializers.ones
  momentum: float = 0.9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int = 1, where=None):
    channels = x.shape[-1:]
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, channels, jnp.float32)
    running_var = self.variable('batch_stats', 'var', jnp.ones, channels, jnp.float32)
    scale = self.param('scale', self.scale_init, channels) if self.use_scale else 1.0
    bias = self.param('bias', nn.initializers.zeros, channels) if self.use_bias else 0.0

    dtype = jnp.promote_types(x.dtype, jnp.float32)
    if not train:
      factor = scale * lax.rsqrt(running_var.value + self.epsilon)
      y = (x.astype(dtype) - running_mean.value) * factor + bias
      return _only(y.astype(x.dtype), where)

    if x.shape[0] % bn_groups:
      raise ValueError(f'x has shape {x.shape}, wanted a multiple of bn_groups={bn_groups} rows')
    grouped = x.reshape(-1, bn_groups, *x.shape[1:]).astype(dtype)
    axes = (0, *range(2, grouped.ndim - 1))
    seen = None if where is None else where.reshape(-1, bn_groups, *where.shape[1:])
    mean = jnp.mean(grouped, axes, keepdims=True, where=seen)
    centred = grouped - mean
    # Two passes: E[x^2] - E[x]^2 loses every digit of a small variance around a large mean.
    var = jnp.mean(jnp.square(centred), axes, keepdims=True, where=seen)
    y = centred * (scale * lax.rsqrt(var + self.epsilon)) + bias

    if not self.is_initializing():
      count = grouped.size // (bn_groups * x.shape[-1])
      if seen is not None:
        count = seen.sum(axes, keepdims=True)
      unbiased = var * (count / jnp.maximum(count - 1, 1))
      for running, batch in ((running_mean, mean), (running_var, unbiased)):
        batch = batch.reshape(bn_groups, -1).mean(0).astype(jnp.float32)
        running.value = self.momentum * running.value + (1 - self.momentum) * batch
    return _only(y.astype(x.dtype).reshape(x.shape), where)


def _only(y, where):
  return y if where is None else jnp.where(where, y, 0)
