"""Kernel-InfoNCE: kernels of the distance in place of the exponential of the cosine."""

import functools

import numpy as np
from losscheck import Case, embeddings, second_nears_first, unit

from ssljax import losses


def numpy_kernel_info_nce(
  z1, z2, *, kernel='sum', gamma=1.0, temperature=0.5, weight=0.5, mixture='losses'
):
  u = unit(np.concatenate([z1, z2]))
  half = u.shape[1] // 2
  parts = (u[:, :half], u[:, half:]) if kernel == 'concatenation' else (u, u)

  def values(x, power):
    return np.array(
      [[np.exp(-(np.linalg.norm(a - b) ** power) / temperature) for b in x] for a in x]
    )

  def loss(values):
    total = 0.0
    for i, row in enumerate(values):
      total -= np.log(row[(i + len(z1)) % len(u)] / np.delete(row, i).sum())
    return total / len(u)

  first, second = values(parts[0], gamma), values(parts[1], 2)
  if kernel == 'exponential':
    return loss(first)
  if mixture == 'kernels':
    return loss(weight * first + (1 - weight) * second)
  return weight * loss(first) + (1 - weight) * loss(second)


def case(**options):
  chunk_size = options.pop('chunk_size', None)
  loss = functools.partial(losses.kernel_info_nce, chunk_size=chunk_size, **options)
  restated = functools.partial(numpy_kernel_info_nce, **options)
  return Case(loss, restated, PAIR, 2, second_nears_first(PAIR))


PAIR = embeddings(2)
CASES = {
  'kernel_infonce, Laplacian': case(kernel='exponential'),
  'kernel_infonce, Gaussian': case(kernel='exponential', gamma=2.0),
  'kernel_infonce, sum': case(gamma=0.5, weight=0.3),
  'kernel_infonce, sum of kernels, chunked': case(mixture='kernels', weight=0.3, chunk_size=3),
  'kernel_infonce, concatenation': case(kernel='concatenation', weight=0.7),
  'kernel_infonce, concatenation of kernels': case(kernel='concatenation', mixture='kernels'),
}
GOLDENS = {}
