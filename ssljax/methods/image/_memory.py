"""What methods with a memory for every example have in common."""

import jax
import jax.numpy as jnp

from ssljax import ops


def empty(rng, num_examples, width):
  """State before the first step: a bank of random unit vectors, and no normalizer yet (-1)."""
  bank = ops.l2_normalize(jax.random.normal(rng, (num_examples, width)))
  return {'bank': bank, 'normalizer': jnp.full((), -1, jnp.float32)}


def candidates(rng, index, num_negatives, num_examples, sets=()):
  """Rows of the bank for each example, its own first, then noise: int32 [B, *sets, 1 + M]."""
  shape = (len(index), *sets, num_negatives)
  noise = jax.random.randint(rng, shape, 0, num_examples)
  own = jnp.broadcast_to(index.reshape(-1, *(1,) * (len(shape) - 1)), (*shape[:-1], 1))
  return jnp.concatenate([own, noise], axis=-1)
