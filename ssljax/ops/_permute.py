"""Permutations of a batch that its examples carry with them.

Drawn as one number or a few for each example, a permutation is the same whatever the order of the
batch has become and on however many devices it lies.
"""

import jax.numpy as jnp

from ssljax.ops._check import check_shape


def permutations(noise):
  """Orders of the batch: int [n, B] of noise [B, n], the rows by growing noise."""
  check_shape('noise', noise, ('B', 'n'))
  return jnp.argsort(noise, axis=0).T


def random_partner(noise):
  """A permutation of the batch: int [B], the partner of each row, of noise [B, 2].

  The partner of the row whose first number is the k-th smallest is the row whose second number is:
  every permutation is equally likely.
  """
  check_shape('noise', noise, ('B', 2))
  first, second = permutations(noise)
  return second[jnp.argsort(first)]
