"""What is different on a GPU; skipped where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import flops, ops

pytestmark = pytest.mark.skipif(
  all(device.platform != 'gpu' for device in jax.devices()), reason='there is no GPU here'
)


@pytest.mark.parametrize('tokens, others', [(197, 197), (50, 257)])
def test_attention_by_cudnn(tokens, others):
  """Half precision gives what float32 does, in value and gradients, to half precision."""
  keys = jax.random.split(jax.random.key(0), 4)
  shapes = [(2, n, 6, 64) for n in (tokens, others, others, tokens)]
  *qkv, weights = (jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True))

  def value(dtype):
    def loss(*qkv):
      y = ops.attend(*(x.astype(dtype) for x in qkv)).astype(jnp.float32)
      return jnp.sum(weights * y), y

    return loss

  def both(dtype):
    gradients, y = jax.jit(jax.grad(value(dtype), argnums=(0, 1, 2), has_aux=True))(*qkv)
    return y, *gradients

  assert 'cudnn' in jax.jit(value(jnp.bfloat16)).lower(*qkv).as_text()
  for half, full in zip(both(jnp.bfloat16), both(jnp.float32), strict=True):
    error = np.linalg.norm(half - full) / np.linalg.norm(full)
    assert error < 0.01, error


def test_flops_of_cudnn():
  """Counted as those of the products that it stands for."""

  def products(dtype):
    q = jnp.zeros((2, 50, 6, 64), dtype)
    f = jax.value_and_grad(lambda q: ops.attend(q, q, q).astype(jnp.float32).sum())
    return flops.count(jax.make_jaxpr(f)(q).jaxpr)

  assert products(jnp.bfloat16) == products(jnp.float32) > 0
