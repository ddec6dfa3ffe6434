"""Attention, by what is fastest on the platform that JAX computes on."""

import jax
import jax.numpy as jnp

HALF = (jnp.bfloat16, jnp.float16)


def attend(q, k, v):
  """softmax(q k^T / sqrt(d)) v of each head.

  On GPUs and in half precision by cuDNN's flash attention, which keeps no [T, S] array. On CPUs
  one head after another, its scores computed again for the gradient: all heads' do not fit into the
  cache, and moving them costs more than the products. Elsewhere XLA's form.

  The form is chosen when the function is traced, by `jax.default_backend()`: as branches of
  `platform_dependent` each would keep what the others need for their gradients.

  Args:
    q: [N, T, heads, d].
    k, v: [N, S, heads, d].

  Returns:
    [N, T, heads, d].
  """
  backend = jax.default_backend()
  if backend == 'cpu':
    return _by_head(q, k, v)
  if backend == 'gpu' and q.dtype in HALF and q.shape[-1] % 8 == 0:
    return _even(q, k, v, 'cudnn')
  return jax.nn.dot_product_attention(q, k, v)


def _even(q, k, v, implementation):
  """With one token more where their number is odd: JAX refuses cuDNN's gradient for those."""
  tokens, others = q.shape[1], k.shape[1]
  lengths = jnp.full(len(k), others, jnp.int32) if others % 2 else None
  q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
  y = jax.nn.dot_product_attention(
    q, k, v, key_value_seq_lengths=lengths, implementation=implementation
  )
  return y[:, :tokens]


def _by_head(q, k, v):
  @jax.checkpoint
  def one(head):
    return jax.nn.dot_product_attention(*(x[:, :, None] for x in head))[:, :, 0]

  heads = tuple(jnp.moveaxis(x, 2, 0) for x in (q, k, v))
  return jnp.moveaxis(jax.lax.map(one, heads), 0, 2)
