"""Losses on the dependence of two sets of vectors, which may differ in width."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.losses._contrastive import check_positive, gather
from ssljax.losses._logsumexp import map_rows
from ssljax.losses._redundancy import batch_mean, center, invariance_term, variance_term
from ssljax.ops import as_float, check_shape, dots


def distance_correlation(x, y, *, chunk_size=None, axis_name=None):
  """Distance correlation: 0 for independent x and y (of many rows), 1 for y = a + b Q x.

  With a_ij = |x_i - x_j|, A = a less the means of its rows and columns plus the mean of all, and B
  of y likewise:
    sqrt( sum AB / sqrt( sum AA  sum BB ) )

  Constant rows give 0, with finite gradients. Rows whose distance is, in float32, under about a
  thousandth of theirs to the mean count as equal.

  Args:
    x: [B, D]; y: [B, E].
    chunk_size: rows handled at a time, holding two [chunk_size, B] matrices instead of two [B, B]
      ones; their distances are then computed twice, and again for the gradient.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`); both are gathered.

  Returns:
    A scalar from 0 to 1.

  Raises:
    InputError: a shape does not fit; chunk_size is not positive.

  Reference: Szekely, Rizzo, Bakirov 2007 (https://doi.org/10.1214/009053607000000505), definitions
  4 and 5; `distance_correlation` of the package dcor.
  """
  check_shape('x', x, ('B', 'D'))
  check_shape('y', y, (len(x), 'E'))
  check_positive(chunk_size=chunk_size)
  # Nearer to 0, the differences that distances are made of keep more digits.
  pair = [center(as_float(rows), axis_name) for rows in (x, y)]
  (all_x, first), (all_y, _) = (gather(rows, axis_name) for rows in pair)
  ids = first + jnp.arange(len(x))

  def means(rows):
    x, y, ids = rows
    return jnp.stack([_distances(x, all_x, ids).mean(1), _distances(y, all_y, ids).mean(1)], 1)

  own = map_rows(means, (*pair, ids), chunk_size)
  columns, _ = gather(own, axis_name)

  def products(rows):
    x, y, ids, own = rows
    a, b = (
      _distances(z, keys, ids) - own[:, i, None] - columns[:, i] + columns[:, i].mean()
      for i, (z, keys) in enumerate([(x, all_x), (y, all_y)])
    )
    return jnp.stack([jnp.mean(a * b, 1), jnp.mean(a * a, 1), jnp.mean(b * b, 1)], 1)

  sums = map_rows(products, (*pair, ids, own), chunk_size)
  covariance, *variances = batch_mean(sums.sum(0), sums, axis_name)
  scale = jnp.sqrt(_floor(variances[0] * variances[1], 1e-30))
  return jnp.sqrt(_floor(covariance / scale, 1e-12))


def mv_mr(
  z, z_plain, representations=(), *, std_margin=1.0, representation_weight=1.0, chunk_size=None,
  axis_name=None,
):  # fmt: skip
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
    chunk_size, axis_name: as in `distance_correlation`.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; chunk_size is not positive.

  Reference: MV-MR (https://doi.org/10.3390/e26060466), Section 3, with the weights of the authors'
  `SelfSupervisedModule.step`.
  """
  check_shape('z', z, ('B', 'D'))
  check_shape('z_plain', z_plain, z.shape)
  z, z_plain = as_float(z), as_float(z_plain)
  # `variance_term` has the margin 1 and an eps that keeps the gradient of the root finite.
  spread = std_margin * sum(variance_term(x / std_margin, 1e-8, axis_name) for x in (z, z_plain))
  others = [z_plain, *(lax.stop_gradient(as_float(r)) for r in representations)]
  options = {'chunk_size': chunk_size, 'axis_name': axis_name}
  apart, *rest = (1 - distance_correlation(z, other, **options) for other in others)
  independence = apart + representation_weight * sum(rest)
  return invariance_term(z, z_plain, axis_name) + spread + independence


def _distances(x, keys, ids):
  """[n, B] from rows x [n, D], number ids [n] among the keys [B, D], to all keys."""
  sums = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(keys * keys, axis=1)
  products = dots('id,jd->ij', x, keys)
  squared = jnp.where(ids[:, None] == jnp.arange(len(keys)), 0, sums - 2 * products)
  # Rows nearer than this are equal but for rounding, whose root would be a distance.
  rounding = 8 * jnp.finfo(x.dtype).eps * sums
  return jnp.where(squared > jnp.maximum(rounding, 1e-12), jnp.sqrt(_floor(squared, 1e-12)), 0)


def _floor(x, least):
  """max(x, least) with no gradient below: the root of it is safe."""
  return jax.nn.relu(x - least) + least
