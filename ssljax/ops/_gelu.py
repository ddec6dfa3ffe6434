import jax
import jax.numpy as jnp
import numpy as np


def gelu(x):
  """x Phi(x), by erf in float32 at least.

  As PyTorch's: `jax.nn.gelu` has erfc in its place, which takes longer to compile, and to run on
  CPUs.
  """
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return (0.5 * wide * (1 + jax.lax.erf(wide * np.sqrt(0.5).astype(wide.dtype)))).astype(x.dtype)
