"""An embedded graph: communities of nodes that mostly know each other, with weak noisy features.

A stochastic block model with degrees that differ. Features alone classify badly, and so do the
edges of a node: both together do well. No network, no files.
"""

import numpy as np
from ml_collections import ConfigDict

from ssljax.data import graphs, source


def get_config(name: str = 'communities') -> ConfigDict:
  """The graph's size, difficulty and seed; the same config gives the same graph."""
  return source.base_config(
    name, preset='tiny', seed=0, num_nodes=1200, num_classes=6, width=300,
    degree=5.0,  # of a node on average
    inside=0.8,  # share of edges within a community
    words=8,  # features that a node has
    own_words=0.3,  # share of them that are of its community
  )  # fmt: skip


def load(config: ConfigDict, split: str) -> graphs.GraphSource | None:
  """The graph, with 20 training nodes of each class, or in small ones a third of them.

  There is no test split but the nodes'.
  """
  check(config)
  if split == 'test':
    return None
  rng = np.random.default_rng(config.seed)
  n, classes = config.num_nodes, config.num_classes
  label = rng.integers(classes, size=n)
  weight = rng.pareto(2.5, n) + 0.5
  count = int(n * config.degree / 2)
  first = rng.choice(n, count, p=weight / weight.sum())
  second = rng.choice(n, count, p=weight / weight.sum())
  inside = rng.random(count) < config.inside
  for c in range(classes):
    rows = np.flatnonzero(inside & (label[first] == c))
    if not rows.size:  # of few nodes a community may have none
      continue
    members = np.flatnonzero(label == c)
    second[rows] = rng.choice(members, len(rows), p=weight[members] / weight[members].sum())
  x, width = np.zeros((n, config.width), np.float32), config.width // classes
  for _ in range(config.words):
    own = rng.random(n) < config.own_words
    word = np.where(
      own, label * width + rng.integers(width, size=n), rng.integers(config.width, size=n)
    )
    x[np.arange(n), word] = 1
  order = rng.permutation(n)
  each = min(20, n // (3 * classes))
  train = np.concatenate([order[label[order] == c][:each] for c in range(classes)])
  rest = np.setdiff1d(order, train, assume_unique=True)
  rest = rng.permutation(rest)
  return graphs.make(
    np.stack([first, second], 1), n, x=x / np.maximum(x.sum(1, keepdims=True), 1), label=label,
    split={'train': train, 'val': rest[: n // 5], 'test': rest[n // 5 :]}, where='communities',
  )  # fmt: skip


def check(config: ConfigDict) -> None:
  """Raises InputError for a field that no graph can be made by."""
  source.check_range(config, seed=(0, None), num_classes=(1, None), degree=(0, None))
  source.check_range(
    config,
    num_nodes=(3 * config.num_classes, None),  # of which one trains
    width=(config.num_classes, None),
    inside=(0, 1),
    words=(0, None),
    own_words=(0, 1),
  )
