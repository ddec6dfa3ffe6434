"""What every method keeps: one suite, run on each file found in methods/."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from ssljax import checkpoint, methods, sharding, workdir
from ssljax.program import with_own_partners

pytestmark = pytest.mark.parametrize('name', small.NAMES)


def assert_close(seen, wanted, tolerance):
  """Each array's difference is small relative to its own norm."""

  def check(path, a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    error = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-6)
    assert error < tolerance, f'{sharding.path_name(path)}: off by {error:.2e} of its norm'

  jax.tree_util.tree_map_with_path(check, seen, wanted)


def level(name):
  """'node' or 'graph' for what the examples of a method on graphs are; None for others."""
  return getattr(methods.load(name), 'LEVEL', (None,))[0]


def test_module_says_what_it_is(name):
  module = methods.load(name)
  assert re.search(r'\b(19|20)\d\d\b', module.PAPER) and module.FAMILY and module.__doc__
  for preset in methods.presets(name):
    settings = module.get_config(preset)
    assert {'encoder', 'batch_size', 'epochs', 'optim', 'method'} <= set(settings)


def test_steps_are_finite_stable_and_compile_once(name):
  program = small.make(name)
  before = program.init(small.key())
  spec = jax.tree.map(lambda x: (x.shape, x.dtype), before)
  params = jax.device_get(before.params)  # the step donates them
  after, losses = small.run(program, before, 0, 3)
  assert np.isfinite(losses).all()
  assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == spec
  assert program.step._cache_size() == 1
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), jax.device_get(after.params), params)
  for path, each in jax.tree_util.tree_leaves_with_path(moved):
    path = sharding.path_name(path)
    assert each or any(re.search(p, path) for p in program.method.frozen), path
  assert int(after.step) == 3
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(after.params))


def test_every_parameter_gets_a_gradient_or_a_reason(name):
  program = small.make(name)
  _, grads, _ = small.first_step(program, small.placed(program))
  for path, gradient in jax.tree_util.tree_leaves_with_path(jax.device_get(grads)):
    path = sharding.path_name(path)
    reasons = [why for pattern, why in program.method.frozen.items() if re.search(pattern, path)]
    moved = bool(gradient.any())
    assert moved != bool(reasons), f'{path}: gradient {moved}, frozen {reasons}'
    assert np.isfinite(gradient).all(), path


def accumulates(name):
  """Whether eight devices have micro-batches, and a step of these is that of the whole batch."""
  program = small.make(name)
  has_batch_norm = 'batch_stats' in str(jax.tree.structure(program.abstract.state))
  return program.method.forward is not None and not has_batch_norm and level(name) is None


def test_eight_devices_equal_one(name):
  """And two micro-batches at once, where they change nothing: a program less to compile."""
  micro_batches = 2 if accumulates(name) else 1
  seen = small.trace(name, 4, 2, steps=4, micro_batches=micro_batches)
  small.assert_same(seen, small.trace(name, 1, 1, steps=4))
  state = small.make(name, 4, 2, micro_batches=micro_batches).init(small.key())
  split = [x for x in jax.tree.leaves(state.params) if not x.sharding.is_fully_replicated]
  assert split, 'fsdp shards no parameter'


def test_stopped_and_resumed_is_the_same_to_the_bit(name, tmp_path):
  program = small.make(name)
  straight, _ = small.run(program, program.init(small.key()), 0, 4)
  fields = workdir.to_fields(small.small_config(name))
  half, _ = small.run(program, program.init(small.key()), 0, 2)
  with checkpoint.open_folder(tmp_path, fields, versions={}) as checkpoints:
    checkpoints.save(2, half)
  with checkpoint.open_folder(tmp_path, fields, versions={}) as checkpoints:
    restored, step = checkpoints.restore(program.abstract)
  resumed, _ = small.run(program, restored, step, 4)
  jax.tree.map(np.testing.assert_array_equal, resumed, straight)


def test_bfloat16_runs_and_is_near(name):
  exact, half = small.make(name), small.make(name, dtype='bfloat16')
  _, wanted = small.run(exact, exact.init(small.key()), 0, 1)
  state, seen = small.run(half, exact.init(small.key()), 0, 3)
  np.testing.assert_allclose(seen[0], wanted[0], rtol=0.05)
  assert np.isfinite(seen).all()
  assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
    lambda x: (x.shape, x.dtype), half.abstract
  )
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(state.params))


def test_accumulated_step_is_the_big_batch_step(name):
  program = small.make(name)
  if program.method.forward is None:
    pytest.skip(f'{name} brings its own step')
  if accumulates(name):
    pytest.skip(f'{name} accumulates in test_eight_devices_equal_one')
  train_state = program.init(small.key())
  # Every row twice in a row: the micro-batches then hold the same rows, and so have the batch
  # statistics of the whole; what is left to differ is how the gradient is put together.
  batch = jax.tree.map(lambda x: x[::2].repeat(2, axis=0), small.viewed(name))
  whole, parts = [
    small.gradient(name, n)(train_state.params, train_state.state, batch, small.key(1), 0)
    for n in (1, 2)
  ]
  np.testing.assert_allclose(parts[0][0], whole[0][0], rtol=1e-5)
  assert_close(parts[1], whole[1], 1e-4)


def test_order_of_the_batch_does_not_matter(name):
  if level(name) == 'node':
    pytest.skip(f'{name} has one graph in a batch; of nodes, see test_graphs')
  program = small.make(name)
  train_state = program.init(small.key())
  batch = small.viewed(name)
  if program.method.forward is None or accumulates(name):
    loss = small.value(name)
  else:  # its gradient is compiled already, in the test before

    def loss(*arguments):
      return small.gradient(name, 1)(*arguments)[0]

  order = np.random.default_rng(0).permutation(len(batch['index']))
  (wanted, _), (seen, _) = [
    loss(train_state.params, train_state.state, x, small.key(), 0)
    for x in (batch, jax.tree.map(lambda x: x[order], batch))
  ]
  np.testing.assert_allclose(seen, wanted, rtol=1e-5)


def test_embeds_each_example_by_itself(name):
  program = small.make(name)
  train_state = program.init(small.key())
  batch = small.seen(program)
  named = program.embed(train_state.params, train_state.state, batch)
  assert 'features' in named
  for feature, x in named.items():
    rows = math.prod(batch['nodes' if level(name) == 'node' else 'index'].shape)
    assert x.ndim == 2 and len(x) == rows and x.dtype == jnp.float32, feature
    assert np.asarray(x).std(0).max() > 0, feature
  if level(name) == 'node':
    return
  # The first half again in the place of the second: the same shapes, so nothing is compiled.
  half = small.rows(program.method, source=program.source)
  half = jax.tree.map(lambda x: np.resize(x[: len(x) // 2], x.shape), half)
  half = with_own_partners(program.method, half)
  alone = program.embed(train_state.params, train_state.state, small.put(program, half))
  np.testing.assert_allclose(
    alone['features'][: small.ROWS // 2],
    named['features'][: small.ROWS // 2],
    rtol=1e-4,
    atol=1e-5,
  )
  if program.embed_views is not None:
    views = program.embed_views(train_state.params, train_state.state, batch, small.key())
    assert views.ndim == 3 and len(views) == small.ROWS


def test_shows_pictures_in_range(name):
  program = small.make(name)
  if program.method.show is None:
    pytest.skip(f'{name} has no pictures of its own')
  train_state = program.init(small.key())
  shown = jax.jit(program.method.show)(
    train_state.params, train_state.state, small.seen(program), small.key()
  )
  for title, x in shown.items():
    assert x.ndim == 5 and len(x) == small.ROWS, title
    assert float(x.min()) >= 0 and float(x.max()) <= 1, title
