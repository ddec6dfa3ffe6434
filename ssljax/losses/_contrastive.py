"""Losses that tell the other view of an element from all other elements."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp

from ssljax.errors import InputError
from ssljax.losses._logsumexp import map_rows, over_others, over_others_symmetric
from ssljax.ops import as_float, check_shape, dots, l2_normalize


def nt_xent(z1, z2, *, temperature=0.1, chunk_size=None, axis_name=None):
  """NT-Xent, the loss of SimCLR: each view finds the other among all 2B - 1 other views.

  With u the 2B embeddings of both views at length one, i and i' the views of one element:
    mean over i of  -log( exp(u_i . u_i' / T) / sum_{j != i} exp(u_i . u_j / T) )

  This is the paper's form, a mean over 2B rows. Google's own code adds the means over the two
  views: twice this. The value is ln(2B - 1) when all embeddings are equal.

  Args:
    z1: [B, D], embeddings of the first view, of any length (they are normalised here).
    z2: [B, D], of the second.
    temperature: T; may be traced and has a gradient. 0.1 in the paper for ImageNet, 0.5 for
      CIFAR-10.
    chunk_size: None holds the [2B, 2B] matrix. A number holds [2B, 2 * chunk_size] at a time and
      computes it again for the gradient: equal in value and gradient, memory linear in B. Without
      `axis_name` it also uses that the matrix is symmetric, which halves the work.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: `z1` and `z2` are not two arrays of one shape [B, D]; temperature or chunk_size is
      not positive.

  Reference: SimCLR (https://arxiv.org/abs/2002.05709), Section 2.1, equation 1 and algorithm 1.
  Equals `simclr_loss_func` of solo-learn and `NTXentLoss` of lightly.
  """
  positive, negative = view_logits(z1, z2, temperature, chunk_size, axis_name)
  return _cross_entropy(positive[:, None], negative, axis_name)


def directclr(z1, z2, *, temperature=0.1, loss_dim=360, chunk_size=None, axis_name=None):
  """DirectCLR: `nt_xent` of the first `loss_dim` features of the encoder, without a projector.

    nt_xent(z1[:, :loss_dim], z2[:, :loss_dim])

  The other features are trained through what all of them share. Constant embeddings score
  ln(2B - 1).

  Args:
    z1: [B, D], the encoder's features of the first view; z2: [B, D], of the second.
    loss_dim: how many of the D features the loss sees; 360 of 2048 in the paper.
    temperature, chunk_size, axis_name: as in `nt_xent`.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: as in `nt_xent`, or loss_dim is not in 1..D.

  Reference: DirectCLR (https://arxiv.org/abs/2110.09348), Section 6. Equals `DirectCLRLoss` of
  lightly.
  """
  check_shape('z1', z1, ('B', 'D'))
  check_shape('z2', z2, z1.shape)
  if not 1 <= loss_dim <= z1.shape[1]:
    raise InputError(f'loss_dim is {loss_dim}, wanted 1 to {z1.shape[1]}, the number of features')
  options = {'temperature': temperature, 'chunk_size': chunk_size, 'axis_name': axis_name}
  return nt_xent(z1[:, :loss_dim], z2[:, :loss_dim], **options)


def info_nce(queries, keys, *, temperature=0.1, labels=None, chunk_size=None, axis_name=None):
  """InfoNCE, one direction: each query finds its key among all keys.

  With q and k at length one and y_i the label of query i:
    mean over i of  -log( exp(q_i . k_{y_i} / T) / sum_j exp(q_i . k_j / T) )

  Symmetric two-view losses are means or sums of two calls. Unlike `nt_xent`, queries are no
  candidates.

  Args:
    queries: [N, D], of any length (they are normalised here, and so are the keys).
    keys: [M, D], M >= N unless labels are given; keys beyond the first N are negatives for all.
    temperature: T; may be traced and has a gradient.
    labels: int [N], the row of each query's key, in the global array of keys; None means key i for
      query i.
    chunk_size: queries handled at a time, holding [chunk_size, M] instead of [N, M]; equal in value
      and gradient.
    axis_name: of `pmap` or `shard_map`, if queries and keys are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; temperature or chunk_size is not positive.

  Reference: CPC (https://arxiv.org/abs/1807.03748), Section 2.3, equation 4, with cosine
  similarity.
  """
  check_shape('queries', queries, ('N', 'D'))
  check_shape('keys', keys, ('M', queries.shape[1]))
  check_positive(temperature=temperature, chunk_size=chunk_size)
  count = queries.shape[0]
  if labels is not None:
    check_shape('labels', labels, (count,))
  elif keys.shape[0] < count:
    raise InputError(
      f'keys has {keys.shape[0]} rows, wanted {count} or more, one for each query, or labels'
    )
  q, own = unit(as_float(queries), temperature), unit(as_float(keys), temperature)
  k, first = gather(own, axis_name)
  rows = first + jnp.arange(count) if labels is None else labels
  positive = jnp.sum(q * (own[:count] if labels is None else k[labels]), axis=-1)
  negative = over_others(q, rows, k, jnp.arange(k.shape[0]), chunk_size)
  return _cross_entropy(positive, negative, axis_name)


def moco(q, k, queue, *, temperature=0.07, detach_keys=True, chunk_size=None, axis_name=None):
  """MoCo: each query finds its key among that key and a queue of earlier ones.

  With u' = u at length one for q and k, and the queue's rows w_j as they are:
    mean over i of  -log( e_i / (e_i + sum_j exp(q_i' . w_j / T)) ),  e_i = exp(q_i' . k_i' / T)

  Keys and queue get no gradient. Constant embeddings score log(1 + K), chance level.

  Args:
    q: [B, D], queries, of any length; k: [B, D], their keys, of any length.
    queue: [K, D], keys of earlier batches, normalised before they entered.
    temperature: T; 0.07 in the paper, 0.2 in MoCo v2.
    detach_keys: False lets the gradient reach the keys, for one network that makes both: the
      `NTXentLoss` of lightly with a memory bank.
    chunk_size: queries handled at a time, holding [chunk_size, K] instead of [B, K].
    axis_name: of `pmap` or `shard_map`, if q and k are one device's shares (see `ssljax.losses`);
      every device has the whole queue.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; temperature or chunk_size is not positive.

  Reference: MoCo (https://arxiv.org/abs/1911.05722), Section 3.1, equation 1. Equals the authors'
  `MoCo.forward` and cross-entropy, where the queue is [D, K].
  """
  check_shape('q', q, ('B', 'D'))
  check_shape('k', k, q.shape)
  check_shape('queue', queue, ('K', q.shape[1]))
  check_positive(temperature=temperature, chunk_size=chunk_size)
  q, k = unit(as_float(q), temperature), unit(as_float(k), temperature)
  k = lax.stop_gradient(k) if detach_keys else k
  # All of 1 / T goes to q: a scaled queue would be a second one.
  scaled, w = q * lax.rsqrt(jnp.asarray(temperature, q.dtype)), lax.stop_gradient(as_float(queue))

  def all_of_queue(rows):
    return logsumexp(dots('bd,kd->bk', rows, w), axis=1)

  negative = map_rows(all_of_queue, scaled, chunk_size)
  return _cross_entropy(jnp.sum(q * k, axis=-1), negative, axis_name)


def view_logits(z1, z2, temperature, chunk_size=None, axis_name=None):
  """What two views of a batch say of each other, for losses that weigh positives and negatives.

  Arguments, and what is raised, as in `nt_xent`.

  Returns:
    positive: [B], the logits u_i . u_i' / T of the two views of each element.
    negative: [B, 2], for each view the log of the sum of exp(u_i . u_j / T) over both views j of
      all other elements.
  """
  check_shape('z1', z1, ('B', 'D'))
  check_shape('z2', z2, z1.shape)
  check_positive(temperature=temperature, chunk_size=chunk_size)
  batch, width = z1.shape
  # The views have an axis of their own: joined along the batch they would change devices on a mesh.
  u = unit(jnp.stack([as_float(z1), as_float(z2)], axis=1), temperature)
  positive = jnp.sum(u[:, 0] * u[:, 1], axis=-1)
  if chunk_size and axis_name is None:
    return positive, over_others_symmetric(u, chunk_size)
  keys, first = gather(u, axis_name)
  ids = jnp.repeat(jnp.arange(keys.shape[0]), 2)
  rows = jnp.repeat(first + jnp.arange(batch), 2)
  flat = u.reshape(-1, width), rows, keys.reshape(-1, width), ids
  negative = over_others(*flat, 2 * chunk_size if chunk_size else None).reshape(batch, 2)
  return positive, negative


def unit(z, temperature):
  """z at length one, divided by sqrt(T), so that a dot product of two is a logit."""
  return l2_normalize(z) * lax.rsqrt(jnp.asarray(temperature, z.dtype))


def gather(keys, axis_name):
  """The keys of all devices, and the place of this device's first one among them."""
  if axis_name is None:
    return keys, 0
  return lax.all_gather(keys, axis_name, tiled=True), lax.axis_index(axis_name) * keys.shape[0]


def _cross_entropy(positive, negative, axis_name):
  # log(e^p + e^n) - p as softplus(n - p) keeps its digits when the loss is small and T is too.
  loss = jnp.mean(jax.nn.softplus(negative - positive))
  return loss if axis_name is None else lax.pmean(loss, axis_name)


def check_positive(**numbers):
  for name, value in numbers.items():
    if isinstance(value, (int, float)) and value <= 0:
      raise InputError(f'{name} is {value}, wanted more than 0')
