"""Losses that spread embeddings out by pushing each away from its nearest neighbour."""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp

from ssljax.losses._contrastive import check_positive, gather
from ssljax.losses._logsumexp import EXCLUDED, map_rows
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots, l2_normalize, nearest


def koleo(z, *, eps=1e-8, axis_name=None):
  """KoLeo: minus the mean log distance of each embedding to its nearest neighbour.

  With u = z at length one and n(i) the j != i with the largest u_i . u_j:
    -mean over i of log( |u_i - u_n(i) + eps| + eps )

  It is lowest where embeddings are spread evenly over the sphere (Kozachenko and Leonenko's
  estimate of their entropy). The gradient reaches both ends of a pair. Constant embeddings score
  about -log(eps), the most there is.

  Args:
    z: [B, D], embeddings of any length (they are normalised here), B at least 2. Neighbours are
      found in blocks: memory is linear in B.
    eps: added to each component of the difference and to its length.
    axis_name: of `pmap` or `shard_map`, if z is one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: `z` is not [B, D] with two rows or more.

  Reference: Sablayrolles et al. 2019 (https://arxiv.org/abs/1806.03198), Section 3.2, equation 2,
  and DINOv2 (https://arxiv.org/abs/2304.07193), Section 4. Equals `KoLeoLoss` of DINOv2, which
  looks for neighbours on each device alone; here they are those of the global batch.
  """
  check_shape('z', z, ('B', 'D'))
  u = l2_normalize(as_float(z))
  keys, first = gather(u, axis_name)
  rows = first + jnp.arange(len(u), dtype=jnp.int32)
  _, neighbor = nearest(*lax.stop_gradient((u, keys)), 1, exclude=rows)
  distance = jnp.sqrt(jnp.sum((u - keys[neighbor[:, 0]] + eps) ** 2, axis=-1))
  near = jnp.log(distance + eps)
  return -batch_mean(near.sum(), near, axis_name)


def sscd(
  z1, z2, content=None, *, temperature=0.05, entropy_weight=30.0, chunk_size=None, axis_name=None
):
  """SSCD: NT-Xent that also pushes each descriptor away from the nearest that is no copy of it.

  With u the 2B descriptors of both views at length one, P_i the others that share content with i
  (its other view; more where views are composites of two images) and N_i those that do not:
    mean over i, and over p in P_i, of
      -log( exp(u_i . u_p / T) / (exp(u_i . u_p / T) + sum_{j in N_i} exp(u_i . u_j / T)) )
    - entropy_weight * mean over i of log min_{j in N_i} |u_i - u_j|

  The second term, KoLeo's, spreads the descriptors over the sphere, so that one threshold of
  distance tells copies from all else. Constant descriptors score ln(2B - 1) in the first term and
  its highest value in the second, whose squared distances are floored at 1e-6. Where views have no
  further content and entropy_weight is 0 this is `nt_xent`.

  Args:
    z1: [B, D], descriptors of the first view, of any length (they are normalised here).
    z2: [B, D], of the second.
    content: int [B, 2, C], for each view the ids of the C images that it shows parts of; one id may
      be repeated. None: its own image alone. Ids are of the global batch.
    temperature: T; may be traced and has a gradient.
    entropy_weight: 30 in the paper; the authors recommend 10 for other networks and batches.
    chunk_size: None holds [2B, 2B] arrays, a number [2 * chunk_size, 2B] at a time, computed again
      for the gradient: equal in value and gradient.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; temperature or chunk_size is not positive.

  Reference: SSCD (https://arxiv.org/abs/2202.10261), Section 4.2, equation 4, and 4.4 for
  composites. Equals the loss of the authors' code but for the 1e-6 that is added there to the sum
  over N_i. Of a batch that is split over devices, their code takes composites to be copies only
  within a device.
  """
  check_shape('z1', z1, ('B', 'D'))
  check_shape('z2', z2, z1.shape)
  check_positive(temperature=temperature, chunk_size=chunk_size)
  batch, width = z1.shape
  # The views have an axis of their own: joined along the batch they would change devices on a mesh.
  own = l2_normalize(jnp.stack([as_float(z1), as_float(z2)], axis=1))
  keys, first = gather(own, axis_name)
  if content is None:
    content = jnp.broadcast_to(first + jnp.arange(batch)[:, None, None], (batch, 2, 1))
  check_shape('content', content, (batch, 2, 'C'))
  shown, _ = gather(content, axis_name)
  keys, shown = keys.reshape(-1, width), shown.reshape(len(keys) * 2, -1)
  places = jnp.arange(len(keys))

  def block(rows):
    u, ids, place = rows
    cosine = dots('id,jd->ij', u, keys)
    copies = functools.reduce(operator.or_, [a[:, None] == b for a in ids.T for b in shown.T])
    scores = cosine / temperature
    negative = logsumexp(jnp.where(copies, EXCLUDED, scores), axis=1, keepdims=True)
    positives = copies & (place[:, None] != places)
    # log(e^p + e^n) - p as softplus(n - p) keeps its digits when the loss is small and T is too.
    terms = jnp.where(positives, jax.nn.softplus(negative - scores), 0)
    contrast = jnp.sum(terms, axis=1) / jnp.maximum(jnp.sum(positives, axis=1), 1)
    others = jnp.where(copies, -jnp.inf, lax.stop_gradient(cosine))
    # From the difference: 2 - 2 cos has lost the digits of a small distance.
    squared = jnp.sum((u - keys[jnp.argmax(others, axis=1)]) ** 2, axis=1)
    distance = jnp.log(jnp.maximum(squared, 1e-6)) / 2
    return contrast - entropy_weight * jnp.where(jnp.all(copies, axis=1), 0, distance)

  place = 2 * first + jnp.arange(2 * batch)
  rows = own.reshape(-1, width), content.reshape(2 * batch, -1), place
  loss = map_rows(block, rows, 2 * chunk_size if chunk_size else None)
  return batch_mean(loss.sum(), loss, axis_name)
