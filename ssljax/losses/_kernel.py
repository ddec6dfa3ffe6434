"""Contrastive losses by kernels of the distance."""

import jax
import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.losses._contrastive import check_positive, gather
from ssljax.losses._logsumexp import over_others
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots, l2_normalize

KERNELS = ('exponential', 'sum', 'concatenation')
MIXTURES = ('losses', 'kernels')
# Of squared distances: the root of less has no gradient, and float32 knows no less.
FLOOR = 1e-12


def kernel_info_nce(
  z1,
  z2,
  *,
  kernel='sum',
  gamma=1.0,
  temperature=0.5,
  weight=0.5,
  mixture='losses',
  chunk_size=None,
  axis_name=None,
):
  """Kernel-InfoNCE: a kernel of the distance between unit vectors decides which view is the other.

  With u the 2B embeddings of both views at length one, i and i' the views of one element:
    L(K) = mean over i of  -log( K(u_i, u_i') / sum_{j != i} K(u_i, u_j) ),
    K_g(a, b) = exp(-|a - b|^g / T), with w = weight:
    'exponential'    L(K_gamma): gamma 2 is the Gaussian kernel, and `nt_xent` at temperature T / 2,
                     gamma 1 the Laplacian
    'sum'            w L(K_gamma) + (1 - w) L(K_2)
    'concatenation'  the same, with K_gamma of the first half of the dimensions, K_2 of the second;
                     it is the whole vector that has length one

  The mixtures follow the authors' code, which mixes the losses of the two kernels. The paper's
  formula mixes the kernels, L(w K_gamma + (1 - w) K_2): mixture='kernels', w = 1/2. Constant
  embeddings score ln(2B - 1), chance level.

  Args:
    z1: [B, D], embeddings of the first view, of any length; z2: [B, D], of the second.
    kernel: 'exponential', 'sum' or 'concatenation', which wants an even D.
    gamma: the power of the distance, more than 0.
    temperature: T; the authors search it, with `weight` and the learning rate.
    weight: of K_gamma in a mixture, between 0 and 1.
    mixture: 'losses' or 'kernels'.
    chunk_size: elements whose distances are held at a time, computed again for the gradient.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, kernel or mixture is unknown, or a number is out of range.

  Reference: Tan et al. (https://arxiv.org/abs/2303.15103), Section 6, and `gamma_loss`,
  `nt_xent_loss` of the authors' `simclr_module.py`, where the concatenation is called 'product'.
  """
  check_shape('z1', z1, ('B', 'D'))
  check_shape('z2', z2, z1.shape)
  _check(kernel, gamma, temperature, weight, mixture, chunk_size, z1.shape[1])
  u = l2_normalize(jnp.stack([as_float(z1), as_float(z2)], axis=1))
  width = u.shape[-1]
  half = width // 2 if kernel == 'concatenation' else None

  def log_kernel(power, part):
    return lambda squared: -_power(squared(part), power) / temperature

  first = log_kernel(gamma, slice(None, half))
  second = log_kernel(2.0, slice(half, None))

  def both(squared):
    return jnp.logaddexp(jnp.log(weight) + first(squared), jnp.log1p(-weight) + second(squared))

  def loss(kernel):
    return _info_nce(u, kernel, chunk_size, axis_name)

  if kernel == 'exponential':
    return loss(first)
  if mixture == 'kernels':
    return loss(both)
  return weight * loss(first) + (1 - weight) * loss(second)


def _info_nce(u, log_kernel, chunk_size, axis_name):
  """log_kernel takes a function from a slice of the dimensions to squared distances there."""
  keys, first = gather(u, axis_name)
  ids = jnp.repeat(jnp.arange(len(keys)), 2)
  rows = jnp.repeat(first + jnp.arange(len(u)), 2)

  def scores(q, k):
    return log_kernel(lambda part: _squared_distances(q[:, part], k[:, part]))

  q, k = (x.reshape(-1, u.shape[-1]) for x in (u, keys))
  chunk_rows = 2 * chunk_size if chunk_size else None
  negative = over_others(q, rows, k, ids, chunk_rows, scores).reshape(-1, 2)
  # Of the two views the difference itself: it keeps the digits of a small distance.
  apart = u[:, 0] - u[:, 1]
  positive = log_kernel(lambda part: jnp.sum(apart[:, part] ** 2, axis=-1))
  loss = jax.nn.softplus(negative - positive[:, None]).mean(1)
  return batch_mean(loss.sum(), loss, axis_name)


def _squared_distances(q, k):
  products = dots('id,jd->ij', q, k)
  return jnp.sum(q * q, axis=-1)[:, None] + jnp.sum(k * k, axis=-1) - 2 * products


def _power(squared, power):
  return squared if power == 2 else jnp.maximum(squared, FLOOR) ** (power / 2)


def _check(kernel, gamma, temperature, weight, mixture, chunk_size, width):
  for name, seen, wanted in (('kernel', kernel, KERNELS), ('mixture', mixture, MIXTURES)):
    if seen not in wanted:
      raise InputError(f'{name} is {seen!r}, wanted one of {", ".join(wanted)}')
  check_positive(gamma=gamma, temperature=temperature, chunk_size=chunk_size)
  if kernel != 'exponential' and not 0 < weight < 1:
    raise InputError(f'weight is {weight}, wanted between 0 and 1')
  if kernel == 'concatenation' and width % 2:
    raise InputError(f'z1 has {width} dimensions, wanted an even number to halve')
