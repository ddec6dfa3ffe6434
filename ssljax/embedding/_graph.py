"""What is asked of a graph, and its rows."""

import numpy as np
from scipy import sparse

from ssljax.errors import InputError


def checked(adjacency) -> sparse.csr_matrix:
  """CSR float64 with sorted rows, without stored zeros, in memory of its own.

  Raises InputError: not a square matrix with nodes, or a weight that is negative or not finite.
  """
  # Without a copy, a caller's CSR would be put in order in place.
  matrix = sparse.csr_matrix(adjacency, dtype=np.float64, copy=True)
  if matrix.shape[0] != matrix.shape[1] or not matrix.shape[0]:
    raise InputError(f'adjacency has shape {list(matrix.shape)}, wanted [N, N] with nodes')
  if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
    raise InputError('adjacency has negative, NaN or infinite weights, wanted at least 0')
  matrix.sum_duplicates()
  matrix.eliminate_zeros()
  matrix.sort_indices()
  return matrix


def from_edges(edges, num_nodes: int) -> sparse.csr_matrix:
  """The undirected graph of pairs [E, 2]: each edge once with weight 1, no loops.

  Raises InputError: pairs are no whole numbers from 0 to num_nodes - 1.
  """
  edges = np.asarray(edges)
  pairs = edges.ndim == 2 and edges.shape[1] == 2 and edges.dtype.kind in 'iu'
  if not pairs or (edges.size and not 0 <= edges.min() <= edges.max() < num_nodes):
    raise InputError(
      f'edges: {edges.dtype} {list(edges.shape)} seen, whole numbers [E, 2] from 0 to '
      f'{num_nodes - 1} wanted'
    )
  edges = edges.astype(np.int64)
  edges = edges[edges[:, 0] != edges[:, 1]]
  both = np.concatenate([edges, edges[:, ::-1]])
  matrix = sparse.csr_matrix((np.ones(len(both)), both.T), shape=(num_nodes, num_nodes))
  matrix.data[:] = 1
  return matrix
