"""Graphs as sources: one that is a batch by itself, or many that are packed into batches.

A batch of graphs is a dict of arrays of fixed shapes with a leading axis of packs [P]; a pack is
one disjoint union of G graphs, padded to N nodes and E edges:

    x [P, N, F] float32      features of nodes
    nodes [P, N] bool        which nodes are real; the last never is
    graph [P, N] int32       which of the pack's graphs a node is of; G for padding
    senders, receivers [P, E] int32, edges [P, E] bool, which are real; the others join node N - 1
    index [P, G] int32       places of the graphs in the source

Each direction of an undirected edge is an edge. A single graph whose nodes are the examples is one
pack of one graph; every device then works on all of it. Edges are sorted by receiver.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from ssljax.data import checks
from ssljax.errors import InputError

ROUND = 64  # nodes and edges are padded to a multiple of it, so that few shapes are compiled


@dataclasses.dataclass(frozen=True)
class GraphSource:
  """A graph, or many.

  x: float32 [all nodes, F]. edges: int32 [all edges, 2], (sender, receiver), by receiver.
  offsets: int64 [graphs + 1], the first node of each graph; edges stay within their graph.
  level: 'node', one graph whose nodes are the examples, or 'graph'.
  label: int32 [nodes] or [graphs] by level, -1 where not known; or None.
  split: {name: places of nodes or graphs}, such as 'train', 'val', 'test' or 'fold' int [graphs].
  extra: further arrays of a single graph's batch, without the axis of packs.
  packs: how many a batch is dealt to. budget: (nodes, edges) that each is padded to; 0 for as many
    as a batch needs.
  """

  x: np.ndarray
  edges: np.ndarray
  offsets: np.ndarray
  level: str = 'node'
  label: np.ndarray | None = None
  classes: tuple[str, ...] | None = None
  split: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  extra: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  packs: int = 1
  budget: tuple[int, int] = (0, 0)

  @property
  def whole(self) -> bool:
    """Whether a batch is the one graph there is."""
    return self.level == 'node'

  def __len__(self) -> int:
    return len(self.offsets) - 1

  def __getitem__(self, i: int) -> dict[str, np.ndarray]:
    return self.collate(np.array([i]), packs=1)

  def sizes(self) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of nodes and of edges of every graph."""
    of_edge = np.searchsorted(self.offsets, self.edges[:, 1], 'right') - 1
    return np.diff(self.offsets), np.bincount(of_edge, minlength=len(self))

  def fitted(self, batches: Iterable[np.ndarray], packs: int) -> 'GraphSource':
    """The same source with packs as large as the largest of these batches of places needs."""
    nodes, edges = self.sizes()
    largest = np.zeros(2, int)
    for index in batches:
      of_pack = index.reshape(packs, -1)
      need = [nodes[of_pack].sum(1).max(), edges[of_pack].sum(1).max()]
      largest = np.maximum(largest, need)
    # One node more than are real, for the edges that are not.
    budget = -(-(largest[0] + 1) // ROUND) * ROUND, -(-max(largest[1], 1) // ROUND) * ROUND
    return dataclasses.replace(self, packs=packs, budget=tuple(map(int, budget)))

  def collate(self, index: np.ndarray, packs: int | None = None) -> dict[str, np.ndarray]:
    """The batch of the graphs at these places, dealt to packs in order."""
    packs = self.packs if packs is None else packs
    index = np.asarray(index, np.int32).reshape(packs, -1)
    budget = self.budget if any(self.budget) else self.fitted([index], packs).budget
    made = [self._pack(row, *budget) for row in index]
    batch = {name: np.stack([pack[name] for pack in made]) for name in made[0]}
    batch['index'] = index
    if self.label is not None and self.level == 'graph':
      batch['label'] = self.label[index]
    return batch

  def eval_batches(self, batch_size: int, limit: int | None = None):
    """All graphs once, in order; 'valid' bool [rows] says which rows of an embedding count, and
    'label' [rows] is theirs. Rows are nodes, padding among them, or graphs."""
    if self.whole:
      batch = self.collate(np.arange(len(self)))
      valid = batch['nodes'].reshape(-1)
      label = np.full(len(valid), -1, np.int32)
      if self.label is not None:
        label[valid] = self.label
        batch['label'] = label
      yield {**batch, 'valid': valid, 'index': np.arange(len(valid), dtype=np.int32)[None]}
      return
    count = min(len(self), limit or len(self))
    size = -(-min(batch_size, count) // self.packs) * self.packs
    parts = [np.arange(i, min(i + size, count)) for i in range(0, count, size)]
    full = [np.resize(part, size) for part in parts]
    fitted = self.fitted(full, self.packs)
    for part, index in zip(parts, full, strict=True):
      batch = fitted.collate(index)
      batch['valid'] = np.arange(size) < len(part)
      if 'label' in batch:
        batch['label'] = batch['label'].reshape(-1)
      yield batch

  def example(self, rows: int) -> dict[str, np.ndarray]:
    """A batch of the shapes that one of so many graphs has, or where packs do not divide them, a
    small one."""
    if self.whole or rows % self.packs == 0:
      return self.collate(np.resize(np.arange(len(self)), 1 if self.whole else rows))
    return dataclasses.replace(self, budget=(0, 0)).collate(np.arange(1), packs=1)

  def _pack(self, index, num_nodes, num_edges):
    # `first[g]`: where graph g of the pack begins among the pack's nodes.
    counts = np.diff(self.offsets)[index]
    first = np.concatenate([[0], np.cumsum(counts)])
    rows = np.concatenate([np.arange(*self.offsets[g : g + 2]) for g in index])
    begin, end = self._edge_range()
    edges = np.concatenate(
      [self.edges[begin[g] : end[g]] - self.offsets[g] + first[k] for k, g in enumerate(index)]
    )
    if len(rows) >= num_nodes or len(edges) > num_edges:
      raise InputError(
        f'{len(rows)} nodes and {len(edges)} edges in a pack of {num_nodes} and {num_edges}'
      )
    x = np.zeros((num_nodes, self.x.shape[1]), np.float32)
    x[: len(rows)] = self.x[rows]
    graph = np.full(num_nodes, len(index), np.int32)
    graph[: len(rows)] = np.repeat(np.arange(len(index)), counts)
    ends = np.full((num_edges, 2), num_nodes - 1, np.int32)
    ends[: len(edges)] = edges
    pack = {
      'x': x,
      'nodes': np.arange(num_nodes) < len(rows),
      'graph': graph,
      'senders': ends[:, 0],
      'receivers': ends[:, 1],
      'edges': np.arange(num_edges) < len(edges),
      **self.extra,
    }
    if self.level == 'node' and self.label is not None:
      pack['label'] = np.full(num_nodes, -1, np.int32)
      known = self.split.get('train', np.arange(len(rows)))
      pack['label'][known] = self.label[known]
    return pack

  def raw(self) -> np.ndarray:
    """The features of nodes as they are, or their sums over each graph."""
    return self.x if self.whole else np.add.reduceat(self.x, self.offsets[:-1], axis=0)

  def _edge_range(self):
    # By receiver and graphs one after another, so the edges of a graph are together.
    return (
      np.searchsorted(self.edges[:, 1], self.offsets[:-1], 'left'),
      np.searchsorted(self.edges[:, 1], self.offsets[1:], 'left'),
    )


def make(
  edges,
  num_nodes: int,
  *,
  x=None,
  label=None,
  directed: bool = False,
  where: str = 'graph',
  offsets=None,
  **fields,
) -> GraphSource:
  """A source of an edge list, checked and put in order.

  edges: integers [E, 2] from 0 to num_nodes - 1. Loops and repeated edges are dropped, and each
    edge is taken in both directions unless `directed`. Nodes without edges stay.
  x: numbers [num_nodes, F], dense or a SciPy sparse matrix; without it, one-hot degrees up to 63.
  label: integers [num_nodes] or [graphs]; -1 where not known.
  where: what messages call the graph.

  Raises InputError: no nodes, a wrong shape or dtype, an id out of range, features that are not
  finite.
  """
  if num_nodes < 1:
    raise InputError(f'{where} has no nodes, wanted at least 1')
  edges = tidy(checks.edges(edges, num_nodes, where=where), directed=directed)
  offsets = [0, num_nodes] if offsets is None else offsets
  offsets = checks.offsets(offsets, num_nodes, name='offsets', where=where)
  owner = np.searchsorted(offsets, edges, 'right')
  if (owner[:, 0] != owner[:, 1]).any():
    row = int(np.argmax(owner[:, 0] != owner[:, 1]))
    raise InputError(f'{where}: edge {edges[row].tolist()} joins two graphs')
  if (np.diff(offsets) < 1).any():
    raise InputError(f'{where}: graph {int(np.argmin(np.diff(offsets)))} has no nodes')
  if x is None:
    x = degree_features(edges, num_nodes)
  else:
    x = checks.features(x.toarray() if hasattr(x, 'toarray') else x, num_nodes, where=where)
  examples = num_nodes if fields.get('level', 'node') == 'node' else len(offsets) - 1
  if label is not None:
    label = checks.numbers(label, (examples,), name='label', where=where).astype(np.int32)
  for name, places in fields.get('split', {}).items():
    shape = (examples,) if name == 'fold' else ('M',)
    places = checks.numbers(places, shape, name=f'split {name}', where=where)
    if name != 'fold' and not np.isin(places, np.arange(examples)).all():
      raise InputError(f'{where}: split {name} has other than places from 0 to {examples - 1}')
  return GraphSource(x.astype(np.float32), edges, offsets, label=label, **fields)


def tidy(edges: np.ndarray, *, directed: bool = False) -> np.ndarray:
  """int32 [E', 2] by receiver, then sender: no loops, none twice, both directions of each."""
  edges = edges.astype(np.int64)
  edges = edges[edges[:, 0] != edges[:, 1]]
  if not directed:
    edges = np.concatenate([edges, edges[:, ::-1]])
  return np.unique(edges[:, ::-1], axis=0)[:, ::-1].astype(np.int32)


def hold_out_links(source: GraphSource, share: float, *, seed: int = 0, where: str = 'graph'):
  """The source of a graph without a share of its edges, both directions of each.

  Its split has them as 'links' int [M, 2], and as many random pairs that are no edges, 'no_links'.
  Degrees that `make` took as features are those of what is left; `with_degrees` comes after this.

  Raises InputError: the share is not between 0 and 1, there are many graphs, or hyperedges or
  groups of nodes, or no edge is left on one of the sides.
  """
  if source.level != 'node':
    raise InputError(f'data.held_out_links: {where} is many graphs, wanted one')
  if source.extra:
    raise InputError(
      f'data.held_out_links: {where} has {", ".join(source.extra)}, which join the nodes of edges '
      'that are held out, wanted a graph of edges alone'
    )
  pairs, number = np.unique(np.sort(source.edges, 1), axis=0, return_inverse=True)
  count = round(share * len(pairs))
  if not 0 < share < 1 or not 0 < count < len(pairs):
    raise InputError(
      f'data.held_out_links is {share}, of {len(pairs)} edges of {where}: wanted a share between 0 '
      'and 1 that holds some out and leaves some'
    )
  rng, nodes = np.random.default_rng(seed), int(source.offsets[-1])
  if len(pairs) + count > nodes * (nodes - 1) // 2:
    raise InputError(f'data.held_out_links: {where} has fewer than {count} pairs without an edge')
  held = np.zeros(len(pairs), bool)
  held[rng.permutation(len(pairs))[:count]] = True
  others, taken = [], set(map(tuple, pairs.tolist()))
  while len(others) < count:
    a, b = sorted(rng.integers(nodes, size=2).tolist())
    if a != b and (a, b) not in taken:
      taken.add((a, b))
      others.append((a, b))
  split = {**source.split, 'links': pairs[held], 'no_links': np.array(others)}
  left, x = source.edges[~held[number.reshape(-1)]], source.x
  if np.array_equal(x, degree_features(source.edges, nodes)):  # they would tell of those held out
    x = degree_features(left, nodes)
  return dataclasses.replace(source, x=x, edges=left, split=split)


def line_graph(edges, num_nodes: int) -> np.ndarray:
  """int [M, 2]: which of the edges [E, 2] of an undirected graph meet in a node, each pair once.

  The nodes of the new graph are the edges of the old, as road segments that meet at crossings are.
  Raises InputError: a wrong shape or dtype, or an id out of range.
  """
  from scipy import sparse

  edges = checks.edges(edges, num_nodes, where='line_graph')
  number = np.repeat(np.arange(len(edges)), 2)
  ends = sparse.csr_matrix((np.ones(len(number)), (number, edges.ravel())), (len(edges), num_nodes))
  meet = sparse.triu(ends @ ends.T, k=1).tocoo()
  pairs = np.stack([meet.row, meet.col], 1)
  return pairs[np.lexsort(pairs.T[::-1])]


def degree_features(edges: np.ndarray, num_nodes: int, most: int = 63) -> np.ndarray:
  """One-hot in-degrees [num_nodes, most + 1], higher ones as `most`: features of plain graphs."""
  degree = np.minimum(np.bincount(edges[:, 1], minlength=num_nodes), most)
  return np.eye(most + 1, dtype=np.float32)[degree]


def with_degrees(source: GraphSource) -> GraphSource:
  """The source with each node's in-degree, one-hot, behind its other features."""
  count = len(source.x)
  most = int(np.bincount(source.edges[:, 1], minlength=count).max())
  degree = degree_features(source.edges, count, min(most, 63))
  return dataclasses.replace(source, x=np.concatenate([source.x, degree], 1))


def from_scipy(adjacency, **fields) -> GraphSource:
  """A source of a SciPy sparse adjacency matrix [N, N]; weights are not kept. See `make`."""
  from scipy import sparse

  if not sparse.issparse(adjacency):
    raise InputError(f'adjacency is {type(adjacency).__name__}, wanted a SciPy sparse matrix')
  coo = adjacency.tocoo()
  if coo.ndim != 2 or coo.shape[0] != coo.shape[1]:
    raise InputError(f'adjacency has shape {list(coo.shape)}, wanted a square one')
  kept = coo.data != 0
  edges = np.stack([coo.row[kept], coo.col[kept]], 1)
  return make(edges, coo.shape[0], where='adjacency', **fields)


def from_networkx(graph, **fields) -> GraphSource:
  """A source of a networkx graph, nodes numbered in its order. See `make`."""
  number = {node: i for i, node in enumerate(graph.nodes)}
  edges = np.array([(number[a], number[b]) for a, b in graph.edges()], np.int64).reshape(-1, 2)
  directed = fields.pop('directed', graph.is_directed())
  return make(edges, len(number), where='networkx graph', directed=directed, **fields)
