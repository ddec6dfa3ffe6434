"""Fisher information embedding: how a node's neighbours would move the parts of a mixture.

    anchors mu_k by k-means, r_ik = softmax_k(-|x_i - mu_k|^2 / (2 s^2))
    for node v over its neighbours and itself:  w_k = mean r_ik, and
      g_k = sum r_ik (x_i - mu_k) / (s sqrt(w_k n)), the score of mu_k by the Fisher metric
    layer = [g_1, ..., g_K], reduced by PCA to `dim` and brought to length one; next layer on it

Chen, Pellizzoni, Borgwardt 2023, "Fisher information embedding for node and graph learning", the
unsupervised one: one covariance s^2 I for all parts, mixtures of `anchors` Gaussians, `depth`
layers, whose outputs are put side by side with the input's reduction. Graphs are the mean or sum of
their nodes, as the authors' code can have it.

Not here: anchors trained end to end with labels (their supervised layer), covariances that differ
by direction, pooling of a graph's nodes by one more such layer, and the authors' Nystroem map of an
exponential kernel, in place of which this has PCA.
"""

import numpy as np
from scipy import sparse

from ssljax.embedding._graph import checked
from ssljax.errors import InputError

PAPER = 'Chen et al. 2023, Fisher information embedding for node and graph learning'
FAMILY = 'clustering'
MODALITY = 'graph'


def scores(x, neighbours, anchors, deviation: float) -> np.ndarray:
  """Fisher scores [N, K D] of a mixture's means, over the rows of `neighbours` [N, N] (0 or 1)."""
  distance = ((x[:, None] - anchors[None]) ** 2).sum(-1)
  logits = -distance / (2 * deviation**2)
  share = np.exp(logits - logits.max(1, keepdims=True))
  share /= share.sum(1, keepdims=True)
  count = np.asarray(neighbours.sum(1)).reshape(-1, 1)
  weight = np.maximum(neighbours @ share, 1e-8)  # n w_k
  parts = []
  for k in range(len(anchors)):
    moved = neighbours @ (share[:, k : k + 1] * (x - anchors[k])) / deviation
    parts.append(moved / np.sqrt(weight[:, k : k + 1] * np.maximum(count, 1)))
  return np.concatenate(parts, 1)


def embed(adjacency, x, dim: int = 64, *, anchors: int = 8, depth: int = 2, seed: int = 0):
  """float32 [N, (depth + 1) dim] of a sparse adjacency matrix [N, N] and features x [N, F].

  What has fewer than `dim` directions, as the input with F < dim, has zeros for the others.

  Raises InputError: shapes do not fit, features that are not finite numbers, or more anchors or
  dimensions than nodes.
  """
  from sklearn.cluster import KMeans
  from sklearn.decomposition import TruncatedSVD

  matrix = checked(adjacency)
  x, count = x.tocsr() if sparse.issparse(x) else np.asarray(x), matrix.shape[0]
  values = x.data if sparse.issparse(x) else x
  if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in 'fiub' or not np.isfinite(values).all():
    raise InputError(f'x is {x.dtype} {list(x.shape)}, wanted finite numbers [{count}, F]')
  x = x.astype(np.float64)
  if x.shape[0] != count or not 1 <= anchors <= count or not 1 <= dim <= count:
    raise InputError(
      f'x has shape {list(x.shape)}, anchors are {anchors} and dim is {dim}, wanted {count} rows '
      'and no more of the others'
    )
  neighbours = ((matrix + sparse.eye(count)) > 0).astype(np.float64).tocsr()

  def reduced(y):
    y = TruncatedSVD(min(dim, y.shape[1]), random_state=seed).fit_transform(y)
    norm = np.linalg.norm(y, axis=1, keepdims=True)
    return y / np.where(norm > 0, norm, 1)

  layers = [reduced(x)]
  for _ in range(depth):
    y = layers[-1]
    means = KMeans(anchors, n_init=3, random_state=seed).fit(y)
    deviation = max(float(np.sqrt(means.inertia_ / y.size)), 1e-6)
    layers.append(reduced(scores(y, neighbours, means.cluster_centers_, deviation)))
  full = [np.pad(y, ((0, 0), (0, dim - y.shape[1]))) for y in layers]
  return np.concatenate(full, 1).astype(np.float32)


def of_graphs(z, offsets, *, mean: bool = True) -> np.ndarray:
  """float [G, D]: the mean of each graph's nodes, or their sum.

  z: [N, D], of nodes of one graph after another; offsets: [G + 1], where each begins, and N.

  Raises InputError: offsets do not rise from 0 to N.
  """
  offsets = np.asarray(offsets)
  sizes = np.diff(offsets)
  if len(sizes) < 1 or (sizes < 1).any() or (offsets[0], offsets[-1]) != (0, len(z)):
    raise InputError(f'offsets are {offsets.tolist()}, wanted a rise from 0 to {len(z)}')
  total = np.add.reduceat(z, offsets[:-1], axis=0)
  return total / sizes[:, None].astype(z.dtype) if mean else total
