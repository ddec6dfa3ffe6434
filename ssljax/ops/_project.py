"""The product of a linear layer."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def project(x, kernel):
  """x [..., D] @ kernel [D, F], whose gradient with respect to the kernel is x^T g as it stands.

  JAX's own rule computes (g^T x)^T. On a CPU XLA then lays out g^T anew, and fuses into that copy
  all that g is a sum of: in a residual network every later block, so that a step costs the square
  of the depth. x^T is what a norm or an activation gave, and costs the same at any depth.
  """
  return x @ kernel


def _forward(x, kernel):
  return x @ kernel, (x, kernel)


def _backward(kept, g):
  x, kernel = kept
  rows = tuple(range(x.ndim - 1))
  return g @ kernel.T, jnp.tensordot(x, g, (rows, rows))


project.defvjp(_forward, _backward)
