"""Methods on graphs: padding, and what the common suite, of the tiny presets, does not reach."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from test_graphs import PATH, one

from ssljax import config, data, losses, methods, models, probing, program, sharding
from ssljax.data import graph as graph_files
from ssljax.data import neighbours, pipeline
from ssljax.methods.graph import _pretexts, hypeboy
from ssljax.models import graph_heads, heads

ON_GRAPHS = [n for n, modality in methods.available().items() if modality == 'graph']


PADDED = {name: (name, None, {}) for name in ON_GRAPHS} | {
  'graphmae-graphs': ('graphmae', 'graph', {'level': 'graph', 'decoder': 'gin'}),
  # More than there are nodes: they are drawn with repetition.
  'meow': ('meow', 'node', {'anchors': 256}),
  'scgc': ('scgc', 'node', {'anchors': 256}),
}


@pytest.mark.parametrize('case', PADDED)
def test_padding_changes_nothing(case):
  name, kind, fields = PADDED[case]
  program = changed(name, small.graph_source(kind), **fields) if fields else small.make(name)
  train_state = program.init(small.key())
  found = []
  for room in (0, 64):
    budget = tuple(n + room for n in program.source.budget)
    source = dataclasses.replace(program.source, budget=budget)
    rows = small.rows(program.method, source=source)
    batch = probing.place(rows, source, program)
    views = jax.jit(program.method.views)(small.key(), batch)
    found.append(
      jax.jit(jax.value_and_grad(program.method.loss, has_aux=True))(
        train_state.params, train_state.state, views, small.key(), 0
      )
    )
  ((first, _), grads), ((second, _), more) = found
  np.testing.assert_allclose(second, first, rtol=1e-5)
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(more), strict=True):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert np.linalg.norm(a - b) <= 1e-4 * max(np.linalg.norm(a), 1e-5)


def hypergraph():
  """Six nodes in three hyperedges, one of them of a single node."""
  arrays = {
    'members': np.array([0, 1, 2, 2, 3, 5]),
    'offsets': np.array([0, 3, 5, 6]),
    'x': np.random.default_rng(0).random((6, 8)).astype(np.float32),
    'y': np.array([0, 0, 1, 1, 2, 2]),
    'split1_train': np.arange(5),
    'split1_test': np.array([5]),
  }
  return graph_files.from_arrays(arrays, data.get_config('graph'), where='six nodes')


def papers():
  """The small graph with two meta-paths of groups, of differing sizes."""
  source = small.graph_source('node')
  rng = np.random.default_rng(0)
  groups = np.stack(
    [np.arange(90) % 9, np.where(rng.random(90) < 0.3, -1, rng.integers(20, size=90))]
  )
  members = np.where(groups < 0, -1, np.arange(90))
  extra = {'path_member': members.astype(np.int32), 'path_group': groups.astype(np.int32)}
  return dataclasses.replace(source, extra=extra)


def changed(name, source, *, steps=3, **fields):
  """The program of a method's tiny preset on a source with some of its settings changed."""
  c = small.small_config(name)
  c.batch_size = 1 if source.whole else small.ROWS
  with c.unlocked():
    for field, value in fields.items():
      part, _, option = field.rpartition('__')
      (c[part] if part else c.method)[option] = value
    c.optim.learning_rate = 0.05
  if not source.whole:
    c.data.packs = source.packs
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  source = pipeline.fitted(source, c, steps)
  made = small.Made(*program.make_program(c, mesh, source, steps=steps))
  made.source = source
  return made


def taken(name, source, *, steps=3, **fields):
  """Losses of a few steps of `changed`, and the parameters that stay as they were."""
  made = changed(name, source, steps=steps, **fields)
  state = made.init(small.key())
  before = jax.device_get(state.params)
  state, found = small.run(made, state, 0, steps)
  still = [
    sharding.path_name(path)
    for (path, a), b in zip(
      jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(state.params), strict=True
    )
    if (a == np.asarray(b)).all()
  ]
  features = made.embed(state.params, state.state, small.seen(made))['features']
  assert np.isfinite(found).all() and np.isfinite(features).all()
  return found, still


OPTIONS = {
  'gca-eigenvector': ('gca', 'node', {'centrality': 'eigenvector'}),
  'gca-pagerank': ('gca', 'node', {'centrality': 'pagerank'}),
  'graphmae-graphs': (
    'graphmae',
    'graph',
    {'level': 'graph', 'encoder__layer': 'gin', 'decoder': 'gin'},
  ),
  'meow-adaptive': ('meow', 'papers', {'adaptive': True}),
  'meow-paths': ('meow', 'papers', {}),
  'mvgrl-graphs': ('mvgrl', 'graph', {'level': 'graph', 'projector': (16, 16)}),
  'hypeboy-features': ('hypeboy', 'hypergraph', {'stage': 'features', 'drop_hyperedges': 0.2}),
  'hypeboy-filling': ('hypeboy', 'hypergraph', {}),
  'scgc-star': ('scgc', 'node', {'reconstruct': False, 'cluster_start': 0.0}),
  'supergat-sd': ('supergat', 'node', {'encoder__attention': 'SD'}),
  'vgae-plain': ('vgae', 'node', {'variational': False}),
}


@pytest.mark.parametrize('option', OPTIONS)
def test_options_train(option):
  name, kind, fields = OPTIONS[option]
  made = {'papers': papers, 'hypergraph': hypergraph}
  source = made[kind]() if kind in made else small.graph_source(kind)
  _, still = taken(name, source, **fields)
  # A decoder's attention of receivers is of codes of 0; a plain autoencoder has no spread.
  assert not [p for p in still if 'att_r' not in p and 'log_std' not in p]


def test_gcc_on_neighbours():
  """Every pack of sampled neighbours has roots of its own, and each of its nodes an embedding."""
  source = neighbours.NeighbourSource(small.graph_source('node'), (3, 2), packs=2)
  _, still = taken('gcc', source, roots=8)
  assert not still
  program = changed('gcc', source, roots=8)
  batch = small.rows(program.method, source=program.source)
  views = jax.eval_shape(program.method.views, small.key(), batch)['views']
  assert [v['nodes'].shape[0] for v in views] == [16, 16]


@pytest.mark.parametrize('task', [*_pretexts.TASKS, *_pretexts.LABELLED_TASKS])
def test_every_pretext_trains_its_head(task):
  _, still = taken('selftask_gnn', small.graph_source('node'), task=task)
  assert not still


def test_pretexts_of_a_path():
  """Of the path 0 - 1 - 2 - 3 - 4, its ends labelled 0 and 1."""
  batch = one(x=np.eye(5))
  label = np.full(batch['nodes'].shape, -1, np.int32)
  label[0, 0], label[0, 4] = 0, 1
  batch = {**batch, 'label': jnp.asarray(label)}
  ends = _pretexts.one_hot_nodes(jnp.array([[0, 4]]), 64)
  far = _pretexts.distances(batch, ends)[0, :5]
  np.testing.assert_array_equal(far, [[0, 4], [1, 3], [2, 2], [3, 1], [4, 0]])
  value = _pretexts.distance_to_labelled(None, batch, 2)[1]['value'][0, :5]
  # One labelled node a class: the least, the mean and the largest distance are the same.
  np.testing.assert_allclose(value, np.tile(far, (1, 3)) / _pretexts.REACH, rtol=1e-6)
  np.testing.assert_allclose(
    _pretexts.node_property(None, batch)[1]['value'][0, :5, 0], np.log1p([1, 2, 2, 2, 1]), rtol=1e-6
  )
  spread = _pretexts.propagated(batch, 2)[0, :5]
  np.testing.assert_allclose(spread.sum(1), 1, rtol=1e-5)
  assert spread[1, 0] > spread[2, 0] > spread[3, 0] and spread[0].tolist() == [1, 0]
  for task in ('context_label', 'ensemble_label', 'corrected_label'):
    share = _pretexts.LABELLED_TASKS[task](None, batch, 2)[1]['share'][0, :5]
    np.testing.assert_allclose(share.sum(1), 1, rtol=1e-4, err_msg=task)
    assert share[0, 0] > 0.5 > share[4, 0], task
  hidden, targets = _pretexts.attribute_mask(small.key(), one(x=np.eye(40), nodes=40))
  rows = np.asarray(targets['rows'][0])
  assert 0 < rows.sum() < 15 and not np.asarray(hidden['x'][0])[rows].any()
  _, targets = _pretexts.pairwise_distance(small.key(), batch)
  pairs, kind = (np.asarray(targets[n][0]) for n in ('pairs', 'kind'))
  apart = np.abs(pairs[:, 0] - pairs[:, 1])
  seen = np.asarray(targets['where'][0])
  np.testing.assert_array_equal(kind[seen], np.minimum(apart[seen], 4) - 1)
  assert (apart[~seen] == 0).all()


def test_distances_to_classes_of_uneven_sizes():
  """25, 1 and 0 labelled nodes of a path: 20 of a class count, whatever others have."""
  label = np.full(40, -1)
  label[:25], label[39] = 0, 1
  path = np.stack([np.arange(39), np.arange(1, 40)], 1)
  batch = one(path, 40, x=np.ones((40, 1)))
  padded = np.full(batch['nodes'].shape, -1)
  padded[0, :40] = label
  batch = {**batch, 'label': jnp.asarray(padded)}
  value = _pretexts.distance_to_labelled(None, batch, 3)[1]['value'][0, :40] * _pretexts.REACH
  far = np.minimum(np.abs(np.subtract.outer(np.arange(40), np.arange(40))), _pretexts.REACH)
  least, mean, most = np.split(np.asarray(value), 3, 1)
  one_node, none = far[:, 39], np.full(40, _pretexts.REACH)
  np.testing.assert_array_equal(least.T, [far[:, :25].min(1), one_node, none])
  np.testing.assert_allclose(mean.T, [far[:, :20].mean(1), one_node, none], rtol=1e-6)
  np.testing.assert_array_equal(most.T, [far[:, :20].max(1), one_node, none])


def test_rows_of_zeros_have_a_cosine_of_0():
  x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  empty = jnp.asarray(x).at[1].set(0)
  value, gradient = jax.value_and_grad(losses.sce)(empty, x, gamma=2.0)
  np.testing.assert_allclose(value, 1 / 4, rtol=1e-5)  # the other three are as they should be
  wanted = -2 / 4 * x[1] / np.linalg.norm(x[1]) / 1e-12
  np.testing.assert_allclose(gradient[1], wanted, rtol=1e-4)
  assert not jax.grad(losses.sce)(empty, x, eps=None)[1].any()
  asked = jax.grad(lambda q: losses.hypeboy(q, x, jnp.arange(4)))(empty)
  assert not asked[1].any() and asked[0].any() and float(jnp.abs(asked).max()) < 10


def test_hypergraph_encoder_is_unigcnii():
  """Restated node by node from the paper."""
  batch = hypergraph().collate(np.arange(1))
  config = models.get_config('hypergraph')
  config.update({'dim': 5, 'depth': 2})
  net = models.make(config, dtype=jnp.float32)
  params, stats = net.init(small.key(), batch)
  w = jax.tree.map(np.asarray, params)
  edges = [[0, 1, 2], [2, 3], [5]]  # 4 is in none
  degree = [sum(v in e for e in edges) for v in range(6)]

  def propagated(x):
    y = np.zeros_like(x)
    for e in edges:
      sent = x[e].mean(0) * np.mean([degree[v] for v in e]) ** -0.5
      for v in e:
        y[v] += sent
    return np.stack([y[v] * degree[v] ** -0.5 if degree[v] else x[v] for v in range(6)])

  raw = batch['x'][0, :6]
  x = first = np.maximum(raw @ w['first']['kernel'] + w['first']['bias'], 0)
  for layer in (1, 2):
    mixed, beta = 0.9 * propagated(x) + 0.1 * first, np.log(0.5 / layer + 1)
    x = (1 - beta) * mixed + beta * mixed @ w[f'layer_{layer}']['kernel']
    x = np.maximum(x, 0) if layer == 1 else x
  found = net.apply(params, stats, batch, train=False)[0]['features'][0]
  np.testing.assert_allclose(found[:6], x, atol=1e-5)
  assert not np.asarray(found[6:]).any()


def test_hyperedges_ask_for_their_members():
  source = hypergraph()
  assert source.split['val'].tolist() == [0] and source.split['train'].tolist() == [1, 2, 3, 4]
  assert source.extra['hyperedge'].tolist() == [0, 0, 0, 1, 1, 2]
  plain = hypeboy.with_hyperedges(one())
  real = np.asarray(plain['member'][0] >= 0)
  pairs = {}
  for e, v in zip(
    plain['hyperedge'][0][real].tolist(), plain['member'][0][real].tolist(), strict=True
  ):
    pairs.setdefault(e, set()).add(v)
  assert sorted(map(sorted, pairs.values())) == PATH.tolist()


@pytest.mark.parametrize('name', [n for n, m in methods.available().items() if m == 'graph'])
def test_every_preset_makes_a_network(name):
  from ssljax import program

  for preset in methods.presets(name):
    level = methods.load(name).get_config(preset).method.get('level', methods.load(name).LEVEL[0])
    c = config.get_config(
      f'{name},{"communities" if level == "node" else "motifs"},preset={preset}'
    )
    source = data.load(c.data, 'train')
    mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
    made = program.make_program(c, mesh, pipeline.fitted(source, c, 1), steps=2)
    assert jax.tree.leaves(made.abstract.params)


def views_of(name):
  """(program, train state, views of its small graph)."""
  program = small.make(name)
  batch = probing.place(small.rows(program.method, source=program.source), program.source, program)
  return program, program.init(small.key()), jax.jit(program.method.views)(small.key(), batch)


def test_hypeboy_learns_nothing_of_a_node_that_hears_of_nothing():
  """Masked, and in no hyperedge with a node that is not: its decoded features are 0 at first."""
  c = small.small_config('hypeboy')
  c.batch_size, c.method.stage = 1, 'features'
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  source = pipeline.fitted(hypergraph(), c, 1)
  made = program.make_program(c, mesh, source, steps=1)
  state, method = made.init(small.key()), made.method
  batch = probing.place(small.rows(method, source=source), source, made)

  @jax.jit
  def steepest(rng):
    views = method.views(rng, batch)
    gradient = jax.grad(lambda p: method.loss(p, state.state, views, rng, 0)[0])(state.params)
    largest = jnp.stack([jnp.abs(g).max() for g in jax.tree.leaves(gradient)]).max()
    return views['masked'][0, 4:6].any(), largest

  masked, largest = jax.vmap(steepest)(jax.random.split(small.key(), 8))
  assert masked.any() and 0 < largest.max() < 100


def test_supergat_sums_the_losses_of_its_layers():
  """Where parameters are near 0 so are the logits of a pair: ln 2 for each of three layers, two of
  the encoder and the classifier."""
  program, state, views = views_of('supergat')
  tiny = jax.tree.map(lambda p: 1e-3 * p, state.params)
  value, (_, metrics) = program.method.loss(tiny, state.state, views, small.key(), 0)
  weight = config.get_config('supergat,communities,preset=tiny').method.edge_weight
  np.testing.assert_allclose(metrics['edge_loss'], 3 * np.log(2), rtol=1e-3)
  labels = jnp.log(1.0 + views['label'].max())  # guessing among the classes
  np.testing.assert_allclose(value, labels + weight * 3 * np.log(2), rtol=1e-3)


def test_scgc_finds_by_influence_among_all():
  """The contrast restated: influence is in the numerator alone."""
  program = changed('scgc', small.graph_source('node'), reconstruct=False, cluster_start=1.0)
  batch = probing.place(small.rows(program.method, source=program.source), program.source, program)
  views, state = program.method.views(small.key(), batch), program.init(small.key())
  value, _ = program.method.loss(state.params, state.state, views, small.key(), 0)
  z = np.asarray(program.embed(state.params, state.state, batch)['features'])[:90]
  anchors = np.asarray(views['anchors'])[0]
  matrix = np.eye(90)
  edges = program.source.edges
  matrix[edges[:, 0], edges[:, 1]] = 1
  walk = matrix / matrix.sum(1, keepdims=True)
  reach = (walk + walk @ walk)[anchors] / 2
  s, terms = np.exp(z[anchors] @ z.T / 0.5), []
  for row, i in enumerate(anchors):
    others = np.arange(90) != i
    if reach[row, others].any():
      terms.append(np.log(s[row, others].sum() / (reach[row, others] * s[row, others]).sum()))
  np.testing.assert_allclose(value, np.mean(terms), rtol=1e-5)


def test_meow_pulls_nodes_to_their_prototypes():
  """Restated; AdaMEOW, of the same parameters but for its MLP, has none of it."""
  c, source = small.small_config('meow'), small.graph_source('node')

  def pair(**fields):
    """Losses of no and of a double weight, and what they are of."""
    plain, heavy = (
      changed('meow', source, encoder__drop=0.0, prototype_weight=w, **fields).method
      for w in (0.0, 2.0)
    )
    batch = small.rows(plain, source=source)
    views = plain.views(small.key(), batch)
    params, state = jax.jit(plain.init)(small.key(), views)
    # In one program, which shares what the two have in common.
    both = jax.jit(lambda *args: [m.loss(*args, small.key(), 0) for m in (plain, heavy)])
    (first, (made, _)), (second, _) = both(params, state, views)
    return second - first, made['centroids'], params, batch

  pulled, centroids, params, batch = pair()
  outputs, _ = models.make(c.encoder, dtype=jnp.float32).apply(
    params['encoder'], {}, batch, train=False
  )
  projector = heads.mlp(c.method.projector, norm=None, activation=jax.nn.elu)
  coarse, fine = (
    np.asarray(projector.apply(params['projector'], {}, outputs[n], train=False)[0])[0, :90]
    for n in ('coarse', 'fine')
  )
  fine, wanted = fine / np.linalg.norm(fine, axis=1, keepdims=True), []
  for kept in map(np.asarray, centroids.values()):
    own = (coarse @ kept.T).argmax(1)
    chance = np.exp(fine @ kept.T / c.method.temperature)
    wanted.append(-np.log(chance[np.arange(90), own] / chance.sum(1)).mean())
  np.testing.assert_allclose(pulled, 2 * np.mean(wanted), rtol=1e-4)
  assert pair(adaptive=True)[0] == 0


def test_bandwidths_of_each_layer():
  """Drawn apart; those of the edges into a node sum to 1. Embeddings are at length one."""
  made, state, views = views_of('bandana')
  features = np.asarray(made.embed(state.params, state.state, small.seen(made))['features'])[:90]
  assert features.shape[1] == 64  # two layers side by side
  length = np.linalg.norm(features, axis=1)
  np.testing.assert_allclose(length[length > 0], 1, rtol=1e-5)
  assert length.any()
  bandwidth, receivers, real = (
    np.asarray(views[n])[0] for n in ('bandwidth', 'receivers', 'edges')
  )
  assert bandwidth.shape == (len(real), 2)
  assert abs(np.corrcoef(bandwidth[real].T)[0, 1]) < 0.95
  total = np.zeros((receivers.max() + 1, 2))
  np.add.at(total, receivers[real], bandwidth[real])
  np.testing.assert_allclose(total[np.unique(receivers[real])], 1, rtol=1e-5)
  assert not bandwidth[~real].any()


def test_edges_weigh_by_layer():
  """The second layer of a GCN uses the second weights, and only that one."""
  batch = one(x=np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
  c = models.get_config('gcn')
  c.update(dim=4, depth=2, activation='elu')
  encoder = models.make(c, dtype=jnp.float32)
  params, state = encoder.init(small.key(), batch)
  weights = jax.random.uniform(small.key(), (*batch['edges'].shape, 2))
  both = encoder.apply(params, state, batch, train=False, weights=weights)[0]['layers']
  first, second = (
    encoder.apply(params, state, {**batch, 'weight': weights[..., i]}, train=False)[0]['layers']
    for i in (0, 1)
  )
  np.testing.assert_allclose(both[0], first[0], rtol=1e-6)
  c.update(depth=1)
  last = models.make(c, dtype=jnp.float32)
  wanted, _ = last.apply(
    {'layer_0': params['layer_1']}, {}, {**batch, 'x': both[0], 'weight': weights[..., 1]},
    train=False,
  )  # fmt: skip
  np.testing.assert_allclose(both[1], wanted['layers'][0], rtol=1e-5, atol=1e-6)
  assert np.abs(both[1] - second[1]).max() > 1e-3


def test_an_mlp_with_a_shortcut():
  x = jax.random.normal(small.key(), (2, 5, 3))
  net = graph_heads.shortcut_mlp((6, 4))
  params, _ = net.init(small.key(), x)
  y = np.asarray(x)
  for i in range(2):
    y = y @ params[f'linear_{i}']['kernel'] + params[f'linear_{i}']['bias']
    y = np.where(y > 0, y, y / 4)
  wanted = y + x @ params['shortcut']['kernel'] + params['shortcut']['bias']
  np.testing.assert_allclose(net.apply(params, {}, x, train=True)[0], wanted, rtol=1e-5, atol=1e-6)
