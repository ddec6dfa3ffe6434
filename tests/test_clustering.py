"""Sinkhorn, and what methods that cluster do between epochs and in choosing their batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from cases_clustering import numpy_sinkhorn
from jax.sharding import PartitionSpec as P

from ssljax import checkpoint, losses, ops, program, restore, sharding, workdir
from ssljax.errors import InputError
from ssljax.methods.image import _hierarchy, deepercluster


def scores(rows=24, columns=6, seed=0):
  return np.random.default_rng(seed).uniform(-1, 1, (rows, columns)).astype(np.float32)


# Sinkhorn.


@pytest.mark.parametrize(('eps', 'iters'), [(0.05, 3), (0.05, 1), (0.3, 10)])
def test_sinkhorn_equals_the_plain_iterations(eps, iters):
  x = scores()
  codes = jax.jit(functools.partial(ops.sinkhorn, eps=eps, iters=iters))(x)
  np.testing.assert_allclose(codes, numpy_sinkhorn(x.astype(np.float64), eps, iters), atol=1e-5)
  np.testing.assert_allclose(codes.sum(1), 1, rtol=1e-5)


def test_sinkhorn_uses_all_clusters_alike():
  x = scores() + np.float32([1, 0, 0, 0, 0, 0])  # all are nearest to the first
  assert (x.argmax(1) == 0).mean() > 0.5
  columns = ops.sinkhorn(x, eps=0.3, iters=100).sum(0)
  np.testing.assert_allclose(columns, len(x) / x.shape[1], rtol=1e-3)


def test_sinkhorn_does_not_overflow_and_ignores_constants():
  x = scores()
  np.testing.assert_allclose(ops.sinkhorn(x + 100), ops.sinkhorn(x), atol=1e-4)
  # exp(1000 / 0.05) and exp(-1000 / 0.05) in one batch, a column far from every row.
  wild = x * 1000
  wild[:, 3] = -1e6
  codes = ops.sinkhorn(wild)
  assert np.isfinite(codes).all()
  np.testing.assert_allclose(codes.sum(1), 1, rtol=1e-5)


def test_sinkhorn_of_some_rows():
  x, counted = scores(), np.arange(24) % 3 > 0
  codes = ops.sinkhorn(x, where=counted)
  np.testing.assert_allclose(codes[counted], ops.sinkhorn(x[counted]), atol=1e-5)
  np.testing.assert_array_equal(ops.sinkhorn(x, where=False & counted), 0)


def test_sinkhorn_of_shares_is_that_of_the_whole():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  mapped = jax.shard_map(
    functools.partial(ops.sinkhorn, axis_name='data'), mesh=mesh, in_specs=P('data'),
    out_specs=P('data'),
  )  # fmt: skip
  np.testing.assert_allclose(jax.jit(mapped)(scores()), ops.sinkhorn(scores()), atol=1e-5)


def test_mistakes_are_named():
  z, prototypes = np.ones((4, 2, 3), np.float32), np.ones((5, 3), np.float32)
  for call, sentence in [
    (lambda: ops.sinkhorn(z), r'scores has shape \(4, 2, 3\), wanted \(B, K\)'),
    (lambda: ops.sinkhorn(z[0], iters=0), 'iters is 0, wanted at least 1'),
    (lambda: ops.sinkhorn(z[0], eps=0), 'eps is 0, wanted more than 0'),
    (lambda: losses.swav(z, prototypes[:, :2]), r'prototypes has shape \(5, 2\)'),
    (lambda: losses.swav(z, prototypes, assign_views=(0, 2)), 'assign_views is'),
    (lambda: losses.scan(z[:, 0], z[:2, 0]), r'neighbors has shape \(2, 3\), wanted \(4, 3\)'),
  ]:
    with pytest.raises(InputError, match=sentence):
      call()


def test_nobody_confident_is_no_loss():
  logits = np.zeros((4, 3), np.float32)
  value, grad = jax.value_and_grad(losses.scan_selflabel, argnums=1)(logits, logits)
  assert value == 0 and not np.any(grad)


def test_no_example_with_a_label_is_no_loss():
  z, centroids = np.ones((4, 2, 3), np.float32), [np.eye(3, dtype=np.float32)]
  assert losses.deepcluster_v2(z, centroids, np.full((4, 1), -100)) == 0


# Methods.


def make(name, data=1, fsdp=1, **fields):
  config = small.small_config(name)
  with config.unlocked():
    config.method.update(fields)
  mesh = sharding.make_mesh(data, fsdp, jax.devices()[: data * fsdp])
  return program.make_program(config, mesh, small.SOURCE, steps=8)


@pytest.fixture(scope='module')
def images():
  """What stands for the features of the images: two that are near come from near blobs."""
  flat = small.SOURCE.arrays['image'].reshape(len(small.SOURCE), -1) / 255
  return jnp.asarray(flat @ np.random.default_rng(0).normal(size=(flat.shape[1], 64)), jnp.float32)


def test_queue_of_swav_fills_from_its_step_on_and_counts_when_full():
  compiled = make('swav', queue_size=2 * small.ROWS, queue_start_step=1)
  state = compiled.init(small.key())
  found = []
  for step in range(3):
    state, _ = small.run(compiled, state, step, step + 1)
    found.append(np.asarray(state.state['queue']))
  assert not found[0].any() and found[1][: small.ROWS].any() and not found[1][small.ROWS :].any()
  np.testing.assert_array_equal(found[2][small.ROWS :], found[1][: small.ROWS])
  np.testing.assert_allclose(np.linalg.norm(found[2], axis=-1), 1, rtol=1e-5)


def test_prototypes_of_swav_stay_for_the_first_steps_and_have_length_one():
  compiled = make('swav', freeze_prototypes_steps=2)
  state = compiled.init(small.key())
  start = np.asarray(state.params['prototypes'])
  state, _ = small.run(compiled, state, 0, 2)
  np.testing.assert_allclose(state.params['prototypes'], start, atol=1e-6)
  state, _ = small.run(compiled, state, 2, 3)
  assert np.abs(state.params['prototypes'] - start).max() > 1e-6
  np.testing.assert_allclose(np.linalg.norm(state.params['prototypes'], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize('name', ['deepcluster_v2', 'deepercluster', 'scan', 'g_simclr'])
def test_refresh_on_eight_devices_equals_one(name):
  found = []
  for data, fsdp in ((1, 1), (4, 2)):
    compiled = small.make(name, data, fsdp)
    state = compiled.init(small.key())
    width = compiled.embed(state.params, state.state, small.seen(compiled))['features'].shape[1]
    x = np.random.default_rng(0).normal(size=(len(small.SOURCE), width)).astype(np.float32)
    x = sharding.put_replicated(x, compiled.mesh)
    refreshed = compiled.refresh(state.params, state.state, x, small.key())
    assert jax.tree.structure(refreshed) == jax.tree.structure(state.state)
    found.append(sharding.to_host(refreshed))
  # A row between two centroids may go either way: a few labels may differ.
  for a, b in zip(*map(jax.tree.leaves, found), strict=True):
    same = np.isclose(a, b, rtol=1e-3, atol=1e-3).mean()
    assert same > 0.95


def test_deepcluster_labels_are_the_nearest_centroids():
  compiled = small.make('deepcluster_v2')
  state = compiled.init(small.key())
  width = state.params['projector']['linear_0']['kernel'].shape[0]
  x = jnp.asarray(np.random.default_rng(0).normal(size=(len(small.SOURCE), width)), jnp.float32)
  refreshed = compiled.refresh(state.params, state.state, x, small.key())
  for head, centroids in enumerate(refreshed['centroids']):
    nearest = (np.asarray(refreshed['memory'])[:, head % 2] @ np.asarray(centroids).T).argmax(1)
    np.testing.assert_array_equal(refreshed['labels'][:, head], nearest)
  # What training has seen stays in the memory: the second refresh clusters that.
  after, _ = small.run(compiled, compiled.init(small.key()), 0, 1)
  again = compiled.refresh(after.params, after.state, x, small.key())
  np.testing.assert_array_equal(again['memory'][: small.ROWS], after.state['memory'][: small.ROWS])
  assert np.asarray(again['memory']).any(-1).all()


def blobs(count=4, inside=3, each=10):
  rng = np.random.default_rng(0)
  centre = 0.6 * np.eye(count, 8)[:, None, None]
  part = 0.2 * np.eye(inside, 8)[None, ::-1, None, ::-1]
  x = centre + part + 0.01 * rng.normal(size=(count, inside, each, 8))
  return x.reshape(-1, 8).astype(np.float32)


def test_hierarchy_finds_clusters_within_clusters():
  x, best = jnp.asarray(blobs()), 0
  step = jax.jit(functools.partial(_hierarchy.cluster, iters=10))
  for seed in range(5):  # k-means may stop at a lesser optimum
    memory = _hierarchy.empty(4, 3, 8)
    labels, memory = step(x, memory, jax.random.key(seed))
    upper, lower = np.asarray(labels).T
    # Every sub-cluster is the k-means of its super-cluster's rows alone.
    for s in np.unique(upper):
      centroids = memory['sub'][s]
      distance = ((x[upper == s][:, None] - centroids) ** 2).sum(-1)
      np.testing.assert_array_equal(lower[upper == s], distance.argmin(1))
    again, _ = step(x, memory, jax.random.key(99))  # begins where the last one ended
    np.testing.assert_array_equal(again, labels)
    joint = (upper * 3 + lower).reshape(12, 10)
    best = max(best, len(set(joint[(joint == joint[:, :1]).all(1), 0])))
  assert best >= 9, best


def test_weights_make_clusters_count_alike():
  labels = jnp.array([[0, 0]] * 5 + [[0, 1]] * 1 + [[1, 0]] * 2)
  weights = _hierarchy.even_weights(labels, 2, 2)
  sums = [weights[:5].sum(), weights[5:6].sum(), weights[6:].sum()]
  np.testing.assert_allclose(sums, 8 / 3, rtol=1e-6)


def test_sobel_sees_edges_and_no_flat_colour():
  x = np.zeros((1, 6, 6, 3), np.float32)
  x[:, :, 3:] = 1
  edges = deepercluster.sobel(jnp.asarray(x))
  inside = np.asarray(edges)[0, 1:-1, 1:-1]
  np.testing.assert_allclose(inside[:, :, 0], np.tile([0, 4, 4, 0], (4, 1)))
  np.testing.assert_allclose(inside[:, :, 1], 0)


def test_rotations_of_deepercluster_are_what_their_number_says():
  method = make('deepercluster', views={'scale': (1.0, 1.0), 'ratio': (1.0, 1.0)}).method
  batch = small.rows(method)
  seen = jax.jit(method.views)(small.key(), batch)
  upright = (np.asarray(batch['image'], np.float32) / 255 - 0.4) / 0.2
  assert len(set(np.asarray(seen['rotation']).tolist())) > 1
  for x, image, k in zip(seen['image'][:, 0], upright, seen['rotation'], strict=True):
    np.testing.assert_allclose(x, np.rot90(image, int(k)), atol=1e-4)


def test_neighbours_of_scan_are_near_and_are_chosen(images):
  compiled = small.make('scan')
  state = compiled.init(small.key())
  state = compiled.refresh(state.params, state.state, images, small.key())
  unit = np.asarray(ops.l2_normalize(images))
  nearest = np.argsort(-unit @ unit.T, axis=1)[:, : state['neighbors'].shape[1]]
  same = [
    len(set(a) & set(b)) for a, b in zip(nearest, np.asarray(state['neighbors']), strict=True)
  ]
  assert np.mean(same) > nearest.shape[1] - 0.1
  index = jnp.arange(16)
  chosen = compiled.method.select(state, index, small.key())
  assert all(n in nearest[i] for i, n in zip(range(16), chosen['neighbor'], strict=True))
  assert (chosen['index'] == index).all() and (chosen['neighbor'] != index).any()


@pytest.mark.parametrize(
  ('name', 'fields'),
  [
    ('scan', {'stage': 'selflabel', 'threshold': 0.09}),
    ('scan', {'num_heads': 3, 'head_only': True}),
    ('g_simclr', {'stage': 'autoencoder'}),
  ],
)
def test_other_stages_train(name, fields):
  compiled = make(name, **fields)
  before = compiled.init(small.key())
  _, gradient, _ = small.first_step(compiled, small.placed(compiled))
  frozen = compiled.method.frozen
  assert bool(frozen) == bool(fields.get('head_only'))
  moved = {k: float(optax.tree.norm(v)) > 0 for k, v in gradient.items()}
  assert moved == {k: not (frozen and k == 'encoder') for k in gradient}
  after, found = small.run(compiled, before, 0, 4)
  assert np.isfinite(found).all()
  named = compiled.embed(after.params, after.state, small.seen(compiled))
  if name == 'scan':
    np.testing.assert_allclose(named['probabilities'].sum(1), 1, rtol=1e-5)
  else:
    assert found[-1] < found[0]  # one batch after another of like images


def test_self_labelling_goes_on_with_the_head_that_clustering_chose(tmp_path):
  config, clustered = small.small_config('scan'), make('scan', num_heads=3)
  state, _ = small.run(clustered, clustered.init(small.key()), 0, 2)
  wanted = jax.device_get((state.params, state.state['head_loss']))
  fields = workdir.to_fields(config)
  workdir.write_json(tmp_path / 'config.json', fields)
  with checkpoint.open_folder(tmp_path / 'checkpoints', fields, versions={}) as checkpoints:
    checkpoints.save(2, state)
  labelling = make('scan', num_heads=3, stage='selflabel')
  begun = restore.start_from(
    tmp_path, ('encoder', 'head', 'head_loss'), labelling.init(small.key(1)), lambda _: None
  )
  assert wanted[1].any()
  jax.tree.map(np.testing.assert_array_equal, (begun.params, begun.state['head_loss']), wanted)


@pytest.mark.parametrize(('batch', 'clusters'), [(16, 20), (16, 8), (16, 6)])
def test_guided_batches_share_clusters_as_little_as_they_can(images, batch, clusters):
  compiled = make('g_simclr', num_clusters=clusters)
  state = compiled.init(small.key())
  state = compiled.refresh(state.params, state.state, images, small.key())
  sizes = np.asarray(state['sizes'])
  assert sizes.sum() == len(small.SOURCE) and sorted(state['order']) == list(range(len(images)))
  bounds = np.cumsum(sizes)
  place = np.argsort(np.asarray(state['order']))
  own = np.searchsorted(bounds, place, side='right')  # the cluster of each image, by the state
  filled = (sizes > 0).sum()
  select = jax.jit(compiled.method.select)
  batches = [select(state, jnp.arange(batch), jax.random.key(i))['index'] for i in range(20)]
  for index in map(np.asarray, batches):
    counts = np.bincount(own[index], minlength=clusters)
    assert counts.max() <= -(-batch // filled)
    # Images come twice only where a cluster has too few.
    for c in np.unique(own[index]):
      distinct = len(set(index[own[index] == c]))
      assert distinct == min(counts[c], sizes[c])
  assert len(np.unique(np.concatenate(batches))) > len(images) / 2
  random = [np.random.default_rng(i).choice(len(images), batch, replace=False) for i in range(20)]
  shared = [np.mean([batch - len(set(own[np.asarray(b)])) for b in x]) for x in (batches, random)]
  assert shared[0] < shared[1]
