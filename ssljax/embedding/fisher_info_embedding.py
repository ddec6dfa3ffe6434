"""Fisher information embedding: how a node's neighbours would move the parts of a mixture.

    anchors mu_k by k-means, r_ik = softmax_k(-|x_i - mu_k|^2 / (2 s^2))
    for node v over its neighbours and itself:  w_k = mean r_ik, and
      g_k = sum r_ik (x_i - mu_k) / (s sqrt(w_k n)), the score of mu_k by the Fisher metric
    layer = [g_1, ..., g_K], reduced by PCA to `dim` and brought to length one; next layer on it

Chen, Pellizzoni, Borgwardt 2023, "Fisher information embedding for node and graph learning", the
unsupervised one: one covariance s^2 I for all parts, mixtures of `anchors` Gaussians, `depth`
layers, whose outputs are put side by side with the input's reduction.
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

  Raises InputError: shapes do not fit, or more anchors or dimensions than nodes.
  """
  from sklearn.cluster import KMeans
  from sklearn.decomposition import TruncatedSVD

  matrix = checked(adjacency)
  x = sparse.csr_matrix(x) if sparse.issparse(x) else np.asarray(x, np.float64)
  count = matrix.shape[0]
  if x.shape[0] != count or not 1 <= anchors <= count or not 1 <= dim <= count:
    raise InputError(
      f'x has shape {list(x.shape)}, anchors are {anchors} and dim is {dim}, wanted {count} rows '
      'and no more of the others'
    )
  neighbours = ((matrix + sparse.eye(count)) > 0).astype(np.float64).tocsr()

  def reduced(y):
    size = min(dim, min(y.shape) - 1)
    y = TruncatedSVD(size, random_state=seed).fit_transform(y) if size >= 1 else np.asarray(y)
    norm = np.linalg.norm(y, axis=1, keepdims=True)
    return y / np.where(norm > 0, norm, 1)

  layers = [reduced(x)]
  for _ in range(depth):
    y = layers[-1]
    means = KMeans(anchors, n_init=3, random_state=seed).fit(y)
    deviation = max(float(np.sqrt(means.inertia_ / y.size)), 1e-6)
    layers.append(reduced(scores(y, neighbours, means.cluster_centers_, deviation)))
  return np.concatenate(layers, 1).astype(np.float32)
