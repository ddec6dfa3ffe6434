"""Finding which query is an edited copy of which reference, by one threshold for all of them."""

import numpy as np

from ssljax import ops
from ssljax.errors import InputError


def whitening(background, dims=None):
  """PCA that whitens the background: its mean [D], and the projection [D, dims].

  Args:
    background: [N, D], descriptors of images that are neither queries nor references.
    dims: how many components are kept, the largest first; None for all whose variance is more than
      the rounding of the largest.

  Raises:
    InputError: background is not [N, D] with two rows or more, or has fewer components than dims.
  """
  x = np.asarray(background, np.float64)
  if x.ndim != 2 or len(x) < 2:
    raise InputError(f'background: shape {x.shape} seen, [N, D] wanted with N at least 2')
  mean = x.mean(0)
  x = (x - mean) / np.sqrt(len(x))
  # The two products have the same eigenvalues but for zeros: of wide inputs such as pixels only the
  # one of [N, N] can be taken apart.
  wide = x.shape[1] > len(x)
  variance, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
  variance, vectors = variance[::-1], vectors[:, ::-1]
  most = int((variance > 1e-12 * max(variance[0], 1e-60)).sum())
  dims = most if dims is None else dims
  if not 1 <= dims <= most:
    raise InputError(f'dims: {dims} seen, 1 to {most} wanted, the components of the background')
  variance, vectors = variance[:dims], vectors[:, :dims]
  components = x.T @ vectors / np.sqrt(variance) if wide else vectors
  return mean, components / np.sqrt(variance)


def whitened(x, fitted):
  """Descriptors [N, D] less the mean, projected, and made of length one: float32 [N, dims]."""
  mean, projection = fitted
  y = (np.asarray(x, np.float64) - mean) @ projection
  return np.asarray(ops.l2_normalize(y.astype(np.float32)))


def similarities(queries, references, background=None, *, k=3, weight=1.0):
  """Dot products of queries and references, less what a query has with images it is no copy of.

    s(q, r) = q . r - weight * mean over the k background descriptors b nearest to q of q . b

  So that a query which is like everything needs more to be called a copy.

  Args:
    queries: [Q, D]; references: [R, D], both of length one.
    background: [N, D], of length one; None for plain dot products.
    k: neighbours, at most N; weight: of their mean. 3 and 1 in the authors' code.

  Returns:
    float32 [Q, R].

  Raises:
    InputError: a shape does not fit, or k is out of range.

  Reference: SSCD (https://arxiv.org/abs/2202.10261), Section 5.3, equation 8.
  """
  queries, references = np.asarray(queries, np.float32), np.asarray(references, np.float32)
  ops.check_shape('queries', queries, ('Q', 'D'))
  ops.check_shape('references', references, ('R', queries.shape[1]))
  scores = queries @ references.T
  if background is None:
    return scores
  near, _ = ops.nearest(queries, np.asarray(background, np.float32), k)
  return scores - weight * np.asarray(near).mean(1, keepdims=True)


def micro_average_precision(scores, source):
  """Average precision of all pairs of a query and a reference, ranked together (uAP).

    mean over the true pairs p of  |true pairs with s >= s_p| / |pairs with s >= s_p|

  Pairs of one score count as one place of the ranking. 1 where one threshold parts the true pairs
  from all others.

  Args:
    scores: [Q, R], larger for likelier copies.
    source: int [Q], the reference that each query is a copy of, -1 for none.

  Raises:
    InputError: shapes that do not fit, a source outside of -1 .. R - 1, no query with a source, or
      a score that is not finite.

  Reference: Douze et al. 2021, the image similarity challenge (https://arxiv.org/abs/2106.09672),
  Section 4.
  """
  scores, source = np.asarray(scores), np.asarray(source)
  ops.check_shape('scores', scores, ('Q', 'R'))
  ops.check_shape('source', source, scores.shape[:1])
  if source.min() < -1 or source.max() >= scores.shape[1]:
    raise InputError(
      f'source: {source.min()} to {source.max()} seen, -1 to {scores.shape[1] - 1} wanted'
    )
  if not np.isfinite(scores).all():
    raise InputError('scores: NaN or infinite values seen, finite numbers wanted')
  copies = np.flatnonzero(source >= 0)
  if not len(copies):
    raise InputError('source: no query with a reference seen, at least one wanted')
  true = np.sort(scores[copies, source[copies]])
  found = len(true) - np.searchsorted(true, true)
  ranked = scores.size - np.searchsorted(np.sort(scores, axis=None), true)
  return float(np.mean(found / ranked))


def evaluate(queries, references, background, source, *, k=3, whiten=True):
  """Micro average precision of descriptors: {name: number}.

  Args:
    queries: [Q, D]; references: [R, D]; background: [N, D], of any length.
    source: int [Q], the reference that each query is a copy of, -1 for none.
    k: background neighbours of the normalised scores.
    whiten: whether descriptors are whitened on the background before they are made of length one.

  Returns:
    'uap', and 'uap_normalized' with the scores normalised by the background.
  """
  parts = queries, references, background
  if whiten:
    fitted = whitening(background)
    queries, references, background = (whitened(x, fitted) for x in parts)
  else:
    queries, references, background = (
      np.asarray(ops.l2_normalize(np.asarray(x, np.float32))) for x in parts
    )
  plain = similarities(queries, references)
  normalized = similarities(queries, references, background, k=k)
  return {
    'uap': micro_average_precision(plain, source),
    'uap_normalized': micro_average_precision(normalized, source),
  }
