"""Walks, skip-gram, projections, cores, Fisher scores and multicut, against their formulas."""

import networkx
import numpy as np
import pytest
from scipy import sparse

from ssljax import list as listing
from ssljax.embedding import fastrp, fisher_info_embedding, kcore_embedding, node2vec
from ssljax.embedding._graph import from_edges
from ssljax.errors import InputError
from ssljax.partition import clusterfug


def barbell(size=8, bridge=2):
  """Two cliques, joined by a path."""
  edges = [(a, b) for k in (0, size) for a in range(k, k + size) for b in range(k, a)]
  chain = [size - 1, *range(2 * size, 2 * size + bridge), size]
  return from_edges([*edges, *zip(chain, chain[1:], strict=False)], 2 * size + bridge)


def test_they_are_listed():
  rows = {row['name']: row for row in listing.rows()}
  for name in ('fastrp', 'node2vec', 'kcore_embedding', 'fisher_info_embedding', 'clusterfug'):
    assert rows[name]['modality'] == 'graph' and rows[name]['paper'][-1] != '.'


def test_the_callers_graph_is_left_as_it_was():
  """Rows out of order, a zero, an edge stored twice, weights other than 1."""
  graph = barbell()
  graph.data[:] = 2.0
  row = slice(*graph.indptr[:2])
  graph.indices[row] = graph.indices[row][::-1].copy()
  graph.data[0], graph.indices[2] = 0.0, graph.indices[1]
  before = graph.copy()
  core = kcore_embedding.core_numbers(graph)
  vectors, known = np.ones((18, 4), np.float32), core == core.max()
  kept = vectors.copy(), known.copy()
  for made in (
    lambda: kcore_embedding.propagate(graph, vectors, known, core),
    lambda: node2vec.walks(graph, num_walks=1, length=4, p=0.5),
    lambda: node2vec.transition(graph, 1, 0, p=0.5),
    lambda: fastrp.embed(graph, 4),
    lambda: fisher_info_embedding.embed(graph, np.eye(18, 5), 4, anchors=2),
  ):
    made()
    for name in ('data', 'indices', 'indptr'):
      np.testing.assert_array_equal(getattr(graph, name), getattr(before, name))
  np.testing.assert_array_equal(vectors, kept[0])
  np.testing.assert_array_equal(known, kept[1])


# FastRP.


def test_fastrp_equals_the_authors(golden):
  for case in golden('fastrp'):
    hp, given, out = case['hp'], case['in'], case['out']
    options = {
      'alpha': float(hp['alpha']) if bool(hp['degree_scaling']) else None,
      'walk': str(hp['input_matrix']) == 'trans',
    }
    graph, start = sparse.csr_matrix(given['adjacency']), given['projection']
    weights, normalize = hp['weights'], bool(hp['normalization'])
    for i, x in enumerate(fastrp.powers(graph, start, len(weights), **options), 1):
      np.testing.assert_allclose(x, out[f'power_{i}'], rtol=1e-9, atol=1e-12)
    seen = fastrp.embed(
      graph, start.shape[1], weights=weights, start=start, normalize=normalize, **options
    )
    np.testing.assert_allclose(seen, out['embedding'], rtol=1e-6, atol=1e-9)


def test_projection_is_very_sparse_and_white():
  x = fastrp.projection(4000, 20, s=5)
  assert abs((x != 0).mean() - 0.2) < 0.01 and abs(x.mean()) < 0.02 and abs(x.var() - 1) < 0.03
  np.testing.assert_allclose(np.unique(x), [-(5**0.5), 0, 5**0.5], rtol=1e-6)
  np.testing.assert_array_equal(x, fastrp.projection(4000, 20, s=5))


def test_a_large_product_is_the_same_in_blocks(monkeypatch):
  monkeypatch.setattr(fastrp.os, 'sched_getaffinity', lambda _: range(3), raising=False)
  rng = np.random.default_rng(0)
  rows = np.concatenate([np.full(40_000, 7), rng.integers(1000, 5000, 100_000)])  # and empty ones
  matrix = sparse.csr_matrix((rng.random(140_000), (rows, rng.integers(0, 5000, 140_000))))
  matrix.resize(5000, 5000)
  x = rng.random((5000, 256))
  assert matrix.nnz * 256 > 1 << 24  # else it is one product
  np.testing.assert_array_equal(fastrp._product(matrix, x), matrix @ x)


def test_fastrp_tells_cliques_apart():
  z = fastrp.embed(barbell(), 16)
  near = z @ z.T
  assert near[1, 2] > near[1, 9] and near[10, 11] > near[3, 10]
  for wrong in (np.ones((2, 3)), -np.ones((2, 2)), np.full((2, 2), np.nan), np.zeros((0, 0))):
    with pytest.raises(InputError, match='adjacency has'):
      fastrp.embed(wrong)
  with pytest.raises(InputError, match=r'start has shape \[3, 4\], wanted \[18, 8\]'):
    fastrp.embed(barbell(), 8, start=np.ones((3, 4)))


# node2vec.


def test_transitions_equal_the_authors(golden):
  for case in golden('node2vec'):
    hp, out = case['hp'], case['out']
    graph = sparse.csr_matrix(case['in']['adjacency'])
    for e, (before, at) in enumerate(zip(out['edge_prev'], out['edge_cur'], strict=True)):
      rows = slice(*out['edge_ptr'][e : e + 2])
      nodes, chance = node2vec.transition(graph, before, at, p=float(hp['p']), q=float(hp['q']))
      np.testing.assert_array_equal(nodes, out['edge_neighbour'][rows])
      np.testing.assert_allclose(chance, out['edge_prob'][rows], rtol=1e-9)


@pytest.mark.parametrize('weighted', [False, True])
def test_walks_have_the_chances_they_should(weighted):
  edges = np.array([[0, 1], [0, 2], [1, 2], [2, 3], [3, 4], [1, 3]])
  graph = from_edges(edges, 5)
  if weighted:
    graph.data = 1.0 + np.arange(len(graph.data)) % 3
    graph = graph.maximum(graph.T)
  path = node2vec.walks(graph, num_walks=6000, length=4, p=0.3, q=3.0)
  assert path.shape == (30000, 4)
  triples = np.concatenate([path[:, i : i + 3] for i in range(2)])
  for before, at in ((0, 2), (1, 3), (3, 2)):
    rows = triples[(triples[:, 0] == before) & (triples[:, 1] == at)]
    nodes, chance = node2vec.transition(graph, before, at, p=0.3, q=3.0)
    seen = np.array([(rows[:, 2] == n).mean() for n in nodes])
    np.testing.assert_allclose(seen, chance, atol=4 * 0.5 / len(rows) ** 0.5)


def test_walks_that_cannot_go_on_stay():
  path = node2vec.walks(sparse.csr_matrix((3, 3)), num_walks=1, length=3)
  assert (path == path[:, :1]).all()
  with pytest.raises(InputError, match='p is 0, wanted more than 0'):
    node2vec.walks(barbell(), p=0)
  assert node2vec.walks(barbell(), starts=[0, 17], length=2).shape == (2, 2)
  for wrong in ([-1], [18], [0.0], [[0]]):
    with pytest.raises(InputError, match='starts: .* seen, nodes from 0 to 17 wanted'):
      node2vec.walks(barbell(), starts=wrong, length=2)


def test_pairs_are_those_of_the_window():
  path = np.array([[0, 1, 2, 3]])
  seen = {tuple(p) for p in zip(*node2vec.window_pairs(path, 1), strict=True)}
  assert {tuple(map(int, p)) for p in seen} == {(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)}


def test_node2vec_tells_cliques_apart():
  z = node2vec.embed(
    barbell(), 8, num_walks=20, length=20, window=4, epochs=4, batch_size=512, q=0.5
  )
  unit = z / np.linalg.norm(z, axis=1, keepdims=True)
  near = unit @ unit.T
  inside = (near[:8, :8].sum() - 8) / 56
  assert inside > near[:8, 8:16].mean() + 0.3
  np.testing.assert_array_equal(
    z,
    node2vec.embed(
      barbell(), 8, num_walks=20, length=20, window=4, epochs=4, batch_size=512, q=0.5
    ),
  )


def test_vectors_of_a_hub_stay_finite():
  """It is in every pair, thousands of times in a batch: its summed gradients would overshoot."""
  star = sparse.lil_matrix((501, 501))
  star[0, 1:] = star[1:, 0] = 1
  z = node2vec.embed(star.tocsr(), 16, num_walks=3, length=20, epochs=3)
  assert np.isfinite(z).all() and np.linalg.norm(z, axis=1).max() < 10


# Cores.


def test_core_numbers():
  assert kcore_embedding.core_numbers(barbell()).tolist() == [7] * 16 + [2, 2]
  rng = np.random.default_rng(0)
  graph = from_edges(rng.integers(0, 60, (200, 2)), 60)
  wanted = networkx.core_number(networkx.from_scipy_sparse_array(graph))
  np.testing.assert_array_equal(kcore_embedding.core_numbers(graph), [wanted[i] for i in range(60)])


def test_core_numbers_do_not_ask_for_directions():
  chain = sparse.csr_matrix(([1.0, 1.0], ([0, 1], [1, 2])), shape=(3, 3))
  assert kcore_embedding.core_numbers(chain).tolist() == [1, 1, 1]
  rng = np.random.default_rng(1)
  ends = rng.integers(0, 40, (2, 160))
  graph = sparse.csr_matrix((rng.random(160) + 0.1, ends), shape=(40, 40))
  undirected = networkx.Graph((a, b) for a, b in ends.T.tolist() if a != b)
  wanted = networkx.core_number(undirected)
  seen = kcore_embedding.core_numbers(graph)
  np.testing.assert_array_equal(seen, [wanted.get(i, 0) for i in range(40)])


def test_propagation_solves_its_system():
  graph = barbell(bridge=3)
  core = kcore_embedding.core_numbers(graph)
  known = core == core.max()
  vectors = np.random.default_rng(0).normal(size=(len(core), 4)) * known[:, None]
  filled = kcore_embedding.propagate(graph, vectors, known, core, rounds=200)
  mean = (graph @ filled) / np.asarray(graph.sum(1))
  np.testing.assert_allclose(filled[~known], mean[~known], atol=1e-5)
  np.testing.assert_array_equal(filled[known], vectors[known].astype(np.float32))


def test_core_embeddings_tell_cliques_apart():
  quick = {'num_walks': 20, 'length': 20, 'window': 4, 'epochs': 4, 'batch_size': 512}
  for embed in (kcore_embedding.embed, kcore_embedding.core_walk):
    z = embed(barbell(), 8, **quick)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    near = unit @ unit.T
    assert (near[:8, :8].sum() - 8) / 56 > near[:8, 8:16].mean() + 0.3
  with pytest.raises(InputError, match='core is 9, and the largest core number is 7'):
    kcore_embedding.embed(barbell(), 8, core=9)


# Fisher information embedding.


def test_fisher_scores_are_their_formula():
  rng = np.random.default_rng(0)
  x, anchors = rng.normal(size=(6, 3)), rng.normal(size=(2, 3))
  neighbours = sparse.csr_matrix(
    (rng.random((6, 6)) < 0.5).astype(float) + np.eye(6) > 0, dtype=float
  )
  seen = fisher_info_embedding.scores(x, neighbours, anchors, 0.7)
  for v in range(6):
    rows = np.flatnonzero(neighbours[v].toarray()[0])
    r = np.array([[np.exp(-((x[i] - a) ** 2).sum() / (2 * 0.49)) for a in anchors] for i in rows])
    r /= r.sum(1, keepdims=True)
    for k in range(2):
      moved = sum(r[n, k] * (x[i] - anchors[k]) / 0.7 for n, i in enumerate(rows))
      wanted = moved / np.sqrt(r[:, k].mean() * len(rows) ** 2)
      np.testing.assert_allclose(seen[v, 3 * k : 3 * k + 3], wanted, rtol=1e-9)


def test_fisher_embedding_is_finite_and_refuses():
  x = np.random.default_rng(0).random((18, 5))
  z = fisher_info_embedding.embed(barbell(), x, 4, anchors=3)
  assert z.shape == (18, 12) and np.isfinite(z).all()
  with pytest.raises(InputError, match='wanted 18 rows'):
    fisher_info_embedding.embed(barbell(), x[:4], 4)
  broken = np.where(x > 0.9, np.nan, x)
  for wrong in (x[:, 0], broken, sparse.csr_matrix(broken), x.astype(str), x[:, :0]):
    with pytest.raises(InputError, match=r'x is .*, wanted finite numbers \[18, F\]'):
      fisher_info_embedding.embed(barbell(), wrong, 4)


def test_fisher_embedding_has_the_columns_it_says():
  """Where there are fewer directions, zeros stand for the others, and no direction is lost."""
  x = np.random.default_rng(0).random((18, 3))
  z = fisher_info_embedding.embed(barbell(), x, 16, anchors=3, depth=1)
  assert z.shape == (18, 32) and not z[:, 3:16].any() and not z[:, 16 + 9 :].any()
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  np.testing.assert_allclose(z[:, :3] @ z[:, :3].T, unit @ unit.T, atol=1e-6)  # x itself, turned
  same = fisher_info_embedding.embed(barbell(), sparse.csr_matrix(x), 16, anchors=3, depth=1)
  np.testing.assert_allclose(z, same, atol=1e-6)


def test_graphs_are_means_and_sums_of_nodes():
  z = np.random.default_rng(0).random((5, 3)).astype(np.float32)
  mean = fisher_info_embedding.of_graphs(z, [0, 2, 5])
  np.testing.assert_allclose(mean, [z[:2].mean(0), z[2:].mean(0)], rtol=1e-6)
  total = fisher_info_embedding.of_graphs(z, [0, 2, 5], mean=False)
  np.testing.assert_allclose(total, [z[:2].sum(0), z[2:].sum(0)], rtol=1e-6)
  for wrong in ([], [0, 2], [1, 5], [0, 3, 3, 5]):
    with pytest.raises(InputError, match='wanted a rise from 0 to 5'):
      fisher_info_embedding.of_graphs(z, wrong)


# Multicut.


def contract(features, offset):
  """Greedy additive edge contraction on the whole matrix of costs."""
  cost = features @ features.T - offset
  np.fill_diagonal(cost, -np.inf)
  groups = [[i] for i in range(len(features))]
  while len(groups) > 1 and cost.max() > 0:
    a, b = sorted(np.unravel_index(cost.argmax(), cost.shape))
    cost[a] += cost[b]
    cost[:, a] = cost[a]
    cost[a, a] = -np.inf
    groups[a] += groups.pop(b)
    cost = np.delete(np.delete(cost, b, 0), b, 1)
  label = np.zeros(len(features), int)
  for i, group in enumerate(sorted(groups, key=min)):
    label[group] = i
  return label


@pytest.mark.parametrize('offset', [0.0, 0.3])
@pytest.mark.parametrize('count', [1, 30, 200])
def test_multicut_is_greedy_contraction(count, offset):
  features = np.random.default_rng(count).normal(size=(count, 6))
  seen = clusterfug.cluster(features, offset=offset)
  np.testing.assert_array_equal(seen, contract(features, offset))
  pairs = [(i, j) for i in range(count) for j in range(i) if seen[i] != seen[j]]
  wanted = sum(features[i] @ features[j] - offset for i, j in pairs)
  np.testing.assert_allclose(clusterfug.objective(features, seen, offset=offset), wanted, atol=1e-6)


def test_multicut_finds_digits():
  from sklearn.datasets import load_digits
  from sklearn.decomposition import PCA

  from ssljax.evaluators import clustering

  x, y = load_digits(return_X_y=True)
  x = PCA(20, random_state=0).fit_transform(x)
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  found = clusterfug.cluster(x, offset=0.35)
  scores = clustering.scores(found, y)
  assert scores['nmi'] > 0.6 and 5 <= found.max() + 1 <= 60
  with pytest.raises(InputError, match='finite numbers wanted'):
    clusterfug.cluster([[np.nan]])
