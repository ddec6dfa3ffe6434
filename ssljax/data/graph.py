"""Graphs from a file: an .npz, a folder of a TU data set, or a LINQS .content file.

An .npz of one graph has `edges` [E, 2] and features `x` [N, F], or those as a sparse matrix,
`x_indptr`, `x_indices`, `x_data`, `x_shape`; `y` [N] labels (-1: unknown) and `train_idx`,
`val_idx`, `test_idx` its split. One of many graphs has, with `data.set` before each name if given,
`edges` of nodes numbered through, `node_offsets` [G + 1], `node_label` [N], `y` [G] and `fold`
[G]. A hypergraph has `members`, the nodes of all hyperedges one after another, and `offsets`, where
each begins. A network of several kinds of nodes has `relation_KIND` [M, 2] of each: which node
is joined to which of that kind, as papers are to authors. `NAME_A.txt`,
`NAME_graph_indicator.txt` and so on are a TU folder; `NAME.content` with `NAME.cites` beside it is
how LINQS gives citation graphs. Planetoid's own `ind.*` files are pickled and are not read: nothing
pickled ever is.
"""

import pathlib

import numpy as np
from ml_collections import ConfigDict

from ssljax.data import checks, graphs, npz, source
from ssljax.data.neighbours import NeighbourSource
from ssljax.errors import InputError


def get_config(name: str = 'graph') -> ConfigDict:
  """path: of the file or folder. set: which of several sets a file has. directed: whether edges go
  one way. normalize: whether rows of features are divided by their absolute sum. degrees: whether
  nodes' degrees, one-hot, are added to their features. packs: into how many unions of graphs a
  batch is packed, a multiple of the devices. held_out_links: the share of one graph's edges that
  training does not see and link-v1 asks for. neighbours: of one graph too large for a device, such
  as (10, 5): batch_size nodes a step, ten neighbours of each, five of each of those, see
  `neighbours.NeighbourSource`; () for the whole graph in every step."""
  return source.base_config(
    name, preset='tiny', path='', set='', directed=False, normalize=True, degrees=False, packs=1,
    held_out_links=0.0, neighbours=(),
  )  # fmt: skip


def load(config: ConfigDict, split: str) -> graphs.GraphSource | None:
  """The graph or graphs; there is no test split, the protocols make theirs."""
  if split == 'test':
    return None
  source = _read(config)
  if config.held_out_links:
    source = graphs.hold_out_links(source, config.held_out_links, where=config.path)
  if config.degrees:  # of the edges that are left
    source = graphs.with_degrees(source)
  return NeighbourSource(source, config.neighbours) if config.neighbours else source


def _read(config):
  path = pathlib.Path(config.path)
  if not config.path or not path.exists():
    raise InputError(f'data.path is {config.path!r}, and there is no such file or folder')
  if path.name.startswith('ind.') or any(path.glob('ind.*')):
    raise InputError(
      f"{path}: Planetoid's ind.* files are pickles, which are never loaded, wanted an .npz with "
      'edges, x, y, train_idx, val_idx and test_idx made of them'
    )
  if path.is_dir():
    return _tu_folder(path, config)
  if path.suffix == '.content':
    return _linqs(path, config)
  if path.suffix != '.npz':
    raise InputError(f'data.path is {path}, wanted .npz, .content, or the folder of a TU set')
  prefix = f'{config.set}_' if config.set else ''
  with path.open('rb') as opened, npz.opened_arrays(opened, path) as file:
    names = [name for name in file if name.startswith(prefix)]
    arrays = {name.removeprefix(prefix): npz.array(file, path, name) for name in names}
  return from_arrays(arrays, config, where=str(path))


def from_arrays(arrays: dict, config: ConfigDict, *, where: str) -> graphs.GraphSource:
  """A source of the arrays of an .npz; raises InputError for what does not fit."""
  many, hyper = 'node_offsets' in arrays, 'members' in arrays
  relations = {n: array for n, array in arrays.items() if n.startswith('relation_')}
  if not (hyper or relations or 'edges' in arrays):
    sets = sorted({k.rsplit('_edges', 1)[0] for k in arrays if k.endswith('_edges')})
    sets += sorted({k.rsplit('_members', 1)[0] for k in arrays if k.endswith('_members')})
    hint = f': data.set is one of {", ".join(sets)}' if sets else ''
    raise InputError(f'{where} has no edges{hint or ", wanted edges [E, 2]"}')
  x = _features(arrays, config, where)
  label = _label(arrays, where)
  if many:
    offsets = checks.offsets(arrays['node_offsets'], name='node_offsets', where=where)
    if x is None and 'node_label' in arrays:
      x = _one_hot(arrays['node_label'], where)
      # One label for all says nothing: the degree, as in the papers.
      x = None if x.shape[1] == 1 else x
    return graphs.make(
      arrays.get('edges'), int(offsets[-1]), x=x, label=label, offsets=offsets,
      level='graph', where=where, directed=config.directed,
      split={'fold': arrays['fold']} if 'fold' in arrays else {},
    )  # fmt: skip
  split = {n: arrays[f'{n}_idx'] for n in ('train', 'val', 'test') if f'{n}_idx' in arrays}
  if hyper:
    return _hypergraph(arrays, x, label, where)
  extra = {}
  if relations:
    if x is None:
      raise InputError(f'{where} has relations and no features of the nodes, wanted x')
    extra, edges = _meta_paths(relations, len(x), where)
    edges = arrays.get('edges', edges)
  else:
    edges = arrays['edges']
  count = len(x) if x is not None else len(label) if label is not None else None
  if count is None:
    edges = checks.edges(edges, np.iinfo(np.int32).max, where=where)
    count = int(edges.max(initial=-1)) + 1
  return graphs.make(
    edges, count, x=x, label=label, split=split, where=where, directed=config.directed, extra=extra
  )


def _meta_paths(relations, count, where):
  """The groups of nodes that each relation makes, as `models.metapath` takes them, and the edges
  between all nodes of a group."""
  for name, pairs in relations.items():
    pairs = checks.numbers(pairs, ('M', 2), name=name, where=where)
    if not len(pairs) or pairs.min() < 0 or pairs[:, 0].max() >= count:
      raise InputError(f'{where}: {name} joins others than nodes from 0 to {count - 1}')
  longest = max(map(len, relations.values()))
  members, groups = np.full((2, len(relations), longest), -1, np.int32)
  joined = []
  for i, (_, pairs) in enumerate(sorted(relations.items())):
    _, number = np.unique(pairs[:, 1], return_inverse=True)
    members[i, : len(pairs)], groups[i, : len(pairs)] = pairs[:, 0], number
    order = np.argsort(number, kind='stable')
    cuts = np.flatnonzero(np.diff(number[order])) + 1
    joined += [_all_pairs(nodes) for nodes in np.split(pairs[order, 0], cuts)]
  return {'path_member': members, 'path_group': groups}, np.concatenate(joined)


def _all_pairs(nodes):
  return np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)


def _hypergraph(arrays, x, label, where):
  if x is None:
    raise InputError(f'{where} is a hypergraph without features, wanted x')
  members = checks.numbers(arrays['members'], ('M',), name='members', where=where)
  offsets = checks.offsets(arrays.get('offsets'), len(members), name='offsets', where=where)
  sizes = np.diff(offsets)
  if not len(sizes) or (sizes < 1).any() or members.min() < 0 or members.max() >= len(x):
    raise InputError(f'{where}: members and offsets do not describe hyperedges of {len(x)} nodes')
  of = np.repeat(np.arange(len(sizes)), sizes)
  # Both as the incidence (node, hyperedge) and as the graph that joins all members of one.
  pairs = [_all_pairs(nodes) for nodes in np.split(members, offsets[1:-1])]
  split = {}
  if 'split1_train' in arrays:
    train, test = (
      checks.numbers(arrays.get(name), ('M',), name=name, where=where)
      for name in ('split1_train', 'split1_test')
    )
    held_out = np.arange(len(train)) % 5 == 0  # of the file's split, which has no validation nodes
    split = {'train': train[~held_out], 'val': train[held_out], 'test': test}
  return graphs.make(
    np.concatenate(pairs), len(x), x=x, label=label, split=split, where=where,
    extra={'member': members.astype(np.int32), 'hyperedge': of.astype(np.int32)},
  )  # fmt: skip


def _label(arrays, where):
  if 'y' not in arrays:
    return None
  y = checks.numbers(arrays['y'], ('N',), name='y', where=where, kinds='iub')
  return y.astype(np.int64)


def _one_hot(label, where):
  label = checks.numbers(label, ('N',), name='node_label', where=where)
  if label.min(initial=0) < 0:
    raise InputError(f'{where}: node_label has the value {label.min()}, wanted 0 or more')
  return np.eye(int(label.max(initial=0)) + 1, dtype=np.float32)[label]


def _features(arrays, config, where):
  x = arrays.get('x')
  if x is None and 'x_indptr' in arrays:
    from scipy.sparse import csr_matrix

    data, indices, indptr, shape = (
      checks.numbers(arrays.get(f'x_{name}'), size, name=f'x_{name}', where=where, kinds=kinds)
      for name, size, kinds in (
        ('data', ('M',), 'fiub'), ('indices', ('M',), 'iu'), ('indptr', ('N + 1',), 'iu'),
        ('shape', (2,), 'iu'),
      )
    )  # fmt: skip
    try:
      x = csr_matrix((data, indices, indptr), shape=tuple(shape))
      x.check_format()  # SciPy would read beyond its arrays
      x = x.toarray()
    except ValueError as error:
      raise InputError(f'{where}: x_indptr, x_indices and x_data are no sparse matrix') from error
  return None if x is None else _scaled(x, config, where)


def _scaled(x, config, where):
  x = checks.features(x, 'N', where=where)
  if not config.normalize:
    return x
  return x / np.maximum(np.abs(x).sum(1, keepdims=True), 1e-12)


def _tu_folder(path, config):
  name = path.name

  def read(what, kind=np.int64, axes=1):
    file = path / f'{name}_{what}.txt'
    try:
      return np.loadtxt(file, delimiter=',', dtype=kind, ndmin=axes) if file.exists() else None
    except ValueError as error:
      raise InputError(f'{file} is no list of numbers ({error})') from error

  edges, of_node = read('A', axes=2), read('graph_indicator')
  if edges is None or of_node is None:
    raise InputError(f'{path} has no {name}_A.txt or {name}_graph_indicator.txt, wanted a TU set')
  if (
    of_node.ndim > 1
    or not len(of_node)
    or of_node[0] != 1
    or not np.isin(np.diff(of_node), (0, 1)).all()
  ):
    raise InputError(f'{path}/{name}_graph_indicator.txt does not count graphs from 1, in order')
  counts = np.bincount(of_node - 1)
  label, nodes = read('graph_labels'), read('node_labels')
  arrays = {'edges': edges - 1, 'node_offsets': np.concatenate([[0], np.cumsum(counts)])}
  if label is not None:
    arrays['y'] = np.unique(label, return_inverse=True)[1]
  if nodes is not None:
    arrays['node_label'] = np.unique(nodes, return_inverse=True)[1]
  features = read('node_attributes', np.float32, axes=2)
  if features is not None and nodes is None:
    arrays['x'] = features
  return from_arrays(arrays, config, where=str(path))


def _linqs(path, config):
  rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
  cites = path.with_suffix('.cites')
  if not rows or not cites.is_file():
    raise InputError(f'{path} is empty, or there is no {cites.name} beside it')
  number = {row[0]: i for i, row in enumerate(rows)}
  try:
    x = np.array([row[1:-1] for row in rows], np.float32)
  except ValueError as error:
    raise InputError(f'{path}: wanted a name, numbers as many in each line, and a class') from error
  label = np.unique([row[-1] for row in rows], return_inverse=True)[1]
  pairs = [line.split() for line in cites.read_text().splitlines() if line.strip()]
  # Papers that are cited and not in the set are left out.
  bad = next((i for i, pair in enumerate(pairs) if len(pair) != 2), None)
  if bad is not None:
    raise InputError(f'{cites}: line {bad + 1} is {" ".join(pairs[bad])!r}, wanted two names')
  edges = [(number[a], number[b]) for a, b in pairs if a in number and b in number]
  x = _scaled(x, config, str(path))
  return graphs.make(np.array(edges, np.int64), len(rows), x=x, label=label, where=str(path))
