"""Embedded graphs of four kinds: rings, stars, grids and cliques among random edges.

Which kind a graph is shows in how its edges lie, hardly in how many it has. No network, no files.
"""

import numpy as np
from ml_collections import ConfigDict

from ssljax.data import graphs, source
from ssljax.errors import InputError

KINDS = ('ring', 'star', 'grid', 'clique')


def get_config(name: str = 'motifs') -> ConfigDict:
  """The set's size and seed; the same config gives the same graphs."""
  return source.base_config(
    name, preset='tiny', seed=0, num_graphs=400, nodes=(12, 28), noise=0.15, packs=1
  )


def load(config: ConfigDict, split: str) -> graphs.GraphSource | None:
  """The graphs, of degrees as features; there is no test split, the protocols make theirs."""
  check(config)
  if split == 'test':
    return None
  rng = np.random.default_rng(config.seed)
  label, edges, offsets = rng.integers(len(KINDS), size=config.num_graphs), [], [0]
  for kind in label:
    n = int(rng.integers(*config.nodes))
    made = _motif(KINDS[kind], n, rng)
    extra = rng.integers(n, size=(max(1, round(config.noise * len(made))), 2))
    edges.append(np.concatenate([made, extra]) + offsets[-1])
    offsets.append(offsets[-1] + n)
  return graphs.make(
    np.concatenate(edges), offsets[-1], label=label, offsets=np.array(offsets), level='graph',
    classes=KINDS, where='motifs',
  )  # fmt: skip


# Edges of each kind of motif, among its own nodes.
EDGES = {
  'ring': [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0]],
  'star': [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]],
  'grid': [[0, 1], [1, 2], [3, 4], [4, 5], [0, 3], [1, 4], [2, 5]],
  'clique': [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]],
}


def _motif(kind, n, rng):
  """About 1.5 n edges: a random tree that joins all, and motifs of the kind."""
  parts, edges = [np.stack([np.arange(1, n), rng.integers(np.arange(1, n))], 1)], EDGES[kind]
  while sum(map(len, parts)) < 1.5 * n:
    at = rng.choice(n, np.max(edges) + 1, replace=False)
    parts.append(at[np.array(edges)])
  return np.concatenate(parts)


def check(config: ConfigDict) -> None:
  """Raises InputError for a field that no graphs can be made by."""
  source.check_range(config, seed=(0, None), num_graphs=(1, None), noise=(0, None))
  least = 1 + max(np.max(edges) for edges in EDGES.values())
  if len(config.nodes) != 2 or not least <= config.nodes[0] < config.nodes[1]:
    raise InputError(
      f'data.nodes is {tuple(config.nodes)}, wanted (fewest, one more than most), {least} or more'
    )
