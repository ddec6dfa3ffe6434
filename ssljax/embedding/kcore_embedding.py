"""Embeddings from a graph's cores: more walks where it is dense, or walks in the core alone.

    core number of v = the largest k with v in a subgraph whose nodes all have k neighbours in it
    CoreWalk:    max(floor(n k_v / k_max), 1) walks from node v, then skip-gram
    propagation: skip-gram on the k0-core alone; then, shell by shell outwards, a node's vector is
      the mean of its neighbours' that have one, repeated until it solves that system

Brandeis, Jarry, Sevestre, Mazerolles 2020, "About graph degeneracy, representation learning and
scalability".
"""

import numpy as np
from scipy import sparse

from ssljax.embedding import node2vec
from ssljax.embedding._graph import checked
from ssljax.errors import InputError

PAPER = 'Brandeis et al. 2020, About graph degeneracy, representation learning and scalability'
FAMILY = 'contrastive'
MODALITY = 'graph'


def core_numbers(adjacency) -> np.ndarray:
  """int [N]: the core number of each node, by peeling those of least degree.

  Of the undirected graph, whose edges are those of either direction; without loops and weights.
  """
  matrix = checked(adjacency)
  matrix = (matrix + matrix.T).tocsr()
  matrix = matrix - sparse.diags(matrix.diagonal())
  matrix.eliminate_zeros()
  degree = np.diff(matrix.indptr).astype(np.int64)
  core, left, k = np.zeros(len(degree), np.int64), np.ones(len(degree), bool), 0
  while left.any():
    peeled = np.flatnonzero(left & (degree <= k))
    if not len(peeled):
      k = int(degree[left].min())
      continue
    core[peeled], left[peeled] = k, False
    rows = [matrix.indices[matrix.indptr[v] : matrix.indptr[v + 1]] for v in peeled]
    np.subtract.at(degree, np.concatenate(rows), 1)
  return core


def core_walk(
  adjacency, dim: int = 128, *, num_walks=10, length=80, seed=0, **fields
) -> np.ndarray:
  """CoreWalk: float32 [N, dim]. `fields` are those of `node2vec.skip_gram`."""
  core = core_numbers(adjacency)
  each = np.maximum(num_walks * core // max(core.max(), 1), 1)
  starts = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(core)), each))
  path = node2vec.walks(adjacency, starts=starts, length=length, seed=seed)
  return node2vec.skip_gram(path, len(core), dim, seed=seed, **fields)


def propagate(adjacency, vectors, known, order, *, rounds: int = 50) -> np.ndarray:
  """Fills vectors [N, D] of nodes that are not `known`, group by group in falling `order` [N].

  Each node of a group is the mean of its neighbours that are known or in the group, by so many
  rounds of averaging; a node without any stays 0.
  """
  matrix, vectors, known = checked(adjacency), np.array(vectors, np.float32), known.copy()
  matrix.data[:] = 1
  for level in np.unique(order[~known])[::-1]:
    group = np.flatnonzero(~known & (order == level))
    outer = matrix[group][:, np.flatnonzero(known)]
    inner = matrix[group][:, group]
    count = np.asarray(outer.sum(1) + inner.sum(1)).ravel()
    scale = np.divide(1, count, out=np.zeros_like(count), where=count > 0)[:, None]
    fixed = outer @ vectors[known]
    for _ in range(rounds):
      vectors[group] = scale * (fixed + inner @ vectors[group])
    known[group] = True
  return vectors


def embed(adjacency, dim: int = 128, *, core: int = 0, seed=0, num_walks=10, length=80, **fields):
  """Propagation from the k0-core: float32 [N, dim]. core: k0; 0 for half the largest core number.

  Raises InputError where no node has that core number.
  """
  numbers = core_numbers(adjacency)
  core = core or max(1, int(numbers.max()) // 2)
  inside = np.flatnonzero(numbers >= core)
  if not len(inside):
    raise InputError(f'core is {core}, and the largest core number is {numbers.max()}')
  matrix = checked(adjacency)
  path = node2vec.walks(matrix[inside][:, inside], num_walks=num_walks, length=length, seed=seed)
  vectors = np.zeros((len(numbers), dim), np.float32)
  vectors[inside] = node2vec.skip_gram(path, len(inside), dim, seed=seed, **fields)
  known = np.zeros(len(numbers), bool)
  known[inside] = True
  return propagate(matrix, vectors, known, numbers)
