"""node2vec: second-order random walks, whose nodes are embedded like words of sentences.

    from t over v to x: weight / p if x is t, weight if x and t are joined, weight / q otherwise
    vectors by skip-gram with negative sampling of nodes within a window, see losses.skip_gram

Grover & Leskovec 2016, "node2vec: scalable feature learning for networks". p = q = 1 is DeepWalk.
Walks are exact: a neighbour is proposed by weight and taken with chance (its factor) / (the largest
one), so no table of edges x degree is made. Vectors are trained by gradient descent as in word2vec,
but on batches of pairs in random order, not pair by pair.
"""

from typing import NamedTuple

import numpy as np

from ssljax.embedding._graph import checked
from ssljax.errors import InputError

PAPER = 'Grover & Leskovec 2016, node2vec: scalable feature learning for networks'
FAMILY = 'contrastive'
MODALITY = 'graph'


class Pairs(NamedTuple):
  """center, context: int32 [M], nodes of one walk within a window."""

  center: np.ndarray
  context: np.ndarray


def transition(adjacency, previous: int, current: int, *, p=1.0, q=1.0):
  """(neighbours of `current`, their chances) for a walk that came from `previous`."""
  matrix = checked(adjacency)
  row = slice(*matrix.indptr[current : current + 2])
  nodes, weight = matrix.indices[row], matrix.data[row].copy()
  # As in the authors' code: whether there is an edge from the candidate back to `previous`.
  joined = np.asarray(matrix[nodes, previous].todense()).ravel() > 0
  weight *= np.where(nodes == previous, 1 / p, np.where(joined, 1.0, 1 / q))
  return nodes, weight / weight.sum()


def walks(adjacency, *, starts=None, num_walks=10, length=80, p=1.0, q=1.0, seed=0) -> np.ndarray:
  """int32 [M, length]: walks of so many nodes from every node, or from `starts` [M].

  A walk that cannot go on stays where it is.

  Raises InputError: p, q or a count not above 0, or starts that are no nodes.
  """
  for name, value in {'p': p, 'q': q, 'num_walks': num_walks, 'length': length}.items():
    if value <= 0:
      raise InputError(f'{name} is {value}, wanted more than 0')
  matrix, rng = checked(adjacency), np.random.default_rng(seed)
  count = matrix.shape[0]
  if starts is None:
    starts = np.concatenate([rng.permutation(count) for _ in range(num_walks)])
  starts = np.asarray(starts)
  if starts.ndim != 1 or starts.dtype.kind not in 'iu' or ((starts < 0) | (starts >= count)).any():
    raise InputError(
      f'starts: {starts.dtype} {list(starts.shape)} seen, nodes from 0 to {count - 1} wanted'
    )
  indptr, indices = matrix.indptr.astype(np.int64), matrix.indices
  uniform = np.all(matrix.data == matrix.data[:1])
  cumulated = None if uniform else np.concatenate([[0.0], np.cumsum(matrix.data)])
  # Where an edge from a to b would stand among all, as one number each.
  keys = np.repeat(np.arange(count), np.diff(indptr)) * count + indices
  path = np.empty((len(starts), length), np.int32)
  path[:, 0] = starts

  def propose(at):
    first, last = indptr[at], indptr[at + 1]
    draw = rng.random(len(at))
    if uniform:
      place = first + (draw * (last - first)).astype(np.int64)
    else:
      low, high = cumulated[first], cumulated[last]
      place = np.searchsorted(cumulated, low + draw * (high - low), 'right') - 1
    return indices[np.minimum(place, last - 1)]

  largest = max(1 / p, 1.0, 1 / q)
  alive = indptr[starts + 1] > indptr[starts] if len(keys) else np.zeros(len(starts), bool)
  for step in range(1, length):
    at = path[:, step - 1].astype(np.int64)
    path[:, step] = at
    open_ = np.flatnonzero(alive & (indptr[at + 1] > indptr[at]))
    while len(open_):
      found = propose(at[open_])
      if step == 1 or p == q == 1:
        path[open_, step] = found
        break
      before = path[open_, step - 2].astype(np.int64)
      key = found.astype(np.int64) * count + before
      place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
      factor = np.where(found == before, 1 / p, np.where(keys[place] == key, 1.0, 1 / q))
      taken = rng.random(len(open_)) * largest < factor
      path[open_[taken], step] = found[taken]
      open_ = open_[~taken]
  return path


def window_pairs(path: np.ndarray, window: int = 10, *, seed: int = 0) -> Pairs:
  """All pairs within a window that is drawn for each place, 1 to `window`, as word2vec does."""
  reach = np.random.default_rng(seed).integers(1, window + 1, path.shape)
  center, context = [], []
  for gap in range(1, min(window, path.shape[1] - 1) + 1):
    for a, b in ((slice(None, -gap), slice(gap, None)), (slice(gap, None), slice(None, -gap))):
      near = (reach[:, a] >= gap) & (path[:, a] != path[:, b])
      center.append(path[:, a][near])
      context.append(path[:, b][near])
  return Pairs(np.concatenate(center), np.concatenate(context))


def skip_gram(
  path: np.ndarray,
  num_nodes: int,
  dim: int = 128,
  *,
  window: int = 10,
  negatives: int = 5,
  epochs: float = 1.0,
  batch_size: int = 2048,
  learning_rate: float = 0.1,
  seed: int = 0,
) -> np.ndarray:
  """float32 [num_nodes, dim]: vectors of nodes by `losses.skip_gram` on walks [M, length].

  learning_rate: of the sum over pairs; falls linearly to a hundredth.
  """
  import jax
  import jax.numpy as jnp
  import optax

  from ssljax import losses

  if path.size and path.max() >= num_nodes:
    raise InputError(f'walks have node {path.max()}, wanted 0 to {num_nodes - 1}')
  pairs = window_pairs(path, window, seed=seed)
  if not len(pairs.center):
    raise InputError('walks have no two different nodes next to each other')
  often = np.bincount(path.ravel(), minlength=num_nodes) ** 0.75
  cumulated = jnp.asarray(np.cumsum(often) / often.sum(), jnp.float32)
  size = min(batch_size, len(pairs.center))
  steps = max(1, round(epochs * len(pairs.center) / size))
  rate = optax.linear_schedule(learning_rate, learning_rate / 100, steps)
  key = jax.random.key(seed)
  tables = {
    'node': jax.random.uniform(key, (num_nodes, dim), minval=-0.5, maxval=0.5) / dim,
    'context': jnp.zeros((num_nodes, dim)),
  }

  def loss(*rows):
    return len(rows[0]) * losses.skip_gram(*rows)

  def descend(table, rows, gradient, i):
    # A node that is often in a batch moves by the mean of its gradients: their sum overshoots.
    often = jnp.zeros(num_nodes).at[rows].add(1.0)
    by_row = jnp.minimum(rate(i), 1 / jnp.maximum(often, 1))
    return table.at[rows].add(-by_row[rows][:, None] * gradient)

  @jax.jit
  def run(tables, center, context, key, first):
    def step(carried, batch):
      tables, i = carried
      center, context, key = batch
      draws = jax.random.uniform(key, (len(center), negatives))
      others = jnp.minimum(jnp.searchsorted(cumulated, draws), num_nodes - 1)
      found = tables['node'][center], tables['context'][context], tables['context'][others]
      node, near, far = jax.grad(loss, argnums=(0, 1, 2))(*found)
      rows = jnp.concatenate([context, others.ravel()])
      tables = {
        'node': descend(tables['node'], center, node, i),
        'context': descend(
          tables['context'], rows, jnp.concatenate([near, far.reshape(-1, dim)]), i
        ),
      }
      return (tables, i + 1), None

    keys = jax.random.split(key, len(center))
    return jax.lax.scan(step, (tables, first), (center, context, keys))[0][0]

  rng, done = np.random.default_rng(seed), 0
  while done < steps:
    count = min(steps - done, max(1, len(pairs.center) // size), 256)
    rows = rng.integers(len(pairs.center), size=(count, size))
    tables = run(
      tables, pairs.center[rows], pairs.context[rows], jax.random.fold_in(key, done), done
    )
    done += count
  return np.asarray(tables['node'])


def embed(
  adjacency, dim: int = 128, *, seed: int = 0, p=1.0, q=1.0, num_walks=10, length=80, **fields
):
  """float32 [N, dim] of a sparse adjacency matrix; `fields` are those of `skip_gram`."""
  path = walks(adjacency, num_walks=num_walks, length=length, p=p, q=q, seed=seed)
  return skip_gram(path, adjacency.shape[0], dim, seed=seed, **fields)
