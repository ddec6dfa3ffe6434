"""Permutations of a batch that its examples carry with them.

Drawn as one number or a few for each example, a permutation is the same whatever the order of the
batch has become and on however many devices it lies.
"""

import jax.numpy as jnp

from ssljax.ops._check import check_shape


def permutations(noise):
  """Orders of the batch, by growing noise.

  Args:
    noise: [B, n], one draw of each example for each permutation.

  Returns:
    int [n, B], n permutations.

  Raises:
    InputError: `noise` is not [B, n].
  """
  check_shape('noise', noise, ('B', 'n'))
  return jnp.argsort(noise, axis=0).T


def random_partner(noise):
  """A permutation of the batch: a partner for each row.

  The partner of the row whose first number is the k-th smallest is the row whose second number is
  the k-th smallest: every permutation is equally likely.

  Args:
    noise: [B, 2], two draws of each example.

  Returns:
    int [B], the row of each one's partner.

  Raises:
    InputError: `noise` is not [B, 2].
  """
  check_shape('noise', noise, ('B', 2))
  first, second = permutations(noise)
  return second[jnp.argsort(first)]
