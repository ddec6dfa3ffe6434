"""FastRP: powers of a graph's random walk, applied to a very sparse random projection.

    P = D^-1 A (or A),  R' = diag(degree^alpha) R,  N_1 = P R', N_k = P N_{k-1}
    embedding = sum_k weight_k N_k, rows of each N_k at length one, columns of the sum standardised

Chen, Sultan, Tian, Chen, Skiena 2019, "Fast and accurate network embeddings via very sparse random
projection". Follows the authors' code, which standardises the columns in the end (the paper does
not) and multiplies by the degree itself, not by degree / 2m. R is Achlioptas': sqrt(s) times 1, 0,
-1 with chances 1/2s, 1 - 1/s, 1/2s. Linear in edges times dim; P^k is never formed.
"""

import os
from concurrent import futures

import numpy as np
from scipy import sparse

from ssljax.embedding._graph import checked
from ssljax.errors import InputError

PAPER = 'Chen et al. 2019, Fast and accurate network embeddings via very sparse random projection'
FAMILY = 'random-projection'
MODALITY = 'graph'


def projection(num_nodes: int, dim: int, *, s: float = 3.0, seed: int = 0) -> np.ndarray:
  """float32 [num_nodes, dim]: Achlioptas' matrix, a share 1 / s of it not 0."""
  rng = np.random.default_rng(seed)
  draws = rng.random((num_nodes, dim), np.float32)
  sign = (draws < 0.5 / s).astype(np.float32) - (draws > 1 - 0.5 / s)
  return np.float32(s**0.5) * sign


def _product(matrix, x):
  """matrix @ x, blocks of rows of about the same number of edges over the processor's cores."""
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  if cores == 1 or matrix.nnz * x.shape[1] < 1 << 24:  # a thread costs more than it saves
    return matrix @ x
  edges = np.linspace(0, matrix.nnz, 4 * cores + 1)[1:-1]
  cuts = [0, *np.searchsorted(matrix.indptr, edges), matrix.shape[0]]
  out = np.empty((matrix.shape[0], x.shape[1]), x.dtype)

  def block(first, end):
    out[first:end] = matrix[first:end] @ x  # SciPy lets go of the interpreter here

  with futures.ThreadPoolExecutor(cores) as pool:
    list(pool.map(block, cuts[:-1], cuts[1:]))
  return out


def powers(adjacency, start, count: int, *, alpha=-0.5, walk=True):
  """Yields N_1, ..., N_count, float [N, dim], of a projection `start` [N, dim]."""
  matrix = checked(adjacency).astype(start.dtype)
  degree = np.asarray(matrix.sum(1)).ravel()
  inverse = np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)
  if walk:
    matrix = sparse.diags(inverse.astype(start.dtype)) @ matrix
  x = start
  if alpha is not None:
    scale = np.power(degree, alpha, out=np.zeros_like(degree), where=degree > 0)
    x = scale[:, None].astype(start.dtype) * x
  for _ in range(count):
    x = _product(matrix, x)
    yield x


def embed(
  adjacency,
  dim: int = 128,
  *,
  weights=(0.0, 0.0, 1.0, 6.25),
  alpha: float | None = -0.5,
  walk: bool = True,
  normalize: bool = True,
  start=None,
  s: float = 3.0,
  seed: int = 0,
) -> np.ndarray:
  """float32 [N, dim] of a sparse adjacency matrix [N, N].

  Args:
    weights: of the powers 1, 2, ...; in the paper 0, 0, 1 and a tuned one.
    alpha: exponent of the degree, -1 to 0; None leaves the projection as it is.
    walk: D^-1 A; False takes A.
    normalize: rows of each power at length one before they are summed.
    start: R, [N, dim], in place of a random one.
    s, seed: of the random projection.

  Raises:
    InputError: no square matrix, negative weights of edges, no powers, or `start` of another shape.
  """
  matrix = checked(adjacency)
  if not len(weights) or dim < 1:
    raise InputError(f'weights are {tuple(weights)} and dim {dim}, wanted powers and dimensions')
  if start is None:
    start = projection(matrix.shape[0], dim, s=s, seed=seed)
  if start.shape != (matrix.shape[0], dim):
    raise InputError(f'start has shape {list(start.shape)}, wanted [{matrix.shape[0]}, {dim}]')
  total = np.zeros_like(start)
  made = powers(matrix, start, len(weights), alpha=alpha, walk=walk)
  for weight, x in zip(weights, made, strict=True):
    if not weight:
      continue
    if normalize:
      norm = np.linalg.norm(x, axis=1, keepdims=True)
      x = np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)
    total += np.asarray(weight, start.dtype) * x
  total -= total.mean(0)
  std = total.std(0)
  return total / np.where(std > 0, std, 1)
