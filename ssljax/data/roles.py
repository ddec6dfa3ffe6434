"""An embedded graph of roles: houses, stars, fans and cliques that hang on a long ring.

Of which kind a node is shows in the shape of what is around it, whatever part of the graph it is
in; nodes have no features but their degrees. Made as in the tests of methods for structural roles
(Donnat et al. 2018, https://arxiv.org/abs/1710.10321, section 4). No network, no files.
"""

import numpy as np
from ml_collections import ConfigDict

from ssljax.data import graphs, source

# Edges of each kind, among its own nodes, of which node 0 is joined to the ring.
SHAPES = {
  'house': [[0, 1], [1, 2], [2, 3], [3, 0], [2, 4], [3, 4]],
  'star': [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]],
  'fan': [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4]],
  'clique': [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]],
}


def get_config(name: str = 'roles') -> ConfigDict:
  """The graph's size, noise and seed; the same config gives the same graph."""
  return source.base_config(
    name, preset='tiny', seed=0,
    shapes=120,  # that hang on the ring, of each kind as many
    gap=3,  # nodes of the ring from one to the next
    noise=0.1,  # further edges between random nodes, by the number of the others
  )  # fmt: skip


def load(config: ConfigDict, split: str) -> graphs.GraphSource | None:
  """The graph; labels are 'ring' and the kinds of shapes. There is no test split.

  Raises InputError for a field that no graph can be made by.
  """
  source.check_range(config, seed=(0, None), shapes=(1, None), gap=(1, None), noise=(0, None))
  if split == 'test':
    return None
  rng = np.random.default_rng(config.seed)
  ring = np.arange(config.shapes * config.gap)
  edges, label = [np.stack([ring, np.roll(ring, -1)], 1)], [np.zeros(len(ring), int)]
  count = len(ring)
  kinds = rng.permutation(np.resize(np.arange(len(SHAPES)), config.shapes))
  for i, kind in enumerate(kinds):
    own = np.array(list(SHAPES.values())[kind])
    edges += [own + count, np.array([[i * config.gap, count]])]
    label.append(np.full(own.max() + 1, 1 + kind))
    count += own.max() + 1
  joined = sum(map(len, edges))
  edges.append(rng.integers(count, size=(round(config.noise * joined), 2)))
  return graphs.make(
    np.concatenate(edges), count, label=np.concatenate(label), classes=('ring', *SHAPES),
    where='roles',
  )  # fmt: skip
