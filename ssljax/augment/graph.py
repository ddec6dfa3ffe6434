"""Random views of packs of graphs, of fixed shapes: what is dropped is masked.

Each takes (rng, graph, ...) and gives a graph; what is drawn for a place does not depend on the
padding behind it. An undirected edge's two directions are drawn as one.
"""

import jax
import jax.numpy as jnp

from ssljax import ops


def _per_pack(draw, rng, graph, length):
  """Draws of `draw(rng, (length,))` for each pack: [P, length]."""
  rngs = jax.random.split(rng, len(graph['x']))
  return jax.vmap(lambda rng: draw(rng, (length,)))(rngs)


def pair_uniform(rng, graph):
  """Uniform numbers [P, E] in [0, 1), the same for both directions of an edge.

  A hash of the unordered pair and a key, so nothing has to be searched for: Salmon et al. 2011,
  the counter being the pair.
  """
  low = jnp.minimum(graph['senders'], graph['receivers'])
  high = jnp.maximum(graph['senders'], graph['receivers'])
  rngs = jax.random.split(rng, len(graph['x']))

  def one(rng, low, high):
    keys = jax.random.key_data(rng).astype(jnp.uint32)
    mixed = _mix(low.astype(jnp.uint32) ^ keys[..., 0])
    mixed = _mix(mixed + _mix(high.astype(jnp.uint32) ^ keys[..., 1]))
    return (mixed >> 8).astype(jnp.float32) / 2**24

  return jax.vmap(one)(rngs, low, high)


def _mix(x):
  """A finaliser of 32 bits with full avalanche (Mueller's; as in splittable generators)."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)


def drop_edges(rng, graph, rate):
  """Each undirected edge is gone with chance `rate`, a number or [P, E] for each edge."""
  return {**graph, 'edges': graph['edges'] & (pair_uniform(rng, graph) >= rate)}


def mask_features(rng, graph, rate):
  """Each column of the features is 0 in all nodes with chance `rate`, a number or [P, F]."""
  width = graph['x'].shape[-1]
  kept = _per_pack(jax.random.uniform, rng, graph, width) >= rate
  return {**graph, 'x': graph['x'] * kept[:, None, :]}


def mask_nodes(rng, graph, rate):
  """All features of each node are 0 with chance `rate` (GraphCL's attribute masking)."""
  kept = _per_pack(jax.random.uniform, rng, graph, graph['x'].shape[1]) >= rate
  return {**graph, 'x': graph['x'] * kept[..., None]}


def keep_nodes(graph, kept):
  """The induced subgraph of nodes `kept` [P, N]: the others and their edges no longer count."""
  kept = kept & graph['nodes']
  ends = ops.at_nodes(kept, graph['senders']) & ops.at_nodes(kept, graph['receivers'])
  return {
    **graph,
    'x': jnp.where(kept[..., None], graph['x'], 0),
    'nodes': kept,
    # Readouts go by it: what is gone belongs to no graph.
    'graph': jnp.where(kept, graph['graph'], graph['index'].shape[1]),
    'edges': graph['edges'] & ends,
  }


def rank_in_graph(scores, graph):
  """How many real nodes of the same graph have a smaller score: int [P, N]."""

  def one(scores, of_graph, nodes):
    order = jnp.lexsort((jnp.where(nodes, scores, jnp.inf), of_graph))
    begins = jnp.searchsorted(of_graph[order], of_graph[order])
    rank = jnp.arange(len(order)) - begins
    return jnp.zeros_like(order).at[order].set(rank)

  return jax.vmap(one)(scores, graph['graph'], graph['nodes'])


def graph_sizes(graph):
  """Real nodes of each graph [P, G], and the same at each node [P, N] (0 at padding)."""
  ones = graph['nodes'][..., None].astype(jnp.float32)
  sizes = ops.readout(ones, graph)[..., 0]
  padded = jnp.pad(sizes, ((0, 0), (0, 1)))
  return sizes, ops.at_nodes(padded, graph['graph'])


def drop_nodes(rng, graph, rate):
  """A share `rate` of the nodes of each graph, drawn at random, is gone, with their edges."""
  draws = _per_pack(jax.random.uniform, rng, graph, graph['x'].shape[1])
  _, size = graph_sizes(graph)
  return keep_nodes(graph, rank_in_graph(draws, graph) >= jnp.floor(rate * size))


def perturb_edges(rng, graph, rate):
  """A share `rate` of the edges goes, as many random ones of the same graph come (GraphCL).

  The new edges take the places of the old, so the shapes stay; each direction by itself.
  """
  which, first, second = jax.random.split(rng, 3)
  chosen = graph['edges'] & (
    _per_pack(jax.random.uniform, which, graph, graph['edges'].shape[1]) < rate
  )
  sizes, _ = graph_sizes(graph)
  starts = jnp.cumsum(sizes, 1) - sizes  # graphs lie one after another in their pack
  owner = ops.at_nodes(graph['graph'], graph['senders'])
  padded = [jnp.pad(a, ((0, 0), (0, 1))) for a in (sizes, starts)]
  size, start = (ops.at_nodes(a, owner) for a in padded)

  def ends(rng):
    draws = _per_pack(jax.random.uniform, rng, graph, owner.shape[1])
    return (start + jnp.floor(draws * size)).astype(jnp.int32)

  return {
    **graph,
    'senders': jnp.where(chosen, ends(first), graph['senders']),
    'receivers': jnp.where(chosen, ends(second), graph['receivers']),
  }


def walk_subgraph(rng, graph, share, restart=0.0, steps=0):
  """The nodes that a random walk from a random node of each graph comes by, `share` of them.

  In every step each graph's walk goes to a random neighbour of where it is, or with chance
  `restart` back to its start. It ends when share x size nodes are found, or after `steps` (0: four
  times as many as there are nodes to find in the graph).
  """
  num_nodes, (sizes, _) = graph['x'].shape[1], graph_sizes(graph)
  wanted = jnp.maximum(jnp.ceil(share * sizes), 1)
  starts = jnp.cumsum(sizes, 1) - sizes
  begin_rng, rng = jax.random.split(rng)
  draws = jax.vmap(lambda r: jax.random.uniform(r, sizes.shape[1:]))(
    jax.random.split(begin_rng, len(sizes))
  )
  begin = jnp.minimum(starts + jnp.floor(draws * sizes), num_nodes - 1).astype(jnp.int32)
  rows = jnp.arange(len(sizes))[:, None]
  visited = jnp.zeros(graph['nodes'].shape, bool).at[rows, begin].set(True)

  limit = steps or 4 * wanted

  def walking(found, i):
    return (found < wanted) & (i < limit)

  def step(carried):
    at, visited, found, i = carried
    go, back = jax.random.split(jax.random.fold_in(rng, i))
    # The neighbour with the largest draw among the edges that leave where a walk stands.
    draw = jnp.where(
      graph['edges'], _per_pack(jax.random.uniform, go, graph, graph['edges'].shape[1]), -1
    )
    best = jax.vmap(lambda d, s: jax.ops.segment_max(d, s, num_nodes))(draw, graph['senders'])
    won = (draw == ops.at_nodes(best, graph['senders'])) & graph['edges']
    following = jax.vmap(lambda r, s, w: jax.ops.segment_max(jnp.where(w, r, -1), s, num_nodes))(
      graph['receivers'], graph['senders'], won
    )
    move = ops.at_nodes(following, at)
    returns = (
      jax.vmap(lambda r: jax.random.uniform(r, sizes.shape[1:]))(jax.random.split(back, len(sizes)))
      < restart
    )
    at = jnp.where(returns, begin, jnp.where(move < 0, at, move))
    new = ~visited[rows, at] & walking(found, i)
    visited = visited.at[rows, at].max(new)
    return at, visited, found + new, i + 1

  # As long as one walk has something to find: each by itself, so that neither padding nor other
  # graphs change it.
  carried = jax.lax.while_loop(
    lambda carried: jnp.any(walking(*carried[2:])), step, (begin, visited, jnp.ones_like(sizes), 0)
  )
  return keep_nodes(graph, carried[1])
