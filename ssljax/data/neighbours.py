"""Parts of one graph that does not fit: some nodes, and what is sampled around them."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable

import numpy as np

from ssljax.data.graphs import ROUND, GraphSource
from ssljax.errors import InputError

MEASURED = 32  # batches that a budget of edges is taken from


@dataclasses.dataclass(frozen=True)
class NeighbourSource:
  """The nodes of a graph as examples, each batch a graph of its own, as in GraphSAGE.

  A pack has its share of the batch's nodes, the roots, up to fanout[0] neighbours of each, up to
  fanout[1] of each of these, and so on, and all edges among them. What is sampled is decided by the
  roots alone, so a run that goes on sees what it would have seen. Embeddings are of roots in such
  packs. Batches are as `graphs` describes them, with 'index' [P, 1], the first root.

  Hamilton, Ying & Leskovec 2017 (https://arxiv.org/abs/1706.02216), section 3.1, but the edges are
  all those among the nodes sampled, so that both directions of each are there.

  graph: the whole of it, in the host's memory. packs, budget: as of a GraphSource; edges beyond the
    budget, which is measured on some batches, are left out, at random.
  """

  graph: GraphSource
  fanout: tuple[int, ...]
  packs: int = 1
  budget: tuple[int, int] = (0, 0)
  level = 'node'
  whole = False

  def __post_init__(self):
    if self.graph.level != 'node' or self.graph.extra:
      raise InputError('data.neighbours: wanted one graph, without hyperedges or groups of nodes')
    if not self.fanout or min(self.fanout) < 1:
      raise InputError(
        f'data.neighbours is {self.fanout}, wanted how many are taken of each node, such as (10, 5)'
      )

  label = property(lambda self: self.graph.label)
  classes = property(lambda self: self.graph.classes)
  split = property(lambda self: self.graph.split)

  def __len__(self) -> int:
    return len(self.graph.x)

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    return self.collate(np.array([i]), packs=1)

  def raw(self) -> np.ndarray:
    """The features of all nodes."""
    return self.graph.x

  def fitted(self, batches: Iterable[np.ndarray], packs: int) -> 'NeighbourSource':
    """The same source with packs that hold the most nodes there can be, and a tenth more edges than
    the largest of the first of these batches has."""
    roots, edges = 1, 1
    for index in itertools.islice(batches, MEASURED):
      for row in np.asarray(index).reshape(packs, -1):
        nodes, joined = self._sample(row)
        roots, edges = max(roots, len(row)), max(edges, len(joined))
    most = roots * int(1 + np.cumprod(self.fanout).sum())
    nodes = min(most, len(self)) + 1  # one more than are real, for the edges that are not
    budget = tuple(-(-int(n) // ROUND) * ROUND for n in (nodes, 1.1 * edges))
    return dataclasses.replace(self, packs=packs, budget=budget)

  def collate(self, index: np.ndarray, packs: int | None = None) -> dict[str, np.ndarray]:
    """The batch around these nodes, dealt to packs in order."""
    packs = self.packs if packs is None else packs
    rows = list(np.asarray(index, np.int32).reshape(packs, -1))
    made = [self._pack(row)[0] for row in rows]
    batch = self._stack(made)
    batch['index'] = np.array([row[:1] for row in rows])
    return batch

  def eval_batches(self, batch_size: int, limit: int | None = None):
    """All nodes once, in order: 'valid' bool [rows] says which rows of an embedding are theirs,
    'index' [P, N] which nodes, and 'label' [rows] has their labels."""
    count = min(len(self), limit or len(self))
    size = -(-min(batch_size, count) // self.packs) * self.packs
    parts = [np.arange(i, min(i + size, count)) for i in range(0, count, size)]
    fitted = self.fitted([np.resize(part, size) for part in parts], self.packs)
    for part in parts:
      dealt = np.array_split(part, self.packs)
      made = [fitted._pack(row if len(row) else part[:1]) for row in dealt]
      batch = self._stack([pack for pack, _ in made])
      shape = batch['nodes'].shape
      index, valid = np.zeros(shape, np.int32), np.zeros(shape, bool)
      for p, (row, (_, nodes)) in enumerate(zip(dealt, made, strict=True)):
        index[p, : len(nodes)] = nodes
        valid[p, : len(row)] = True
      if self.label is not None:
        known = np.where(valid, self.label[index], -1)
        batch['label'] = known.reshape(-1)
      yield {**batch, 'index': index, 'valid': valid.reshape(-1)}

  def example(self, rows: int) -> dict[str, np.ndarray]:
    """A batch of the shapes that one around so many nodes has, or where packs do not divide them,
    around one."""
    if rows % self.packs == 0:
      return self.collate(np.resize(np.arange(len(self)), rows))
    return dataclasses.replace(self, budget=(0, 0)).collate(np.arange(1), packs=1)

  def _sample(self, roots):
    """Nodes of a pack, the roots first, and the edges among them, by their places in it."""
    rng = np.random.default_rng(np.asarray(roots, np.uint32))
    senders = self.graph.edges[:, 0]
    nodes = last = _once(roots)
    for most in self.fanout:
      of_last, owner = self._edges_into(last)
      order = np.lexsort([rng.random(len(owner)), owner])
      first = np.searchsorted(owner[order], np.arange(len(last)))
      rank = np.arange(len(order)) - first[owner[order]]
      last = np.setdiff1d(senders[of_last[order[rank < most]]], nodes)
      nodes = np.concatenate([nodes, last])
    into, receiver = self._edges_into(nodes)
    by_name = np.argsort(nodes)
    at = np.searchsorted(nodes, senders[into], sorter=by_name)
    sender = by_name[np.minimum(at, len(nodes) - 1)]
    among = nodes[sender] == senders[into]
    joined = np.stack([sender[among], receiver[among]], 1)
    return nodes, joined[np.lexsort(joined.T)]  # by receiver, then sender

  def _edges_into(self, nodes):
    """Places of the edges that end in these nodes, in their order, and which of them each is of."""
    begin, count = self._starts[nodes], self._starts[nodes + 1] - self._starts[nodes]
    owner = np.repeat(np.arange(len(nodes)), count)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return begin[owner] + offset, owner

  @functools.cached_property
  def _starts(self):
    """[N + 1]: where the edges into each node begin; found once, of a graph that is large."""
    return np.searchsorted(self.graph.edges[:, 1], np.arange(len(self) + 1))

  def _pack(self, roots):
    nodes, joined = self._sample(roots)
    most = self.budget[1]
    if most and len(joined) > most:
      joined = _fewer(joined, most, np.random.default_rng(len(joined)))
    part = GraphSource(
      self.graph.x[nodes],
      joined.astype(np.int32),
      np.array([0, len(nodes)]),
      label=None if self.label is None else self._known(nodes),
      budget=self.budget,
    )
    made = part.collate(np.arange(1), packs=1)
    del made['index']
    return {name: x[0] for name, x in made.items()}, nodes

  def _known(self, nodes):
    """Labels of nodes, -1 but for those of training."""
    train = self.split.get('train')
    known = self.label[nodes]
    return known if train is None else np.where(np.isin(nodes, train), known, -1)

  def _stack(self, packs):
    return {name: np.stack([pack[name] for pack in packs]) for name in packs[0]}


def _once(x):
  """The values of x in the order in which they first come."""
  _, first = np.unique(x, return_index=True)
  return x[np.sort(first)]


def _fewer(edges, most, rng):
  """At most so many of the edges, both directions of a pair or neither."""
  pairs, number = np.unique(np.sort(edges, 1), axis=0, return_inverse=True)
  kept = rng.permutation(len(pairs)) < most // 2
  return edges[kept[number.reshape(-1)]]
