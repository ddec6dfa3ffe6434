"""Losses on the dependence of two sets of vectors, which may differ in width."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.losses._redundancy import center, invariance_term, variance_term
from ssljax.ops import as_float, check_shape


def distance_correlation(x, y, *, axis_name=None):
  """Distance correlation: 0 for independent x and y (of many rows), 1 for y = a + b Q x.

  With a_ij = |x_i - x_j|, A = a less the means of its rows and columns plus the mean of all, and B
  of y likewise:
    sqrt( sum AB / sqrt( sum AA  sum BB ) )

  It holds two [B, B] matrices of the global batch. Constant rows give 0, with finite gradients.
  Rows whose distance is, in float32, under about a thousandth of theirs to the mean count as equal.

  Args:
    x: [B, D]; y: [B, E].
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`); both are gathered.

  Returns:
    A scalar from 0 to 1.

  Raises:
    InputError: a shape does not fit.

  Reference: Szekely, Rizzo, Bakirov 2007 (https://doi.org/10.1214/009053607000000505), definitions
  4 and 5; `distance_correlation` of the package dcor.
  """
  check_shape('x', x, ('B', 'D'))
  check_shape('y', y, (len(x), 'E'))
  a, b = (_centred_distances(as_float(rows), axis_name) for rows in (x, y))
  covariance, scale = jnp.mean(a * b), jnp.sqrt(_floor(jnp.mean(a * a) * jnp.mean(b * b), 1e-30))
  correlation = jnp.sqrt(_floor(covariance / scale, 1e-12))
  return correlation if axis_name is None else lax.pmean(correlation, axis_name)


def mv_mr(
  z, z_plain, representations=(), *, std_margin=1.0, representation_weight=1.0, axis_name=None
):
  """MV-MR: embeddings depend on each other and on what was computed of the image by hand.

  With z of the augmented view, z' of the image itself, r_k its representations, std the unbiased
  standard deviation over the batch and dCor `distance_correlation`:
    mean of (z - z')^2  +  mean max(0, margin - std(z))  +  mean max(0, margin - std(z'))
    +  1 - dCor(z, z')  +  representation_weight sum_k (1 - dCor(z, r_k))

  Constant embeddings have no deviation and depend on nothing: they cost 2 std_margin more than the
  least.

  Args:
    z: [B, D], embeddings of the augmented view; z_plain: [B, D], of the image.
    representations: arrays [B, E_k]; no gradient.
    std_margin: the standard deviation that is enough.
    representation_weight: 1 for the paper's, where dependence on the representations is maximised;
      -1 for the authors' published code, whose `SelfSupervisedModule` adds dCor(z, r_k) and so
      minimises it (its CLIP module, for distillation, has the paper's sign).
    axis_name: as in `distance_correlation`.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit.

  Reference: MV-MR (https://doi.org/10.3390/e26060466), Section 3, with the weights of the authors'
  `SelfSupervisedModule.step`.
  """
  check_shape('z', z, ('B', 'D'))
  check_shape('z_plain', z_plain, z.shape)
  z, z_plain = as_float(z), as_float(z_plain)
  # `variance_term` has the margin 1 and an eps that keeps the gradient of the root finite.
  spread = std_margin * sum(variance_term(x / std_margin, 1e-8, axis_name) for x in (z, z_plain))
  others = [z_plain, *(lax.stop_gradient(as_float(r)) for r in representations)]
  apart, *rest = (1 - distance_correlation(z, other, axis_name=axis_name) for other in others)
  independence = apart + representation_weight * sum(rest)
  return invariance_term(z, z_plain, axis_name) + spread + independence


def _centred_distances(x, axis_name):
  x = center(x, axis_name)  # nearer to 0, the differences below keep more digits
  x = x if axis_name is None else lax.all_gather(x, axis_name, tiled=True)
  squares = jnp.sum(x * x, axis=1)
  products = jnp.einsum('id,jd->ij', x, x, precision=lax.Precision.HIGHEST)
  squared = jnp.where(jnp.eye(len(x), dtype=bool), 0, squares[:, None] + squares - 2 * products)
  # Rows nearer than this are equal but for rounding, whose root would be a distance.
  rounding = 8 * jnp.finfo(x.dtype).eps * (squares[:, None] + squares)
  distances = jnp.where(squared > jnp.maximum(rounding, 1e-12), jnp.sqrt(_floor(squared, 1e-12)), 0)
  rows = jnp.mean(distances, axis=1)
  return distances - rows[:, None] - rows + jnp.mean(rows)


def _floor(x, least):
  """max(x, least) with no gradient below: the root of it is safe."""
  return jax.nn.relu(x - least) + least
