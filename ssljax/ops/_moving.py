"""Slowly moving copies of parameters."""

import jax
import jax.numpy as jnp

from ssljax.ops._check import as_float


def ema(old_tree, new_tree, decay):
  """Exponential moving average of two trees: decay * old + (1 - decay) * new.

  Args:
    old_tree: the average so far. Its dtypes are kept; the sum is taken in float32 at least.
    new_tree: a tree of the same structure and shapes.
    decay: how much of the old average stays, in [0, 1]; may be traced.

  Returns:
    The new average. Leaves that are not floating (counters, masks) are taken from `new_tree`.
  """

  def mix(old, new):
    if not jnp.issubdtype(jnp.result_type(old), jnp.floating):
      return jnp.asarray(new, jnp.result_type(old))
    mixed = decay * as_float(old) + (1 - decay) * as_float(new)
    return mixed.astype(jnp.result_type(old))

  return jax.tree.map(mix, old_tree, new_tree)


def cosine_ramp(step, steps, base, end=1.0):
  """From `base` to `end` along a cosine: end - (end - base) * (cos(pi k / K) + 1) / 2.

  With the end 1 it is the decay of BYOL's teacher.

  Args:
    step: k, the step reached; may be traced. Steps after the last one keep the last value.
    steps: K, the number of steps of the run.
    base: the value at step 0 (0.996 for 1,000 ImageNet epochs of BYOL).
    end: the value at step K.

  Reference: BYOL (https://arxiv.org/abs/2006.07733), Section 3.2.
  """
  done = jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1)
  return end - (end - base) * (jnp.cos(jnp.pi * done) + 1) / 2


def linear_ramp(step, steps, base, end):
  """From `base` at step 0 to `end` at step `steps` in a straight line, and `end` from then on.

  Args:
    step: the step reached; may be traced.
    steps: how long it rises; 0 for `end` from the start.
  """
  if steps <= 0:
    return jnp.asarray(end, jnp.float32)
  done = jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1)
  return base + (end - base) * done
