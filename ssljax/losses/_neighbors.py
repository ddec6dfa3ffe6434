"""Contrastive losses whose positives are neighbours from a queue of earlier embeddings."""

import jax.numpy as jnp
from jax import lax

from ssljax.losses._contrastive import check_positive, info_nce
from ssljax.losses._redundancy import batch_mean, off_diagonal
from ssljax.ops import as_float, check_shape, l2_normalize, nearest


def nnclr(z1, z2, p1, p2, queue, *, temperature=0.1, chunk_size=None, axis_name=None):
  """NNCLR: the queue's nearest row to one view finds the prediction from the other view.

  With n_v the row of the queue whose dot product with z_v is largest:
    ( info_nce(n_1, p_2; T) + info_nce(n_2, p_1; T) ) / 2

  Negatives are the other predictions of the batch, not the queue. Neighbours, and so z and the
  queue, get no gradient. Constant embeddings score ln(B), chance level.

  Args:
    z1: [B, D], projections of the first view, of any length; z2: [B, D], of the second.
    p1: [B, D], predictions from the first view, of any length; p2: [B, D], from the second.
    queue: [K, D], earlier projections, normalised before they entered.
    temperature: T.
    chunk_size: neighbours handled at a time, holding [chunk_size, B] instead of [B, B].
    axis_name: of `pmap` or `shard_map`, if z and p are one device's shares (see `ssljax.losses`);
      every device has the whole queue.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; temperature or chunk_size is not positive.

  Reference: NNCLR (https://arxiv.org/abs/2104.14548), Section 3.2, equation 3 and algorithm 1.
  Equals `NNCLR.training_step` of solo-learn; there is no code of the authors'.
  """
  check_shape('z1', z1, ('B', 'D'))
  for name, array in (('z2', z2), ('p1', p1), ('p2', p2)):
    check_shape(name, array, z1.shape)
  check_shape('queue', queue, ('K', z1.shape[1]))
  z1, z2, queue = lax.stop_gradient((z1, z2, as_float(queue)))
  n1, n2 = (queue[nearest(z, queue, 1)[1][:, 0]] for z in (z1, z2))
  options = {'temperature': temperature, 'chunk_size': chunk_size, 'axis_name': axis_name}
  return (info_nce(n1, p2, **options) + info_nce(n2, p1, **options)) / 2


def all4one(
  z, p, centroids, shifted, targets, neighbors, *, temperature=0.2, centroid_temperature=0.1,
  feature_scale=10.0, chunk_size=None, axis_name=None,
):  # fmt: skip
  """All4One: neighbours, attention-weighted centroids of neighbours, and features agree.

  Of views 1 and 2, with n the nearest neighbour of the teacher's k, c what self-attention makes of
  the five nearest, and s what it makes of a prediction followed by four of them:
    ( info_nce(n_1, p_2; T) + info_nce(n_2, p_1; T) ) / 4
    + ( info_nce(c_1, s_2; T_c) + info_nce(c_2, s_1; T_c) ) / 4
    + feature_contrast(z_1, z_2, k_1, k_2) / 2

  Targets and neighbours get no gradient, the centroids do. Constant embeddings are at chance level
  in the first two terms and cost more than different ones in the third.

  Args:
    z: [B, 2, D], the student's projections of two views, of any length.
    p: [B, 2, D], predictions from them.
    centroids: [B, 2, D], c of each view; shifted: [B, 2, D], s of each view.
    targets: [B, 2, D], the teacher's projections, of any length.
    neighbors: [B, 2, D], the row of the queue nearest to each target.
    temperature: T; centroid_temperature: T_c.
    feature_scale: of `feature_contrast`.
    chunk_size: of `info_nce`.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: the arrays are not of one shape [B, 2, D]; a temperature or chunk_size is not
      positive.

  Reference: All4One (https://arxiv.org/abs/2303.09417), Section 3. Equals `All4One.training_step`
  of solo-learn, by the authors.
  """
  check_shape('z', z, ('B', 2, 'D'))
  others = {'p': p, 'centroids': centroids, 'shifted': shifted, 'targets': targets}
  for name, array in {**others, 'neighbors': neighbors}.items():
    check_shape(name, array, z.shape)

  check_positive(centroid_temperature=centroid_temperature)

  def contrast(a, b, t):
    options = {'temperature': t, 'chunk_size': chunk_size, 'axis_name': axis_name}
    return (info_nce(a[:, 0], b[:, 1], **options) + info_nce(a[:, 1], b[:, 0], **options)) / 2

  near = contrast(lax.stop_gradient(neighbors), p, temperature)
  central = contrast(centroids, shifted, centroid_temperature)
  views = z[:, 0], z[:, 1], targets[:, 0], targets[:, 1]
  return (near + central + feature_contrast(*views, scale=feature_scale, axis_name=axis_name)) / 2


def feature_contrast(z1, z2, k1, k2, *, scale=10.0, axis_name=None):
  """Each feature agrees with the teacher's same feature of the other view, and with no other.

  With x' each column of x at length one over the batch (not centred), k at length one in each row
  before that, A = k1'^T z2' and B = k2'^T z1':
    scale / 2 ( sqrt(mean of (1 - A_ii)^2 and (1 - B_ii)^2)
                + sqrt(mean of A_ij^2 and B_ij^2 over i != j) )

  The teacher's k get no gradient. Constant embeddings have A = B = 1 everywhere and cost scale / 2.

  Args:
    z1: [B, D], the student's projections of the first view, of any length; z2: of the second.
    k1: [B, D], the teacher's of the first view, of any length; k2: of the second. D is at least 2.
    scale: of the whole.
    axis_name: as in `all4one`.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: the four arrays are not of one shape [B, D].

  Reference: All4One (https://arxiv.org/abs/2303.09417), Section 3.4.
  """
  check_shape('z1', z1, ('B', 'D'))
  for name, array in (('z2', z2), ('k1', k1), ('k2', k2)):
    check_shape(name, array, z1.shape)
  z1, z2 = as_float(z1), as_float(z2)
  k1, k2 = (lax.stop_gradient(l2_normalize(as_float(k))) for k in (k1, k2))

  def columns(x):
    return x * lax.rsqrt(jnp.maximum(batch_mean(jnp.sum(x * x, 0), x, axis_name), 1e-12))

  def correlation(k, z):
    products = jnp.einsum('bi,bj->ij', columns(k), columns(z), precision=lax.Precision.HIGHEST)
    return batch_mean(products, z, axis_name)

  def root(x):
    # Its gradient at 0, where all features agree, is not to be infinite.
    return jnp.sqrt(jnp.maximum(x, 1e-12))

  both, width = (correlation(k1, z2), correlation(k2, z1)), z1.shape[1]
  on = sum(jnp.mean((jnp.diagonal(c) - 1) ** 2) for c in both) / 2
  off = sum(off_diagonal(c) for c in both) / (2 * width * (width - 1))
  return scale * (root(on) + root(off)) / 2
