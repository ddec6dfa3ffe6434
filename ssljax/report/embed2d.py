"""Features in two dimensions, neighbours and spectrum: what the figures show, as arrays."""

import importlib.util
import warnings

import numpy as np


def one_thread():
  """A context in which BLAS and scikit-learn use one thread.

  t-SNE's threads meet at every iteration: on a machine that is busy with something else two of them
  take four times the processor time of one.
  """
  import sklearn.manifold  # noqa: F401, the limit holds for what is loaded before it
  from threadpoolctl import threadpool_limits

  return threadpool_limits(1)


def sample(count: int, limit: int) -> np.ndarray:
  """At most `limit` of `count` indices in a fixed random order."""
  return np.random.default_rng(0).permutation(count)[:limit]


def unit(x: np.ndarray) -> np.ndarray:
  """Rows of length 1."""
  x = np.asarray(x, np.float32)
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def is_constant(x: np.ndarray) -> bool:
  """Whether all rows are the same up to float32 noise."""
  return bool(np.ptp(x, axis=0).max(initial=0.0) <= 1e-6 * max(np.abs(x).max(initial=0.0), 1e-30))


def pca(x: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
  """Scores [N, d] on the first principal directions and their share of the variance [d]."""
  from sklearn.decomposition import PCA

  model = PCA(min(dimensions, *x.shape), random_state=0)
  scores, share = model.fit_transform(x), model.explained_variance_ratio_
  if scores.shape[1] < 2:  # one-dimensional features still make a map
    scores = np.pad(scores, ((0, 0), (0, 1)))
  return scores, share


def maps(x: np.ndarray) -> dict[str, np.ndarray]:
  """Name -> [N, 2] of features x [N, D] that are not all the same; seeds are fixed.

  PCA always, t-SNE from 12 rows on, UMAP if `umap-learn` is installed.
  """
  scores, share = pca(x, 50)
  found = {f'PCA ({100 * share[:2].sum():.0f}% of the variance)': scores[:, :2]}
  if len(x) < 12:
    return found
  from sklearn.manifold import TSNE

  perplexity = min(30.0, (len(x) - 1) / 3)
  tsne = TSNE(perplexity=perplexity, init='pca', max_iter=500, random_state=0)
  found['t-SNE'] = tsne.fit_transform(scores.astype(np.float32))
  if importlib.util.find_spec('umap'):
    with warnings.catch_warnings():  # it says that TensorFlow is missing, which nobody needs
      warnings.simplefilter('ignore', ImportWarning)
      import umap

    neighbours = min(15, len(x) - 1)
    reducer = umap.UMAP(n_neighbors=neighbours, metric='cosine', random_state=0, n_jobs=1)
    found['UMAP'] = reducer.fit_transform(x)
  return found


def neighbours(x: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
  """Indices and cosines [len(rows), k] of the rows of x nearest to x[rows], themselves left out."""
  z = unit(x)
  cosines = z[rows] @ z.T
  cosines[np.arange(len(rows)), rows] = -np.inf
  nearest = np.argsort(-cosines, axis=1, kind='stable')[:, : min(k, len(x) - 1)]
  return nearest, np.take_along_axis(cosines, nearest, axis=1)


def confusion(x: np.ndarray, label: np.ndarray, k: int = 20) -> tuple[np.ndarray, np.ndarray]:
  """Classes [K] and shares [K, K]: of a class's examples (row), how many have most of their `k`
  nearest others in a class (column)."""
  classes, code = np.unique(label, return_inverse=True)
  nearest, _ = neighbours(x, np.arange(len(x)), k)
  votes = np.zeros((len(x), len(classes)))
  np.add.at(votes, (np.arange(len(x))[:, None], code[nearest]), 1)
  table = np.zeros((len(classes), len(classes)))
  np.add.at(table, (code, votes.argmax(1)), 1)
  return classes, table / table.sum(1, keepdims=True)


def spectrum(x: np.ndarray) -> np.ndarray:
  """Singular values of the centred features, the largest first, divided by the largest."""
  values = np.linalg.svd(np.asarray(x, np.float64) - np.mean(x, axis=0), compute_uv=False)
  return values / values[0]
