"""The train step: accumulation that is exact, frozen parameters, two-part methods."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssljax import optim
from ssljax.errors import InputError
from ssljax.method import Method, make_gradient, make_init, make_train_step, two_part


def contrastive_toy():
  """A loss in which every example meets every other, with parameters in both halves."""

  def init(rng, batch):
    a, b = jax.random.split(rng)
    width = batch['x'].shape[-1]
    params = {
      'encoder': {'kernel': jax.random.normal(a, (width, 6))},
      'head': {'kernel': jax.random.normal(b, (6, 6)), 'bias': jnp.zeros(6)},
    }
    return params, {'seen': jnp.int32(0)}

  def views(rng, batch):
    noise = 0.1 * jax.random.normal(rng, (*batch['x'].shape[:1], 2, *batch['x'].shape[1:]))
    return {**batch, 'x': batch['x'][:, None] + noise}

  def forward(params, state, batch, rng, step):
    z = jnp.tanh(batch['x'] @ params['encoder']['kernel'])
    return {'z': z}, {'seen': state['seen'] + len(z)}

  def objective(params, state, outputs, batch, rng, step):
    z = outputs['z'] @ params['head']['kernel'] + params['head']['bias']
    logits = z[:, 0] @ z[:, 1].T
    loss = -jnp.diagonal(jax.nn.log_softmax(logits)).mean()
    return loss, (state, {'chance_loss': jnp.log(len(z))})

  def embed(params, state, batch):
    return {'features': jnp.tanh(batch['x'] @ params['encoder']['kernel'])}

  return two_part(init=init, forward=forward, objective=objective, embed=embed, views=views)


BATCH = {'x': np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)}


@pytest.mark.parametrize('micro_batches', [2, 3, 24])
def test_accumulated_gradient_is_the_big_batch_gradient(micro_batches):
  method = contrastive_toy()
  rng = jax.random.key(0)
  batch = method.views(rng, BATCH)
  params, state = method.init(rng, batch)
  whole = jax.jit(make_gradient(method))(params, state, batch, rng, 0)
  parts = jax.jit(make_gradient(method, micro_batches))(params, state, batch, rng, 0)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, parts)
  assert parts[0][1][0]['seen'] == len(BATCH['x'])  # state passed through every micro-batch
  # The mean of gradients of micro-batch losses, the usual accumulation, is something else.
  half = jax.tree.map(lambda x: x[:12], batch)
  naive = jax.jit(make_gradient(method))(params, state, half, rng, 0)[1]
  assert not np.allclose(naive['encoder']['kernel'], whole[1]['encoder']['kernel'], rtol=1e-2)


def test_accumulation_needs_two_parts():
  method = contrastive_toy()._replace(forward=None)
  with pytest.raises(InputError, match='micro_batches is 2, wanted 1.*two_part'):
    make_gradient(method, 2)


def test_step_moves_what_it_should_and_counts():
  method = contrastive_toy()._replace(
    update=lambda params, state, step: {'seen': state['seen'] + 1000 * (step + 1)}
  )
  frozen = {'^head/bias': 'for this test'}
  config = optim.get_config(name='sgd', learning_rate=0.1, weight_decay=0.1, warmup_fraction=0.0)
  tx = optim.make(config, total_steps=10, batch_size=24, frozen=frozen)
  train_state = jax.jit(make_init(method, tx))(jax.random.key(0), BATCH)
  step = jax.jit(make_train_step(method, tx))
  after, metrics = step(train_state, BATCH, jax.random.key(1))
  assert after.step == 1 and after.state['seen'] == 1024
  np.testing.assert_array_equal(after.params['head']['bias'], train_state.params['head']['bias'])
  assert np.abs(after.params['head']['kernel'] - train_state.params['head']['kernel']).max() > 1e-3
  assert set(metrics) == {'loss', 'grad_norm', 'chance_loss'}
  # Views are drawn anew at every step, and the same way for the same step.
  again, _ = step(train_state, BATCH, jax.random.key(1))
  later, _ = step(train_state._replace(step=jnp.int32(1)), BATCH, jax.random.key(1))
  np.testing.assert_array_equal(
    again.params['encoder']['kernel'], after.params['encoder']['kernel']
  )
  assert not np.array_equal(later.params['encoder']['kernel'], after.params['encoder']['kernel'])


def test_a_method_may_bring_its_own_step():
  def own(tx):
    return lambda train_state, batch, rng: (train_state._replace(step=train_state.step + 7), {})

  method = Method(init=None, loss=None, embed=None, step=own)
  state, _ = make_train_step(method, optax.sgd(0.1))(
    make_init(contrastive_toy(), optax.sgd(0.1))(jax.random.key(0), BATCH), BATCH, None
  )
  assert state.step == 7
