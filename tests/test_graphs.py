"""Graphs: sources, padding, views, walks, and what is refused."""

import dataclasses
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest
import small

from ssljax import data, embed, evaluate, losses, main, models, ops
from ssljax.augment import centrality, diffusion, graph
from ssljax.data import communities, graphs, motifs, neighbours, roles
from ssljax.data import graph as graph_files
from ssljax.embedding._graph import from_edges
from ssljax.errors import InputError
from ssljax.evaluators import fine_tune, links
from ssljax.evaluators import graphs as probes
from ssljax.methods.graph import graphcl
from ssljax.models import graph as graph_models
from ssljax.models import graph_heads
from ssljax.models.graph_layers import GAT, GCN

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATH = np.array([[0, 1], [1, 2], [2, 3], [3, 4]])


def one(edges=PATH, nodes=5, room=0, **fields):
  """A batch of one graph, padded to `room` nodes and edges more than it needs."""
  source = graphs.make(edges, nodes, **fields)
  source = source.fitted([np.arange(1)], 1)
  budget = tuple(n + room for n in source.budget)
  return dataclasses.replace(source, budget=budget).collate(np.arange(1))


# Sources.


def test_edges_go_both_ways_once_and_not_in_loops():
  messy = np.array([[0, 1], [1, 0], [0, 1], [2, 2], [3, 1]])
  source = graphs.make(messy, 5)
  assert source.edges.tolist() == [[1, 0], [0, 1], [3, 1], [1, 3]]
  directed = graphs.make(messy, 5, directed=True)
  assert directed.edges.tolist() == [[1, 0], [0, 1], [3, 1]]
  assert len(source.x) == 5  # the node without edges stays
  np.testing.assert_array_equal(source.x.argmax(1), [1, 2, 0, 1, 0])


@pytest.mark.parametrize(
  'edges, nodes, fields, wanted',
  [
    (PATH, 4, {}, r'edge 3 joins \[3, 4\], wanted nodes from 0 to 3'),
    (PATH - 1, 5, {}, r'edge 0 joins \[-1, 0\]'),
    (PATH.astype(float), 5, {}, r'edges is float64 \[4, 2\], wanted whole numbers'),
    (PATH, 0, {}, 'no nodes, wanted at least 1'),
    (PATH, 5, {'x': np.full((5, 2), np.nan)}, 'x of node 0 is NaN or infinite'),
    (PATH, 5, {'x': np.ones((4, 2))}, r'x is float64 \[4, 2\], wanted numbers \[5, F\]'),
    (PATH, 5, {'label': np.zeros(4, int)}, r'label is int64 \[4\], wanted whole numbers \[5\]'),
    (PATH, 5, {'split': {'test': [5]}}, 'split test has other than places from 0 to 4'),
    (PATH, 5, {'offsets': [0, 2, 5], 'level': 'graph'}, r'edge \[2, 1\] joins two graphs'),
    (PATH, 5, {'offsets': [0, 5, 5], 'level': 'graph'}, 'graph 1 has no nodes'),
    (PATH, 5, {'offsets': [1, 5], 'level': 'graph'}, 'offsets does not rise from 0 to 5'),
    (PATH, 5, {'offsets': [0, 4], 'level': 'graph'}, 'offsets does not rise from 0 to 5'),
    (PATH, 5, {'split': {'train': [0.0]}}, r'split train is float64 \[1\], wanted whole numbers'),
    (PATH, 5, {'split': {'fold': [0, 1]}}, r'split fold is int64 \[2\], wanted whole .* \[5\]'),
  ],
)
def test_bad_graphs_are_refused(edges, nodes, fields, wanted):
  with pytest.raises(InputError, match=wanted):
    graphs.make(edges, nodes, **fields)


ONE = {'edges': PATH, 'x': np.eye(5)}
MANY = {'edges': PATH[:1], 'node_offsets': np.array([0, 2, 4]), 'y': np.array([0, 1])}
HYPER = {'members': np.array([0, 1, 2, 0]), 'offsets': np.array([0, 2, 4]), 'x': np.eye(3)}
SPARSE = {
  'x_data': np.ones(2), 'x_indices': np.array([0, 1]), 'x_indptr': np.array([0, 1, 2, 2, 2, 2]),
  'x_shape': np.array([5, 2]), 'edges': PATH,
}  # fmt: skip


@pytest.mark.parametrize(
  'good, wrong, wanted',
  [
    ({}, {'edges': np.zeros((0, 2), int)}, 'file has no nodes, wanted at least 1'),
    ({}, {'edges': np.array([[0.0, np.nan]])}, r'edges is float64 \[1, 2\], wanted whole'),
    ({}, {'edges': np.array([['a', 'b']])}, r'edges is <U1 \[1, 2\], wanted whole'),
    ({}, {'edges': np.array([[-1, 1]])}, r'edge 0 joins \[-1, 1\]'),
    (ONE, {'x': np.ones(5)}, r'x is float64 \[5\], wanted numbers \[N, F\]'),
    (ONE, {'x': np.full((5, 2), 'a')}, r'x is <U1 \[5, 2\], wanted numbers'),
    (ONE, {'x': np.diag([1, np.inf, 1, 1, 1])}, 'x of node 1 is NaN or infinite'),
    (ONE, {'x': np.ones((4, 2))}, r'edge 3 joins \[3, 4\], wanted nodes from 0 to 3'),
    (ONE, {'y': np.full(5, 0.7)}, r'y is float64 \[5\], wanted whole numbers'),
    (ONE, {'y': np.full(5, np.nan)}, r'y is float64 \[5\], wanted whole numbers'),
    (ONE, {'train_idx': np.array([0.0, 1.0])}, 'split train is float64'),
    (SPARSE, {'x_indices': None}, 'has no x_indices'),
    (SPARSE, {'x_data': np.array(['a', 'b'])}, 'x_data is <U1'),
    (SPARSE, {'x_indices': np.array([0, 9])}, 'are no sparse matrix'),
    (MANY, {'edges': None, 'members': np.array([0])}, 'has no edges'),
    (MANY, {'node_label': np.zeros(4)}, r'node_label is float64 \[4\], wanted whole numbers'),
    (MANY, {'node_label': np.array([0, 1, -1, 0])}, 'node_label has the value -1'),
    (MANY, {'node_offsets': np.array([], int)}, 'node_offsets does not rise from 0'),
    (MANY, {'node_offsets': np.array([1, 2, 4])}, 'node_offsets does not rise from 0'),
    (MANY, {'node_offsets': np.array([0.0, 4.0])}, 'node_offsets is float64'),
    (HYPER, {'offsets': None}, 'has no offsets'),
    (HYPER, {'offsets': np.array([], int)}, 'offsets does not rise from 0 to 4'),
    (HYPER, {'offsets': np.array([1, 2, 4])}, 'offsets does not rise from 0 to 4'),
    (HYPER, {'offsets': np.array([0, 0, 4])}, 'do not describe hyperedges of 3 nodes'),
    (HYPER, {'members': np.array([0, 1, 2, 3])}, 'do not describe hyperedges of 3 nodes'),
    (HYPER, {'members': np.zeros(4)}, 'members is float64'),
    (HYPER, {'split1_train': np.array([0])}, 'has no split1_test'),
  ],
)
def test_bad_arrays_of_files_are_refused(good, wrong, wanted):
  c = data.get_config('graph')
  if good:
    graph_files.from_arrays(good, c, where='file')
  arrays = {n: array for n, array in (good | wrong).items() if array is not None}
  with pytest.raises(InputError, match=wanted):
    graph_files.from_arrays(arrays, c, where='file')


@pytest.mark.parametrize(
  'make, wanted',
  [
    (lambda: graphs.line_graph([[0, 5]], 5), r'edge 0 joins \[0, 5\], wanted nodes from 0 to 4'),
    (lambda: graphs.line_graph([[0, -1]], 5), r'edge 0 joins \[0, -1\]'),
    (lambda: from_edges([[0, 5]], 5), r'edges: int64 \[1, 2\] seen, .* from 0 to 4 wanted'),
    (lambda: from_edges([[-1, 0]], 5), 'from 0 to 4 wanted'),
    (lambda: from_edges([[0.0, 1.5]], 5), 'edges: float64'),
    (lambda: graphs.from_scipy(np.eye(3)), 'adjacency is ndarray, wanted a SciPy sparse matrix'),
  ],
)
def test_bad_edge_lists_are_refused(make, wanted):
  with pytest.raises(InputError, match=wanted):
    make()


def test_one_node_and_no_edges_work():
  batch = one(np.zeros((0, 2), int), 1, x=np.ones((1, 3)))
  encoder = models.make(models.get_config('gcn'), dtype=jnp.float32)
  params, state = encoder.init(small.key(), batch)
  outputs, _ = encoder.apply(params, state, batch, train=False)
  assert np.isfinite(outputs['features']).all() and outputs['features'][0, 0].any()


def test_packs_hold_the_graphs_and_no_more():
  source = small.graph_source('graph')
  batch = source.collate(np.arange(16))
  nodes, edges = source.sizes()
  assert batch['x'].shape[:2] == batch['nodes'].shape == (8, source.budget[0])
  assert batch['nodes'].sum() == nodes[:16].sum() and batch['edges'].sum() == edges[:16].sum()
  for p in range(8):
    for g in range(2):
      i = 2 * p + g
      mine = np.flatnonzero(batch['graph'][p] == g)
      assert len(mine) == nodes[i] and batch['index'][p, g] == i
      rows = slice(*source.offsets[i : i + 2])
      np.testing.assert_array_equal(batch['x'][p][mine], source.x[rows])
      real = batch['edges'][p] & np.isin(batch['receivers'][p], mine)
      pairs = np.stack([batch['senders'][p][real], batch['receivers'][p][real]], 1) - mine[0]
      own = source.edges[np.isin(source.edges[:, 1], np.arange(rows.start, rows.stop))]
      np.testing.assert_array_equal(pairs, own - rows.start)
  last = source.budget[0] - 1
  assert (batch['receivers'][~batch['edges']] == last).all() and not batch['nodes'][:, last].any()
  with pytest.raises(InputError, match='nodes and'):
    dataclasses.replace(source, budget=(64, 64)).collate(np.arange(16))


def test_labels_that_training_may_see_are_the_training_nodes():
  c = communities.get_config()
  c.num_nodes = 200
  source = communities.load(c, 'train')
  label = source.collate(np.arange(1))['label'][0]
  seen = np.flatnonzero(label >= 0)
  np.testing.assert_array_equal(seen, np.sort(source.split['train']))
  np.testing.assert_array_equal(label[seen], source.label[seen])


def test_files_of_graphs(tmp_path):
  rng = np.random.default_rng(0)
  x, y = rng.random((6, 4)).astype(np.float32), np.arange(6) % 2
  edges = np.array([[0, 1], [2, 3], [4, 5], [0, 5]])
  np.savez(tmp_path / 'one.npz', edges=edges, x=x, y=y, train_idx=[0, 1], val_idx=[2], test_idx=[3])
  c = data.get_config('graph')
  c.path = str(tmp_path / 'one.npz')
  one = data.load(c, 'train')
  np.testing.assert_allclose(one.x.sum(1), 1, rtol=1e-6)
  assert one.level == 'node' and sorted(one.split) == ['test', 'train', 'val']

  folder = tmp_path / 'TINY'
  folder.mkdir()
  (folder / 'TINY_A.txt').write_text('1, 2\n2, 1\n3, 4\n')
  (folder / 'TINY_graph_indicator.txt').write_text('1\n1\n2\n2\n2\n')
  (folder / 'TINY_graph_labels.txt').write_text('-1\n1\n')
  c.path = str(folder)
  many = data.load(c, 'train')
  assert many.level == 'graph' and len(many) == 2 and many.label.tolist() == [0, 1]
  assert many.edges.tolist() == [[1, 0], [0, 1], [3, 2], [2, 3]]

  c.degrees = True
  more = data.load(c, 'train').x
  np.testing.assert_array_equal(more[:, : many.x.shape[1]], many.x)
  assert more[:, many.x.shape[1] :].argmax(1).tolist() == [1, 1, 1, 1, 0]
  c.degrees = False

  (tmp_path / 'p.content').write_text('a 1 0 x\nb 0 1 y\nc 1 1 x\n')
  (tmp_path / 'p.cites').write_text('a b\nc a\nz a\n')
  c.path = str(tmp_path / 'p.content')
  cited = data.load(c, 'train')
  assert cited.edges.tolist() == [[1, 0], [2, 0], [0, 1], [0, 2]] and cited.label.tolist() == [
    0,
    1,
    0,
  ]

  damaged = (tmp_path / 'one.npz').read_bytes()[:300]
  for name, text, wanted in (
    ('none.npz', None, 'no such file'),
    ('one.txt', b'hello', 'wanted .npz'),
    ('bad.npz', b'hello', 'pickled|damaged'),
    ('cut.npz', damaged, 'damaged'),
    ('q.content', b'a 1 0 x\nb 0 y\n', 'as many in each line'),
    ('p.cites', b'a b\nc\n', "line 2 is 'c', wanted two names"),
  ):
    if text:
      (tmp_path / name).write_bytes(text)
    (tmp_path / 'q.cites').write_text('a b\n')
    c.path = str(tmp_path / name.replace('p.cites', 'p.content'))
    with pytest.raises(InputError, match=wanted):
      data.load(c, 'train')
  c.path = str(folder)
  (folder / 'TINY_graph_indicator.txt').write_text('1\n2\n1\n2\n2\n')
  with pytest.raises(InputError, match='does not count graphs from 1, in order'):
    data.load(c, 'train')


def test_planetoid_files_are_said_to_be_pickles(tmp_path):
  (tmp_path / 'ind.cora.x').write_bytes(b'')
  c = data.get_config('graph')
  for path in (tmp_path, tmp_path / 'ind.cora.x'):
    c.path = str(path)
    with pytest.raises(
      InputError, match=r'ind\.\* files are pickles, .* wanted an \.npz with edges'
    ):
      data.load(c, 'train')


def test_features_of_any_sign_are_scaled_by_their_size():
  x = np.array([[1.0, -3.0], [-2.0, 2.0], [0.0, 0.0]])
  arrays = {'edges': np.array([[0, 1]]), 'x': x}
  source = graph_files.from_arrays(arrays, data.get_config('graph'), where='three nodes')
  np.testing.assert_allclose(source.x, [[0.25, -0.75], [-0.5, 0.5], [0, 0]])


def test_real_files(shared_data):
  c = data.get_config('graph')
  c.path = str(shared_data('cora.npz'))
  cora = data.load(c, 'train')
  assert (
    cora.x.shape == (2708, 1433) and len(cora.edges) == 2 * 5278 and len(cora.split['test']) == 1000
  )
  c.path, c.set = str(shared_data('tu_graphs.npz')), 'MUTAG'
  assert len(data.load(c, 'train')) == 188
  c.set = ''
  with pytest.raises(InputError, match='data.set is one of .*MUTAG'):
    data.load(c, 'train')
  c.path, c.set = str(shared_data('hypergraphs.npz')), 'cora_cocitation'
  hyper = data.load(c, 'train')
  assert hyper.extra['hyperedge'].max() == 1578


def test_networkx_and_scipy_graphs():
  from scipy import sparse

  matrix = sparse.coo_matrix((np.ones(4), PATH.T), shape=(5, 5))
  source = graphs.from_scipy(matrix)
  np.testing.assert_array_equal(source.edges, graphs.make(PATH, 5).edges)
  same = graphs.from_networkx(networkx.path_graph(5))
  np.testing.assert_array_equal(same.edges, source.edges)


def test_line_graph():
  edges = np.array([[0, 1], [1, 2], [2, 0], [2, 3], [4, 5]])
  assert graphs.line_graph(edges, 6).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
  line = networkx.line_graph(networkx.Graph(edges.tolist()))
  place = {frozenset(e): i for i, e in enumerate(edges.tolist())}
  wanted = {tuple(sorted(place[frozenset(e)] for e in pair)) for pair in line.edges}
  assert {tuple(e) for e in graphs.line_graph(edges, 6).tolist()} == wanted


# Runs.


@pytest.mark.parametrize('arg, packs', [('grace,communities', 0), ('infograph,motifs', 4)])
def test_a_run_from_data_to_embeddings(arg, packs, tmp_path, capsys):
  flags = ['--config.steps=4', '--config.checkpoint_every=2', '--config.compilation_cache=off']
  flags += ['--config.mesh.data=4', '--config.batch_size=16', f'--config.data.packs={packs}']
  if not packs:
    flags = flags[:4] + ['--config.data.num_nodes=150']
  run = ['ssljax', f'--config={ROOT}/configs/default.py:{arg}', f'--workdir={tmp_path}/run']
  main.main([*run, *flags])
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  found = [n for n in summary['metrics'] if n.endswith('/learned')]
  wanted = {'graph-svm-v2'} if packs else {'node-public-v1', 'node-random-v1'}
  assert {n.removesuffix('/learned') for n in found} == wanted  # those that fit, not told
  assert found and all(n.replace('learned', 'raw') in summary['metrics'] for n in found)
  assert (tmp_path / 'run' / 'report.html').stat().st_size > 10_000
  evaluate.main(['evaluate', f'--workdir={tmp_path}/run'])
  again = json.loads((tmp_path / 'run' / 'evaluation.json').read_text())['metrics']
  np.testing.assert_allclose(again[found[0]], summary['metrics'][found[0]], atol=0.02)
  embed.main(['embed', f'--workdir={tmp_path}/run', f'--out={tmp_path}/z.npz'])
  with np.load(tmp_path / 'z.npz') as file:
    assert len(file['features']) == len(file['label']) == (400 if packs else 150)
    assert file['features'].std(0).max() > 0
  capsys.readouterr()
  main.main([*run, *flags, '--dry_run'])
  assert 'flops per step' in capsys.readouterr().out


# Encoders.


@pytest.mark.parametrize('kind', ['gcn', 'gat', 'gin', 'sage', 'supergat', 'gain'])
def test_encoders_follow_their_nodes(kind):
  """Nodes in another order give the same features in that order."""
  rng = np.random.default_rng(0)
  edges = rng.integers(0, 12, (30, 2))
  x, order = rng.normal(size=(12, 5)), rng.permutation(12)
  place = np.argsort(order)
  first, second = one(edges, 12, x=x), one(place[edges], 12, x=x[order])
  c = models.get_config(kind)
  c.update(dim=8, heads=2)
  encoder = models.make(c, dtype=jnp.float32)
  params, state = encoder.init(small.key(), first)
  a, b = (encoder.apply(params, state, g, train=False)[0] for g in (first, second))
  np.testing.assert_allclose(b['features'][0, :12], a['features'][0, order], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(b['pooled'], a['pooled'], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', graph_models.VARIANTS)
def test_edges_taken_away_are_not_there(kind):
  """A view takes edges away by their mask and leaves their ends."""
  rng = np.random.default_rng(0)
  x, edges = rng.normal(size=(12, 5)), graphs.tidy(rng.integers(0, 12, (30, 2)))
  edges = edges[edges[:, 0] < edges[:, 1]]
  gone = rng.random(len(edges)) < 0.4
  whole, part = one(edges, 12, x=x), one(edges[~gone], 12, x=x)
  ends = np.stack([whole['senders'][0], whole['receivers'][0]], 1)
  lost = (np.sort(ends)[:, None] == edges[gone]).all(-1).any(1)
  view = {**whole, 'edges': whole['edges'] & ~lost}
  assert view['edges'].sum() == part['edges'].sum() < whole['edges'].sum()
  c = models.get_config(kind)
  c.update(dim=8, heads=2)
  encoder = models.make(c, dtype=jnp.float32)
  params, state = encoder.init(small.key(), whole)
  seen, wanted = (encoder.apply(params, state, g, train=False)[0]['features'] for g in (view, part))
  np.testing.assert_allclose(seen, wanted, rtol=1e-5, atol=1e-6)


def test_sage_is_its_matrix():
  """A mean of neighbours by the weights of their edges; 0 for a node without any."""
  x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  batch = one(PATH[:3], x=x)
  weights = np.random.default_rng(1).random((*batch['edges'].shape, 1)).astype(np.float32)
  c = models.get_config('sage')
  c.update(dim=4, depth=1, activation='none')
  encoder = models.make(c, dtype=jnp.float32)
  params, state = encoder.init(small.key(), batch)
  matrix, real = np.zeros((5, 5)), batch['edges'][0]
  ends = (batch['receivers'][0][real], batch['senders'][0][real])
  matrix[ends] = weights[0, real, 0]
  mean = matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-9) @ x
  own, others = (params['layer_0'][name] for name in ('own', 'neighbours'))
  wanted = x @ own['kernel'] + own['bias'] + mean @ others['kernel']
  seen = encoder.apply(params, state, batch, train=False, weights=weights)[0]['features'][0, :5]
  np.testing.assert_allclose(seen, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  'kind, option, value',
  [
    ('gat', 'weights', np.ones((1, 64, 2))),
    ('supergat', 'diffusion', (3, 0.2)),
    ('gain', 'weights', np.ones((1, 64, 2))),
    ('sage', 'diffusion', (3, 0.2)),
    ('gcn', 'pairs', np.zeros((1, 4, 2), int)),
  ],
)
def test_options_that_layers_do_not_use_are_refused(kind, option, value):
  encoder, batch = models.make(models.get_config(kind), dtype=jnp.float32), one()
  layer = graph_models.VARIANTS[kind]['layer']
  with pytest.raises(
    InputError, match=f"encoder.layer is '{layer}', which takes no {option}, want"
  ):
    jax.eval_shape(lambda rng: encoder.init(rng, batch, **{option: value}), small.key())


def test_gcn_is_its_matrix():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(5, 3)).astype(np.float32)
  batch = one(x=x)
  c = models.get_config('gcn')
  c.update(dim=4, depth=1, activation='none')
  encoder = models.make(c, dtype=jnp.float32)
  params, state = encoder.init(small.key(), batch)
  weight = params['layer_0']['linear']['kernel']
  loops = np.eye(5)
  loops[PATH[:, 0], PATH[:, 1]] = loops[PATH[:, 1], PATH[:, 0]] = 1
  scale = loops.sum(1) ** -0.5
  matrix = scale[:, None] * loops * scale
  seen = encoder.apply(params, state, batch, train=False)[0]['features'][0, :5]
  np.testing.assert_allclose(seen, matrix @ x @ weight, rtol=1e-5, atol=1e-6)
  far = encoder.apply(params, state, batch, train=False, diffusion=(200, 0.2))[0]['features']
  wanted = 0.2 * np.linalg.inv(np.eye(5) - 0.8 * matrix) @ x @ weight
  np.testing.assert_allclose(far[0, :5], wanted, rtol=1e-4, atol=1e-6)


def test_attention_begins_as_wide_as_in_the_authors_libraries():
  batch = small.graph_source('node').collate(np.arange(1))
  heads, width = 4, 64
  for init, weights, attention in (
    # Glorot's uniform; DGL takes attention vectors [1, H, dim] for convolutions of H channels.
    ('glorot', 2 / (30 + heads * width), 2 / (heads + width)),
    ('glorot_relu', 4 / (30 + heads * width), 4 / (heads * width + width)),
  ):
    params = GAT(width, heads, kernel_init=init).init(small.key(), batch['x'], batch)['params']
    np.testing.assert_allclose(params['linear']['kernel'].var(), weights, rtol=0.05)
    for name in ('att_l', 'att_r'):
      np.testing.assert_allclose(params[name].var(), attention, rtol=0.3)


def test_gin_is_its_matrix():
  """With the node itself counted twice and PReLU between its layers, as GraphMAE has it."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(5, 3)).astype(np.float32)
  batch = one(x=x)
  c = models.get_config('gin')
  c.update(dim=4, depth=1, activation='prelu', last_activation=False, norm='')
  c.update(mlp_hidden=6, own=2.0)
  encoder = models.make(c, dtype=jnp.float32)
  params, state = encoder.init(small.key(), batch)
  first, second = (params['layer_0'][name] for name in ('linear_0', 'linear_1'))
  assert first['kernel'].shape == (3, 6)
  matrix = 2 * np.eye(5)
  matrix[PATH[:, 0], PATH[:, 1]] = matrix[PATH[:, 1], PATH[:, 0]] = 1
  inside = matrix @ x @ first['kernel'] + first['bias']
  wanted = np.where(inside > 0, inside, inside / 4) @ second['kernel'] + second['bias']
  seen = encoder.apply(params, state, batch, train=False)[0]['features'][0, :5]
  np.testing.assert_allclose(seen, wanted, rtol=1e-5, atol=1e-6)


def test_diffusion_equals_the_authors(golden):
  compared = 0
  for case in golden('mvgrl'):
    if str(case['hp']['kind']) == 'diffusion':
      adjacency, alpha = case['in']['adjacency'], float(case['hp']['alpha'])
      with jax.enable_x64(True):
        seen = diffusion.ppr(jnp.asarray(adjacency), alpha, self_loop=bool(case['hp']['self_loop']))
        heat = diffusion.heat(jnp.asarray(adjacency), float(case['hp']['t']), entrywise=True)
      np.testing.assert_allclose(seen, case['out']['ppr'], rtol=1e-9)
      np.testing.assert_allclose(heat, case['out']['heat'], rtol=1e-9)
      compared += 1
  assert compared


def mvgrl_of_nodes(case):
  """(loss, logits) and their gradients of the authors' model of nodes, from our parts."""
  w, given = case['w'], case['in']
  count = len(given['permutation'])
  pairs = np.indices((count, count)).reshape(2, 1, -1)
  batch = {
    'receivers': pairs[0], 'senders': pairs[1], 'edges': np.ones(pairs[0].shape, bool),
    'index': np.zeros((1, 1), int), 'graph': np.zeros((1, count), int),
  }  # fmt: skip
  matrices = given['adjacency_norm'], given['diffusion']
  layer = GCN(w['gcn1.bias'].shape[0], normalized=False)
  discriminator = graph_heads.bilinear()

  def loss(features, w):
    def encode(i, x):
      graph = {**batch, 'weight': matrices[i].reshape(1, -1)}
      name = f'gcn{i + 1}'
      params = {'linear': {'kernel': w[f'{name}.fc.weight'].T}, 'bias': w[f'{name}.bias']}
      y = layer.apply({'params': params}, x, graph)
      return jnp.where(y >= 0, y, w[f'{name}.act.weight'] * y)

    def scores(h):
      params = {'weight': w['disc.f_k.weight'][0], 'bias': w['disc.f_k.bias'][0]}
      pairs = ((h[1], real[0]), (h[0], real[1]))
      return [
        discriminator.apply(params, {}, nodes, jax.nn.sigmoid(ops.readout(of, batch, 'mean')),
                            train=True)[0][0, :, 0]
        for nodes, of in pairs
      ]  # fmt: skip

    real = [encode(i, features) for i in (0, 1)]
    corrupted = [encode(i, features[:, given['permutation']]) for i in (0, 1)]
    positive, negative = (jnp.stack(scores(h), 1) for h in (real, corrupted))
    return losses.dgi(positive, negative), jnp.concatenate([positive.T, negative.T]).reshape(-1)

  arrays = jnp.asarray(given['features']), {name: jnp.asarray(x) for name, x in w.items()}
  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(*arrays)


def test_mvgrl_of_nodes_equals_the_authors(golden):
  (case,) = [case for case in golden('mvgrl') if str(case['hp']['kind']) == 'node']
  with jax.enable_x64(True):
    (value, logits), grads = mvgrl_of_nodes(case)
  near = {'rtol': 1e-6, 'atol': 1e-10}
  np.testing.assert_allclose(value, case['out']['loss'], **near)
  np.testing.assert_allclose(logits, case['out']['logits'][0], **near)
  np.testing.assert_allclose(grads[0], case['grad']['features'], **near)
  for name, gradient in grads[1].items():
    np.testing.assert_allclose(gradient, case['grad'][f'w.{name}'], **near, err_msg=name)


def test_summaries_know_each_other_as_in_mvgrl(golden):
  (case,) = [case for case in golden('mvgrl') if str(case['hp']['kind']) == 'graph']
  with jax.enable_x64(True):
    arrays = [jnp.asarray(case['in'][name]) for name in ('global', 'global2')]
    value, grads = jax.value_and_grad(losses.global_global, argnums=(0, 1))(*arrays)
  np.testing.assert_allclose(value, case['out']['loss_global_global'], rtol=1e-6)
  for name, gradient in zip(('global', 'global2'), grads, strict=True):
    np.testing.assert_allclose(gradient, case['grad'][f'global_global.{name}'], rtol=1e-6)


def test_gcc_remembers_as_the_authors_do(golden):
  (case,) = [case for case in golden('gcc') if str(case['hp']['use_softmax']) == 'True']
  with jax.enable_x64(True):
    queue = jnp.asarray(case['in']['state_memory'])
    pointer = jnp.asarray(case['in']['state_index'], jnp.int32)
    for step in range(int(case['hp']['steps'])):
      q, k = (jnp.asarray(case['in'][f'{letter}{step}']) for letter in 'qk')
      value = losses.moco(q, k, queue, temperature=float(case['hp']['temperature']))
      np.testing.assert_allclose(value, case['out'][f'loss{step}'], rtol=1e-6)
      queue, pointer = ops.enqueue(queue, pointer, k)
      np.testing.assert_allclose(queue, case['out'][f'state_memory_after{step}'], rtol=1e-6)
      assert int(pointer) == int(case['out'][f'state_index_after{step}'])


def test_heat_is_the_matrix_exponential():
  from scipy.linalg import expm

  adjacency = np.zeros((5, 5))
  adjacency[PATH[:, 0], PATH[:, 1]] = adjacency[PATH[:, 1], PATH[:, 0]] = 1
  walk = adjacency / adjacency.sum(0)
  np.testing.assert_allclose(
    diffusion.heat(jnp.asarray(adjacency), 5.0), expm(5 * (walk - np.eye(5))), rtol=1e-4, atol=1e-5
  )


def supergat_layer(case):
  """(value, (output, loss of the attention)), gradients by parameters and x, of one case."""
  hp, w, given = case['hp'], case['w'], case['in']
  edges = given['edge_index'].T
  apart = edges[:, 0] != edges[:, 1]  # the layer makes loops itself
  batch = {
    'senders': jnp.asarray(edges[:, 0])[None],
    'receivers': jnp.asarray(edges[:, 1])[None],
    'edges': jnp.asarray(apart)[None],
  }
  sizes = int(hp['out_channels']), int(hp['heads']), bool(hp['concat'])
  layer = GAT(*sizes, attention=str(hp['attention_type']))
  kernel = jnp.asarray(w['lin.weight'].T)
  params = {'linear': {'kernel': kernel}, 'bias': jnp.asarray(w['bias'])}
  params |= {n: jnp.asarray(w[n][0]) for n in ('att_l', 'att_r') if n in w}
  loops = np.stack([np.arange(len(given['x']))] * 2, 1)
  positive = np.concatenate([edges[apart], loops])
  pairs = np.concatenate([positive, given['neg_edge_index'].T])

  def loss(params, x):
    y, logits = layer.apply({'params': params}, x, batch, pairs=jnp.asarray(pairs)[None])
    link = losses.edge_bce(logits[0].mean(-1), jnp.arange(len(pairs)) < len(positive))
    return jnp.sum(y[0] * given['upstream']) + link, (y[0], link)

  step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
  return step(params, jnp.asarray(given['x'])[None])


def test_supergat_attention_equals_pytorch_geometric(golden):
  for case in golden('supergat'):
    with jax.enable_x64(True):
      (value, (y, link)), grads = supergat_layer(case)
    near = {'rtol': 1e-6, 'atol': 1e-8}
    np.testing.assert_allclose(y, case['out']['output'], **near)
    np.testing.assert_allclose(link, case['out']['loss_attention'], **near)
    np.testing.assert_allclose(value, case['out']['loss'], **near)
    np.testing.assert_allclose(grads[1][0], case['grad']['x'], **near)
    kernel = grads[0]['linear']['kernel']
    np.testing.assert_allclose(kernel.T, case['grad']['w.lin.weight'], **near)
    compared = {name: kept[None] for name, kept in grads[0].items() if name != 'linear'}
    compared['bias'] = grads[0]['bias']
    assert compared.keys() == {n.removeprefix('w.') for n in case['grad']} - {'x', 'lin.weight'}
    for name, gradient in compared.items():
      np.testing.assert_allclose(gradient, case['grad'][f'w.{name}'], **near, err_msg=name)


def test_bandwidths_equal_the_authors(golden):
  def sum_of_squares(logits, receivers, temperature, count):
    logits, real = logits[None, :, None] / temperature, jnp.ones((1, len(receivers)), bool)
    bandwidth = ops.edge_softmax(logits, receivers[None], real, count)[0, :, 0]
    return (bandwidth**2).sum(), bandwidth

  step = jax.jit(jax.grad(sum_of_squares, has_aux=True), static_argnums=3)
  for case in golden('bandana'):
    hp, given = case['hp'], case['in']
    with jax.enable_x64(True):
      gradient, seen = step(
        given['edge_logits'], given['edge_index'][0], float(hp['temperature']), int(hp['num_nodes'])
      )
    np.testing.assert_allclose(seen, case['out']['bandwidth'], rtol=1e-12)
    wanted = case['grad']['sum_bandwidth_sq_wrt_edge_logits']
    np.testing.assert_allclose(gradient, wanted, rtol=1e-9, atol=1e-14)


# Views.


def many(room=0):
  """16 graphs in 8 packs, padded to `room` nodes and edges more than they need."""
  source = small.graph_source('graph')
  budget = tuple(n + room for n in source.budget)
  return dataclasses.replace(source, budget=budget).collate(np.arange(16))


VIEWS = graphcl.AUGMENT | {'edges dropped': graph.drop_edges, 'columns': graph.mask_features}


@pytest.mark.parametrize('name', VIEWS)
def test_views_do_not_depend_on_the_padding(name):
  view = jax.jit(lambda batch: VIEWS[name](small.key(), batch, 0.3))
  first, more = jax.device_get([view(many()), view(many(64))])
  nodes, edges = first['nodes'].shape[1], first['edges'].shape[1]
  assert not more['nodes'][:, nodes:].any() and not more['edges'][:, edges:].any()
  np.testing.assert_array_equal(more['nodes'][:, :nodes], first['nodes'])
  np.testing.assert_array_equal(more['x'][:, :nodes], first['x'])
  np.testing.assert_array_equal(more['edges'][:, :edges], first['edges'])
  for end in ('senders', 'receivers'):
    real = first['edges']
    np.testing.assert_array_equal(more[end][:, :edges][real], first[end][real])


def test_walks_that_find_too_little_end_whatever_the_padding():
  """On a path they go to and fro: four times as many steps as nodes are too few."""
  path, rngs = np.stack([np.arange(39), np.arange(1, 40)], 1), jax.random.split(small.key(), 4)

  def found(batch):
    return jax.vmap(lambda rng: graph.walk_subgraph(rng, batch, 0.7)['nodes'][0, :40])(rngs)

  first, more = (found(one(path, 40, room=room)) for room in (0, 64))
  np.testing.assert_array_equal(first, more)
  assert 1 < first.sum(1).min() < 28


@pytest.mark.parametrize(
  'kind, options', [('gat', {'attention_drop': 0.3, 'activation': 'rrelu'}), ('metapath', {})]
)
def test_noise_does_not_depend_on_the_padding(kind, options):
  """That of features, of attention and of slopes, in each of several packs."""
  c = models.get_config(kind)
  c.update({'dim': 8, 'drop': 0.3, **options})
  encoder = models.make(c, dtype=jnp.float32)
  params, state = encoder.init(small.key(), many())
  first, more = (
    encoder.apply(params, state, batch, train=True, rng=small.key())[0]['features']
    for batch in (many(), many(64))
  )
  real = many()['nodes']
  np.testing.assert_allclose(more[:, : real.shape[1]][real], first[real], rtol=1e-4, atol=1e-6)


def test_dropped_edges_go_in_both_directions():
  batch = one(np.random.default_rng(0).integers(0, 40, (300, 2)), 40)
  kept = np.asarray(graph.drop_edges(small.key(), batch, 0.3)['edges'][0])
  real = batch['edges'][0]
  pairs = {
    tuple(p) for p in np.stack([batch['senders'][0], batch['receivers'][0]], 1)[kept].tolist()
  }
  assert pairs == {(b, a) for a, b in pairs}
  assert abs(kept.sum() / real.sum() - 0.7) < 0.08 and not kept[~real].any()
  other = np.asarray(graph.drop_edges(small.key(1), batch, 0.3)['edges'][0])
  assert (other != kept).any()


@pytest.mark.parametrize('rate', [0.2, 0.5])
def test_dropped_nodes_are_a_share_of_each_graph(rate):
  batch = many()
  view = graph.drop_nodes(small.key(), batch, rate)
  before, after = (np.asarray(graph.graph_sizes(g)[0]) for g in (batch, view))
  np.testing.assert_array_equal(before - after, np.floor(rate * before))
  ends = [
    np.take_along_axis(np.asarray(view['nodes']), batch[n], 1) for n in ('senders', 'receivers')
  ]
  np.testing.assert_array_equal(view['edges'], batch['edges'] & ends[0] & ends[1])


def test_walked_subgraphs_are_connected():
  from scipy.sparse import coo_matrix
  from scipy.sparse.csgraph import connected_components

  batch = many()
  view, found = jax.device_get(graph.walk_subgraph(small.key(), batch, 0.5)), 0
  for p in range(8):
    for g in range(2):
      mine = np.flatnonzero(view['nodes'][p] & (batch['graph'][p] == g))
      wanted = math.ceil(0.5 * (batch['graph'][p] == g).sum())
      assert 1 <= len(mine) <= wanted
      found += len(mine) == wanted
      at = np.searchsorted(mine, np.stack([batch['senders'][p], batch['receivers'][p]]))
      real = view['edges'][p] & np.isin(batch['receivers'][p], mine)
      pairs = at[:, real]
      matrix = coo_matrix((np.ones(pairs.shape[1]), pairs), shape=(len(mine),) * 2)
      assert connected_components(matrix)[0] == 1
  assert found > 8  # of 16
  two = graph.walk_subgraph(small.key(), batch, 0.5, steps=1)
  assert (jax.device_get(graph.graph_sizes(two)[0]) <= 2).all()


def test_perturbed_edges_stay_in_their_graph():
  batch = many()
  view = jax.device_get(graph.perturb_edges(small.key(), batch, 0.5))
  assert view['edges'].sum() == batch['edges'].sum()
  changed = (view['senders'] != batch['senders']) & batch['edges']
  assert 0.3 < changed.sum() / batch['edges'].sum() < 0.6
  owners = [np.take_along_axis(batch['graph'], view[n], 1) for n in ('senders', 'receivers')]
  np.testing.assert_array_equal(owners[0][batch['edges']], owners[1][batch['edges']])


def test_corruption_moves_features_among_real_nodes():
  batch = many()
  view = jax.device_get(ops.shuffle_nodes(small.key(), batch))
  for p in range(8):
    rows = [sorted(map(tuple, g['x'][p][batch['nodes'][p]].tolist())) for g in (batch, view)]
    assert rows[0] == rows[1]
  assert (view['x'] != batch['x']).any() and not view['x'][~batch['nodes']].any()


def test_centrality():
  star = one(np.array([[0, 1], [0, 2], [0, 3], [0, 4]]), 5)
  np.testing.assert_array_equal(centrality.nodes(star)[0, :5], [4, 1, 1, 1, 1])
  rank = np.asarray(centrality.nodes(star, 'pagerank', steps=200)[0, :5])
  np.testing.assert_allclose(rank.sum(), 1, rtol=1e-4)
  np.testing.assert_allclose(rank[0], 0.4757, rtol=1e-3)  # of networkx
  with pytest.raises(InputError, match="centrality is 'fame', wanted one of degree"):
    centrality.nodes(star, 'fame')
  vector = np.asarray(centrality.nodes(star, 'eigenvector', steps=200)[0, :5])
  np.testing.assert_allclose(vector, [0.7071, *[0.35355] * 4], rtol=1e-3)
  rates = np.asarray(centrality.edge_rates(one(), centrality.nodes(one()), 0.3, 0.7))
  inner = one()['edges'][0]
  assert abs(rates[0][inner].mean() - 0.3) < 1e-5 and rates.max() <= 0.7


def test_other_reductions_and_centralities_are_refused():
  with pytest.raises(InputError, match="reduce is 'prod', wanted 'sum', 'mean' or 'max'"):
    ops.readout(one()['x'], one(), 'prod')
  with pytest.raises(InputError, match="centrality is 'katz', wanted one of degree"):
    centrality.nodes(one(), 'katz')


# Walks.


def test_walks_follow_edges_evenly():
  batch = one(np.array([[0, 1], [0, 2], [0, 3], [2, 3]]), 5)
  start = jnp.zeros((1, 4000), jnp.int32)
  path = np.asarray(ops.walks(small.key(), batch, start, 3))[0]
  counts = np.bincount(path[:, 1], minlength=5) / 4000
  np.testing.assert_allclose(counts, [0, 1 / 3, 1 / 3, 1 / 3, 0], atol=0.03)
  joined = {(0, 1), (0, 2), (0, 3), (2, 3)}
  assert all(
    (min(a, b), max(a, b)) in joined
    for row in path[:200]
    for a, b in zip(row, row[1:], strict=False)
  )
  alone = np.asarray(ops.walks(small.key(), batch, jnp.full((1, 3), 4), 3))
  assert (alone == 4).all()
  home = np.asarray(ops.walks(small.key(), batch, start, 3, restart=1.0))
  assert (home == 0).all()


def test_joined_and_distinct():
  edges = np.random.default_rng(0).integers(0, 30, (80, 2))
  batch = one(edges, 30)
  matrix = np.zeros((30, 30), bool)
  tidy = graphs.tidy(edges)
  matrix[tidy[:, 0], tidy[:, 1]] = True
  first, second = np.indices((30, 30))
  starts = ops.row_starts(batch)
  np.testing.assert_array_equal(ops.are_joined(batch, starts, first[None], second[None])[0], matrix)
  found, number = ops.distinct(jnp.array([[[3, 5, 3, 7, 5, 2]]]), 3)
  assert found.tolist() == [[[3, 5, 7]]] and number.tolist() == [[3]]
  found, number = ops.distinct(jnp.array([[[3, 5, 3]]]), 4)
  assert found.tolist() == [[[3, 5, 3, 3]]] and number.tolist() == [[2]]


def test_leading_eigenvectors():
  x = np.random.default_rng(0).normal(size=(3, 8, 8))
  x = x + x.swapaxes(1, 2)
  x /= np.abs(np.linalg.eigvalsh(x)).max((1,))[:, None, None]
  seen = np.asarray(ops.leading_eigenvectors(jnp.asarray(x, jnp.float32), 2, steps=600))
  wanted = np.linalg.eigh(x)[1][..., ::-1][..., :2]
  np.testing.assert_allclose(np.abs(seen), np.abs(wanted), atol=1e-3)


# Probes.


def test_probes_find_what_is_there():
  rng = np.random.default_rng(0)
  y = np.arange(200) % 4
  good, bad = np.eye(4)[y] + 0.1 * rng.normal(size=(200, 4)), rng.normal(size=(200, 4))
  order = rng.permutation(200)
  split = dict(zip(('train', 'val', 'test'), np.split(order, [40, 80]), strict=True))
  names = 'node-public-v1', 'node-random-v1', 'node-adam-v2', 'graph-svm-v2', 'graph-linear-svm-v2'
  for name in names:
    assert probes.run(good, y, split, [name])[name] > 0.95, name
    assert probes.run(bad, y, split, [name])[name] < 0.5, name
  for name in ('node-public-v1', 'node-adam-v1', 'node-adam-v2'):
    with pytest.raises(InputError, match=f'{name} needs a split'):
      probes.run(good, y, {}, [name])
  # The step is the one that is best on validation nodes: where their labels are others', one at
  # which little is learned yet.
  misled = np.where(np.isin(np.arange(200), split['val']), (y + 1) % 4, y)
  assert probes.run(good, misled, split, ['node-adam-v1'])['node-adam-v1'] < 0.8
  # What no line divides, a linear machine does not tell apart and a radial kernel does.
  corners = np.sign(rng.normal(size=(120, 2)))
  x, other = corners + 0.1 * rng.normal(size=(120, 2)), (corners.prod(1) > 0).astype(int)
  assert probes.run(x, other, {}, ['graph-linear-svm-v2'])['graph-linear-svm-v2'] < 0.8
  assert probes.run(x, other, {}, ['graph-svm-v2'])['graph-svm-v2'] > 0.95
  with pytest.raises(InputError, match="'knn-v1' seen"):
    probes.run(good, y, {}, ['knn-v1'])
  same = np.array([[0, 4], [1, 5]])
  other = np.array([[0, 1], [1, 2]])
  assert links.link_scores(np.eye(4)[y], same, other) == {'auc': 1.0, 'ap': 1.0}


def test_nodes_of_several_labels_are_judged_by_share():
  rng = np.random.default_rng(0)
  y = np.arange(200) % 4
  groups = np.eye(4, dtype=bool)[y] | (rng.random((200, 4)) < 0.2)
  good, bad = groups + 0.1 * rng.normal(size=(200, 4)), rng.normal(size=(200, 4))
  found = probes.run(good, groups, {}, ['multi-label-v1'], seed=3)
  names = [f'multi-label-v1-{kind}-{n}' for n in (10, 50, 90) for kind in ('macro', 'micro')]
  assert list(found) == names and min(found.values()) > 0.95
  assert max(probes.run(bad, groups, {}, ['multi-label-v1']).values()) < 0.6
  half = probes.multi_label_f1(bad, groups, 0.5, seed=3)
  found = probes.run(bad, groups, {}, ['multi-label-v1'], seed=3)
  assert found['multi-label-v1-macro-50'] == half['macro_f1']
  assert found['multi-label-v1-micro-50'] == half['micro_f1']
  assert probes.DEFINITIONS['multi-label-v1']['train_percents'] == [10, 50, 90]
  with pytest.raises(InputError, match=r'wanted y bool \[N, C\]'):
    probes.run(good, y, {}, ['multi-label-v1'])


def test_features_of_pairs_are_those_of_their_nodes():
  z, pairs = np.array([[1.0, -2.0], [3.0, 4.0], [-1.0, 0.5]]), np.array([[0, 1], [2, 0]])
  for kind, wanted in (
    ('average', [[2, 1], [0, -0.75]]),
    ('hadamard', [[3, -8], [-1, -1]]),
    ('l1', [[2, 6], [2, 2.5]]),
    ('l2', [[4, 36], [4, 6.25]]),
  ):
    np.testing.assert_allclose(links.edge_features(z, pairs, kind), wanted)
  with pytest.raises(InputError, match="kind is 'mean', wanted average"):
    links.edge_features(z, pairs, 'mean')


def test_fine_tuning_learns_from_few_labels():
  y = np.repeat(np.arange(4), [200, 60, 30, 10])
  train, val, test = fine_tune.few_labels(y, np.random.default_rng(0), 0.02)
  assert sorted(np.concatenate([train, val, test]).tolist()) == list(range(300))
  assert len(train) == len(val) == 6 and set(y[train]) == {0, 1, 2, 3}
  noise = 0.1 * np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
  x = jnp.asarray(np.eye(4, dtype=np.float32)[y] + noise)

  # Few validation nodes are all right after ten steps, which then count: here there are thirty.
  split = train, val, test = fine_tune.few_labels(y, np.random.default_rng(0), 0.1)

  def score(params, y):
    first, second = fine_tune.fine_tune(
      lambda params, x, rng: x @ params, params, x, y, [split, (train, val, val)],
      num_classes=4, steps=60, learning_rate=0.05,
    )  # fmt: skip
    # Each is a share of its own split's test nodes.
    for accuracy, nodes in ((first, test), (second, val)):
      np.testing.assert_allclose(accuracy * len(nodes), round(accuracy * len(nodes)), atol=1e-3)
    return first

  kept = jnp.eye(4)
  assert score(kept, y) > 0.95 and score(kept, np.random.default_rng(2).permutation(y)) < 0.75
  np.testing.assert_array_equal(kept, np.eye(4))  # what was given is not trained in place


def test_roles_are_shapes_on_a_ring():
  c = roles.get_config()
  c.update(shapes=8, gap=3, noise=0.0)
  source = roles.load(c, 'train')
  graph = networkx.Graph(source.edges.tolist())
  assert len(graph) == 24 + 2 * (5 + 6 + 5 + 5) and networkx.is_connected(graph)
  kinds = {name: np.flatnonzero(source.label == i) for i, name in enumerate(source.classes)}
  assert {name: len(nodes) for name, nodes in kinds.items()} == {
    'ring': 24, 'house': 10, 'star': 12, 'fan': 10, 'clique': 10
  }  # fmt: skip
  inside = {name: graph.subgraph(nodes.tolist()) for name, nodes in kinds.items()}
  assert {name: part.number_of_edges() for name, part in inside.items()} == {
    'ring': 24, 'house': 12, 'star': 10, 'fan': 14, 'clique': 20
  }  # fmt: skip


def test_links_held_out():
  grid = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2)
  ring = grid[(grid[:, 1] - grid[:, 0]) % 12 == 1]  # 12 edges of 66 pairs
  whole = graphs.make(ring, 12)
  part = graphs.hold_out_links(whole, 0.25)
  links, others = part.split['links'], part.split['no_links']
  assert links.shape == others.shape == (3, 2) and len(part.edges) == 18
  directed = lambda pairs: set(map(tuple, np.concatenate([pairs, pairs[:, ::-1]]).tolist()))  # noqa: E731
  seen, all_edges = set(map(tuple, part.edges.tolist())), set(map(tuple, whole.edges.tolist()))
  assert seen | directed(links) == all_edges and not seen & directed(links)
  assert not directed(others) & all_edges and len(directed(others)) == 6
  assert probes.fitting('node', part.split) == ('node-random-v1', 'link-v1')
  found = probes.run(np.eye(12), None, part.split, ['link-v1'])
  assert found == {'link-v1-auc': 0.5, 'link-v1-ap': 0.5}
  with pytest.raises(InputError, match='set data.held_out_links'):
    probes.run(np.eye(12), None, {}, ['link-v1'])
  for share in (-0.1, 0.01, 1.0):
    with pytest.raises(InputError, match=f'held_out_links is {share}'):
      graphs.hold_out_links(whole, share)


@pytest.mark.parametrize('features', [False, True])
def test_degrees_do_not_tell_of_links_held_out(features, tmp_path):
  arrays = {'edges': np.stack([np.arange(12), (np.arange(12) + 1) % 12], 1)}
  if features:
    arrays['x'] = np.eye(12, 3)
  np.savez(tmp_path / 'ring.npz', **arrays)
  c = data.get_config('graph')
  c.update(path=str(tmp_path / 'ring.npz'), held_out_links=0.25, degrees=features)
  source = data.load(c, 'train')
  lost = np.bincount(source.split['links'].ravel(), minlength=12)
  assert lost.sum() == 6  # every node of the ring had two
  np.testing.assert_array_equal(source.x[:, 3 * features :].argmax(1), 2 - lost)
  if features:
    np.testing.assert_array_equal(source.x[:, :3], np.eye(12, 3))


def test_links_of_hyperedges_cannot_be_held_out():
  arrays = {'members': np.array([0, 1, 2, 2, 3]), 'offsets': np.array([0, 3, 5]), 'x': np.eye(4)}
  source = graph_files.from_arrays(arrays, data.get_config('graph'), where='teams')
  with pytest.raises(InputError, match='teams has member, hyperedge, which join'):
    graphs.hold_out_links(source, 0.25, where='teams')


def test_neighbours_are_sampled():
  whole = small.graph_source('node')
  index = np.arange(12)
  source = neighbours.NeighbourSource(whole, (3, 2))
  source = source.fitted([index], 2)
  batch, again = source.collate(index), source.collate(index)
  for name, x in batch.items():
    np.testing.assert_array_equal(x, again[name])
  assert batch['x'].shape == (2, *source.budget[:1], 30) and batch['index'].tolist() == [[0], [6]]
  assert source.budget[0] > 6 * (1 + 3 + 6)
  joined = set(map(tuple, whole.edges.tolist()))
  for p, pack in enumerate(np.split(index, 2)):
    nodes, _ = source._sample(pack)
    count = len(nodes)
    assert nodes[:6].tolist() == pack.tolist() and count == len(set(nodes.tolist())) <= 60
    assert batch['nodes'][p].sum() == count and (batch['x'][p, :count] == whole.x[nodes]).all()
    real = batch['edges'][p]
    pairs = np.stack([batch['senders'][p][real], batch['receivers'][p][real]], 1)
    among = {(a, b) for a in range(count) for b in range(count) if (nodes[a], nodes[b]) in joined}
    assert set(map(tuple, pairs.tolist())) == among and len(pairs) == len(among)
    assert (np.diff(pairs[:, 1]) >= 0).all()
    known = np.where(np.isin(nodes, whole.split['train']), whole.label[nodes], -1)
    assert (batch['label'][p, :count] == known).all() and (known >= 0).any()
  few = dataclasses.replace(source, budget=(128, 64)).collate(index)
  real = few['edges'][0]
  pairs = set(
    zip(few['senders'][0][real].tolist(), few['receivers'][0][real].tolist(), strict=True)
  )
  assert 0 < len(pairs) <= 64 and pairs == {(b, a) for a, b in pairs}
  for wrong in ((), (0, 2)):
    with pytest.raises(InputError, match='wanted how many are taken'):
      neighbours.NeighbourSource(whole, wrong)


def test_all_neighbours_give_the_features_of_the_whole_graph():
  # A layer weighs neighbours by their degrees, so three steps away are seen by two layers.
  whole = small.graph_source('node')
  encoder = models.make(models.get_config('gcn'), dtype=jnp.float32)
  batch = whole.collate(np.arange(1))
  variables = encoder.init(small.key(), batch)
  wanted = encoder.apply(*variables, batch, train=False)[0]['features'][0, :90]
  seen, order = [], []
  source = dataclasses.replace(neighbours.NeighbourSource(whole, (90, 90, 90)), packs=2)
  for part in source.eval_batches(25):  # in packs of 13, the last of them of 6 and 6
    valid, index, label = part.pop('valid'), part.pop('index'), part.pop('label')
    part['index'] = np.zeros((2, 1), np.int32)
    x = encoder.apply(*variables, part, train=False)[0]['features']
    seen.append(np.asarray(x).reshape(-1, x.shape[-1])[valid])
    order.append(index.reshape(-1)[valid])
    assert (label[valid] == whole.label[order[-1]]).all()
  assert np.concatenate(order).tolist() == list(range(90))
  np.testing.assert_allclose(np.concatenate(seen), wanted, atol=1e-5)


def test_relations_make_meta_paths():
  arrays = {
    'x': np.eye(5, 4, dtype=np.float32),
    'relation_author': np.array([[0, 1], [1, 1], [2, 0], [3, 0], [4, 7]]),
    'relation_subject': np.array([[0, 0], [4, 0]]),
  }
  source = graph_files.from_arrays(arrays, data.get_config('graph'), where='papers')
  undirected = source.edges[source.edges[:, 0] < source.edges[:, 1]]
  assert undirected.tolist() == [[0, 1], [2, 3], [0, 4]]
  batch = source.collate(np.arange(1))
  assert batch['path_member'].tolist() == [[[0, 1, 2, 3, 4], [0, 4, -1, -1, -1]]]
  assert batch['path_group'].tolist() == [[[1, 1, 0, 0, 2], [0, 0, -1, -1, -1]]]
  for wrong, match in (
    ({'relation_author': np.array([[5, 0]])}, 'joins others than nodes from 0 to 4'),
    ({'relation_author': np.zeros((3, 2))}, 'relation_author is float64'),
    ({'x': None}, 'wanted x'),
  ):
    changed = {n: a for n, a in (arrays | wrong).items() if a is not None}
    with pytest.raises(InputError, match=match):
      graph_files.from_arrays(changed, data.get_config('graph'), where='papers')


def test_a_run_on_neighbours(tmp_path):
  whole = small.graph_source('node')
  np.savez(tmp_path / 'graph.npz', edges=whole.edges, x=whole.x, y=whole.label)
  folder = tmp_path / 'run'
  main.main([
    'ssljax', f'--config={ROOT}/configs/default.py:grace,graph', f'--workdir={folder}',
    f'--config.data.path={tmp_path / "graph.npz"}', '--config.data.neighbours=(4, 3)',
    '--config.batch_size=16', '--config.steps=2', '--config.report=False',
    '--config.mesh.data=2', '--config.data.packs=2', "--config.eval.baselines=('raw',)",
  ])  # fmt: skip
  found = json.loads((folder / 'summary.json').read_text())['metrics']
  assert {'node-random-v1/learned', 'node-random-v1/raw'} <= set(found)


def test_wrong_data_for_a_method():
  with pytest.raises(InputError, match='communities is one graph.*graphcl wants a set of graphs'):
    refuse('graphcl,communities')
  with pytest.raises(InputError, match='motifs is a set of graphs.*grace wants one graph'):
    refuse('grace,motifs')
  with pytest.raises(InputError, match='communities is one graph.*simclr wants no graphs'):
    refuse('simclr,communities')
  with pytest.raises(InputError, match='digits is no graph.*grace wants one graph'):
    refuse('grace,digits')


def refuse(arg):
  from ssljax import config, program, sharding

  c = config.get_config(arg)
  source = data.load(c.data, 'train')
  program.make_program(c, sharding.make_mesh(1, 1, jax.devices()[:1]), source, steps=1)


def test_embedded_sets_are_the_same_every_time():
  for module in (communities, motifs, roles):
    a, b = (module.load(module.get_config(), 'train') for _ in range(2))
    np.testing.assert_array_equal(a.edges, b.edges)
    np.testing.assert_array_equal(a.x, b.x)


@pytest.mark.parametrize(
  'module,field,value,wanted',
  [
    (communities, 'num_nodes', 0, 'data.num_nodes is 0, wanted 18 or more'),
    (communities, 'num_classes', 0, 'data.num_classes is 0'),
    (communities, 'width', 5, 'data.width is 5, wanted 6 or more'),
    (communities, 'degree', -1.0, 'data.degree is -1'),
    (communities, 'inside', 1.5, 'data.inside is 1.5, wanted 0 to 1'),
    (communities, 'seed', -1, 'data.seed is -1'),
    (motifs, 'nodes', (2, 4), r'data.nodes is \(2, 4\), wanted .* 6 or more'),
    (motifs, 'nodes', (8, 8), 'data.nodes is'),
    (motifs, 'num_graphs', 0, 'data.num_graphs is 0'),
    (roles, 'gap', 0, 'data.gap is 0'),
    (roles, 'noise', -0.1, 'data.noise is -0.1, wanted 0 or more'),
  ],
)
def test_fields_that_no_embedded_graph_can_be_made_by(module, field, value, wanted):
  c = module.get_config()
  c[field] = value
  with pytest.raises(InputError, match=wanted):
    module.load(c, 'train')


def test_a_community_may_have_no_node():
  c = communities.get_config()
  c.num_nodes = 18
  assert len(communities.load(c, 'train').x) == 18
