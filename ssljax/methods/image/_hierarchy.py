"""Two levels of k-means: clusters, and clusters within each of them."""

import jax.numpy as jnp
from jax import random

from ssljax import ops

FAR = 4.0  # between super-clusters; rows have length one at most


def empty(super_clusters, sub_clusters, width):
  """What is remembered from one clustering to the next; `started` says whether there was one."""
  return {
    'super': jnp.zeros((super_clusters, width)),
    'sub': jnp.zeros((super_clusters, sub_clusters, width)),
    'started': jnp.zeros((), bool),
  }


def cluster(x, memory, rng, iters):
  """k-means of x [N, D] into S clusters, and of the rows of each into C.

  Args:
    x: [N, D], rows of length one at most.
    memory: of `empty` or the last clustering, whose centroids this one begins with; the first
      begins with rows drawn by `rng`, those of a super-cluster from its own.
    iters: updates on each level.

  Returns:
    int [N, 2], the super- and sub-cluster of each row, and the new memory.
  """
  super_clusters, sub_clusters, width = memory['sub'].shape
  first_rng, order_rng = random.split(rng)
  drawn = x[random.choice(first_rng, len(x), (super_clusters,), replace=False)]
  start = jnp.where(memory['started'], memory['super'], drawn)
  upper, label = ops.kmeans(x, super_clusters, init=start, iters=iters)

  drawn = _rows_of_each(x, label, super_clusters, sub_clusters, order_rng)
  start = jnp.where(memory['started'], memory['sub'], drawn).reshape(-1, width)
  # One k-means serves all super-clusters: where these are far apart, the centroid nearest to a row
  # is one of its own.
  apart = FAR * jnp.eye(super_clusters, dtype=x.dtype)
  own = jnp.repeat(apart, sub_clusters, axis=0)
  lower, sub_label = ops.kmeans(
    jnp.concatenate([x, apart[label]], axis=1),
    super_clusters * sub_clusters,
    init=jnp.concatenate([start, own], axis=1),
    iters=iters,
  )
  lower = lower[:, :width].reshape(memory['sub'].shape)
  labels = jnp.stack([label, sub_label % sub_clusters], axis=1)
  return labels, {'super': upper, 'sub': lower, 'started': jnp.ones((), bool)}


def _rows_of_each(x, label, super_clusters, sub_clusters, rng):
  """Random rows [S, C, D] of each label; of one with fewer than C rows some more than once."""
  order = random.permutation(rng, len(x))
  order = order[jnp.argsort(label[order], stable=True)]
  sizes = jnp.bincount(label, length=super_clusters)
  starts = jnp.cumsum(sizes) - sizes
  places = starts[:, None] + jnp.arange(sub_clusters) % jnp.maximum(sizes, 1)[:, None]
  return x[order[jnp.minimum(places, len(x) - 1)]]


def even_weights(labels, super_clusters, sub_clusters):
  """float [N] with mean 1: every cluster that has rows weighs the same in all."""
  joint = labels[:, 0] * sub_clusters + labels[:, 1]
  sizes = jnp.bincount(joint, length=super_clusters * sub_clusters)
  return len(labels) / (jnp.sum(sizes > 0) * sizes[joint])
