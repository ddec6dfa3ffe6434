"""ClusterFuG: multicut of a complete graph whose costs are dot products, by greedy contraction.

    cost of the edge i, j = f_i . f_j; while some two clusters have a positive one, the two of the
    largest are joined, and their features added (the cost between clusters is the sum of all)

Abbas & Swoboda 2023, "ClusterFuG: clustering fully connected graphs by multicut". No array [N, N]
is held: every cluster knows its best partner, and looks for another only when that one has been
joined to something. The result is that of greedy additive edge contraction on all pairs.

Each look for a partner scans all clusters, exactly: O(N D), so O(N^2 D) for all contractions, and
more where many clusters lose the same partner. The paper's faster variants, which look in a graph
of nearest neighbours that is updated lazily, are not here.
"""

import heapq

import numpy as np

from ssljax.errors import InputError

PAPER = 'Abbas & Swoboda 2023, ClusterFuG: clustering fully connected graphs by multicut'
FAMILY = 'clustering'
MODALITY = 'graph'


def cluster(features, *, offset: float = 0.0) -> np.ndarray:
  """int [N]: the cluster of each row of features [N, D], numbered by first appearance.

  offset: what is taken from every dot product; higher ones give more clusters.

  Raises InputError: features are not [N, D] of finite numbers.
  """
  f = np.array(features, np.float64)
  if f.ndim != 2 or not f.size or not np.isfinite(f).all():
    raise InputError(f'features: shape {list(f.shape)} seen, [N, D] of finite numbers wanted')
  size, version = np.ones(len(f)), np.zeros(len(f), int)
  alive, parent = np.ones(len(f), bool), np.arange(len(f))
  heap = []

  def look(i):
    """Puts i's best partner on the heap, if that pair's cost is positive."""
    cost = f @ f[i] - offset * size * size[i]
    cost[~alive] = -np.inf
    cost[i] = -np.inf
    j = int(np.argmax(cost))
    if cost[j] > 0:
      heapq.heappush(heap, (-cost[j], min(i, j), max(i, j), version[i], version[j], i))

  for i in range(len(f)):
    look(i)
  while heap:
    _, a, b, *versions, i = heapq.heappop(heap)
    j = b if i == a else a
    if not alive[i] or version[i] != versions[0]:
      continue
    if not alive[j] or version[j] != versions[1]:
      look(i)
      continue
    f[a] += f[b]
    size[a] += size[b]
    alive[b], parent[b] = False, a
    version[a] += 1
    look(a)
  while (parent[parent] != parent).any():
    parent = parent[parent]
  _, first, inverse = np.unique(parent, return_index=True, return_inverse=True)
  return np.argsort(np.argsort(first))[inverse]


def objective(features, assignment, *, offset: float = 0.0) -> float:
  """The multicut's: the sum of costs of all pairs in different clusters; lower is better."""
  f, assignment = np.asarray(features, np.float64), np.asarray(assignment)
  whole, inside = pairs_cost(f, offset), 0.0
  for c in np.unique(assignment):
    inside += pairs_cost(f[assignment == c], offset)
  return whole - inside


def pairs_cost(f, offset):
  """Sum of f_i . f_j - offset over i < j."""
  total = f.sum(0)
  return float((total @ total - (f * f).sum()) / 2 - offset * len(f) * (len(f) - 1) / 2)
