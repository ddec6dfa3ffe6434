"""Random walks on packs of graphs, on the device. Edges are sorted by receiver, as sources give
them, and go both ways, so the senders at a node are its neighbours."""

import jax
import jax.numpy as jnp


def row_starts(graph):
  """[P, N + 1]: where the edges that arrive at each node begin, real ones only."""
  nodes = jnp.arange(graph['x'].shape[1] + 1)
  # Padding arrives at the last node, which has no real edges.
  last = graph['x'].shape[1] - 1
  receivers = jnp.where(graph['edges'], graph['receivers'], last)
  starts = jax.vmap(lambda r: jnp.searchsorted(r, nodes))(receivers)
  return starts.at[:, -1].set(starts[:, -2])


def neighbour(rng, graph, starts, at):
  """A random neighbour of each of the nodes `at` [P, S]; a node without any stays."""
  first = jnp.take_along_axis(starts, at, 1)
  count = jnp.take_along_axis(starts, at + 1, 1) - first
  draw = jnp.floor(jax.random.uniform(rng, at.shape) * count).astype(jnp.int32)
  found = jnp.take_along_axis(graph['senders'], first + jnp.minimum(draw, count - 1), 1)
  return jnp.where(count > 0, found, at)


def walks(rng, graph, start, length, restart=0.0):
  """Walks from the nodes `start` [P, S]: int [P, S, length + 1], the start first.

  In each step a walk goes to a random neighbour, or with chance `restart` back to its start.
  """
  starts = row_starts(graph)

  def step(at, rng):
    go, back = jax.random.split(rng)
    following = neighbour(go, graph, starts, at)
    at = jnp.where(jax.random.uniform(back, at.shape) < restart, start, following)
    return at, at

  _, path = jax.lax.scan(step, start, jax.random.split(rng, length))
  return jnp.concatenate([start[None], path]).transpose(1, 2, 0)


def are_joined(graph, starts, first, second):
  """Whether nodes `first` and `second` [P, ...] have an edge: bisection of the sorted senders."""

  def one(senders, starts, first, second):
    low, high = starts[first], starts[first + 1]
    end = high

    def halve(_, bounds):
      low, high = bounds
      middle = (low + high) // 2
      before = senders[middle] < second
      open_ = low < high
      return jnp.where(open_ & before, middle + 1, low), jnp.where(open_ & ~before, middle, high)

    steps = max(1, len(senders)).bit_length() + 1
    low, _ = jax.lax.fori_loop(0, steps, halve, (low, high))
    return (low < end) & (senders[jnp.minimum(low, len(senders) - 1)] == second)

  return jax.vmap(one)(graph['senders'], starts, first, second)


def distinct(paths, count):
  """The first `count` different nodes of each walk [P, S, L], and how many: [P, S, count], [P, S].

  Places beyond the number hold the walk's start.
  """
  same = paths[..., :, None] == paths[..., None, :]
  earlier = jnp.tril(jnp.ones(same.shape[-2:], bool), -1)
  first = ~jnp.any(same & earlier, -1)
  rank = jnp.where(first, jnp.cumsum(first, -1) - 1, count)
  found = jnp.broadcast_to(paths[..., :1], (*paths.shape[:2], count))
  rows = [i[..., None] for i in jnp.indices(paths.shape[:2])]
  found = found.at[*rows, rank].set(paths, mode='drop')
  return found, jnp.minimum(jnp.sum(first, -1), count)
