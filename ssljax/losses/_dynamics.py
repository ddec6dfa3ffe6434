"""Losses that move embeddings as particles under forces."""

import jax.numpy as jnp
from jax import lax

from ssljax.losses._redundancy import correlation
from ssljax.ops import as_float, check_shape, l2_normalize


def msbreg(p, z, noise, *, singular_weight=1.0, brownian_weight=0.1, axis_name=None):
  """MSBReg: views go to their image's centroid, spread over the sphere, and walk randomly.

  With x' = x at length one, c_i the mean of the teacher's z_iv', M the mean of p_iv' p_iv'^T over
  images and views, and n_i a random direction for each image:
    mean |p_iv' - c_i|^2  +  singular_weight |M - I / D|^2  +  brownian_weight mean p_iv' . n_i'

  The second term is sum_k (s_k^2 - 1 / D)^2 for the singular values s_k of the matrix of embeddings
  p_iv' / sqrt(B V): it is 0 where they are equal, and needs no decomposition. The gradient of the
  third is a step of fixed length in a random direction. Constant embeddings have one singular
  value, and the second term is highest, 1 - 1 / D.

  The paper says in words what the three terms do; that the first pulls to the teacher's centroid,
  the exact penalty on the singular values and both weights are ours.

  Args:
    p: [B, V, D], the student's predictions, of any length.
    z: [B, W, D], the teacher's projections of W views, of any length; no gradient.
    noise: [B, D], Gaussian.
    singular_weight, brownian_weight: of the second and third term.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit.

  Reference: MSBReg (https://arxiv.org/abs/2207.03552), Section 3.
  """
  check_shape('p', p, ('B', 'V', 'D'))
  batch, views, width = p.shape
  check_shape('z', z, (batch, 'W', width))
  check_shape('noise', noise, (batch, width))
  p, z, noise = (l2_normalize(as_float(x)) for x in (p, z, noise))
  centroid = lax.stop_gradient(jnp.mean(z, axis=1, keepdims=True))
  pull = jnp.mean(jnp.sum((p - centroid) ** 2, axis=-1))
  walk = jnp.mean(jnp.sum(p * noise[:, None], axis=-1))
  local = pull + brownian_weight * walk
  local = local if axis_name is None else lax.pmean(local, axis_name)
  flat = p.reshape(batch * views, width)
  moment = correlation(flat, flat, axis_name)
  return local + singular_weight * jnp.sum((moment - jnp.eye(width) / width) ** 2)
