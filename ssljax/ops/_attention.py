"""Attention, by what is fastest on the platform that JAX computes on."""

import jax
import jax.numpy as jnp

HALF = (jnp.bfloat16, jnp.float16)


def attend(q, k, v):
  """softmax(q k^T / sqrt(d)) v of each head.

  On GPUs and in half precision by cuDNN's flash attention, which keeps no [T, S] array; elsewhere
  by XLA's form. The choice is made when the function is traced, by `jax.default_backend()`.

  Args:
    q: [N, T, heads, d].
    k, v: [N, S, heads, d].

  Returns:
    [N, T, heads, d].
  """
  if jax.default_backend() == 'gpu' and q.dtype in HALF and q.shape[-1] % 8 == 0:
    return _even(q, k, v, 'cudnn')
  return jax.nn.dot_product_attention(q, k, v)


def _even(q, k, v, implementation):
  """With one more token where their number is odd: JAX refuses cuDNN's gradient for those."""
  tokens, others = q.shape[1], k.shape[1]
  lengths = jnp.full(len(k), others, jnp.int32) if others % 2 else None
  q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
  y = jax.nn.dot_product_attention(
    q, k, v, key_value_seq_lengths=lengths, implementation=implementation
  )
  return y[:, :tokens]
