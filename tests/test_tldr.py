"""TLDR: neighbours in the input space as pairs, and `reduce` on plain arrays."""

import jax
import numpy as np
import pytest
import small

from ssljax import models, train
from ssljax.errors import InputError
from ssljax.methods.vector import tldr
from ssljax.reduce import reduce

X = small.SOURCES['vector'].arrays['x']


def brute_force(x, k):
  distance = ((x[:, None].astype(np.float64) - x) ** 2).sum(-1)
  np.fill_diagonal(distance, np.inf)
  return np.argsort(distance, axis=1)[:, :k]


def test_neighbors_are_the_nearest_others():
  far = X * np.float32(3) + 100  # dot products would name the longest vectors
  np.testing.assert_array_equal(tldr.nearest_by_distance(far, 5), brute_force(far, 5))


def test_refresh_gets_the_inputs_and_pairs_are_neighbors():
  program = small.make('tldr')
  train_state = program.init(small.key())
  source = program.source
  config = small.small_config('tldr')
  assert train.refreshes(1, config, source, program.method)
  assert not any(train.refreshes(step, config, source, program.method) for step in range(2, 50))
  train_state = train.refresh(program, train_state, source, config, small.key(), 1)
  found = np.asarray(train_state.state['neighbors'])
  wanted = brute_force(X, found.shape[1])
  np.testing.assert_array_equal(found, wanted)
  index = np.arange(16, dtype=np.int32)
  drawn = [program.method.select(train_state.state, index, small.key(i)) for i in range(40)]
  seen = np.stack([chosen['neighbor'] for chosen in drawn])
  np.testing.assert_array_equal(drawn[0]['index'], index)
  for i in index:
    assert set(seen[:, i]) == set(wanted[i])


def test_loss_is_of_an_example_and_its_neighbor():
  program = small.make('tldr')
  batch = small.seen(program)
  views = program.method.views(small.key(), batch | {'neighbor_x': batch['x'] + 1})
  np.testing.assert_array_equal(views['x'][:, 0], batch['x'])
  np.testing.assert_array_equal(views['x'][:, 1], batch['x'] + 1)


def test_a_linear_encoder_is_linear_and_others_are_not():
  def additive(name):
    config = models.get_config(name)
    config.dim = 8
    net = models.make(config, dtype='float32')
    params, state = net.init(jax.random.key(0), X[:4])
    f = lambda x: net.apply(params, state, x, train=False)[0]['features']  # noqa: E731
    assert f(X).shape == (len(X), 8)
    return np.allclose(f(X[:4] + X[4:8]), f(X[:4]) + f(X[4:8]), atol=1e-4)

  assert additive('mlp_linear') and not additive('mlp_small')
  config = models.get_config('mlp_small')
  config.hidden = (0,)
  with pytest.raises(InputError, match='encoder.hidden is'):
    models.make(config, dtype='float32')


def clusters(seed=0, n=300):
  """Eight clusters in 30 dimensions."""
  rng = np.random.default_rng(seed)
  label = np.arange(n) % 8
  x = rng.normal(size=(8, 30))[label] + 0.1 * rng.normal(size=(n, 30))
  return x.astype(np.float32), label


def same_class(x, label):
  return (label[brute_force(x, 5)] == label[:, None]).mean()


SETTINGS = {'epochs': 10.0, 'batch_size': 64, 'method__projector': (64, 64)}


def test_reduce_keeps_neighbors_and_works_on_new_vectors():
  x, label = clusters()
  smaller = reduce(x[:200], 4, **SETTINGS)
  y = smaller(x)
  assert y.shape == (300, 4) and y.dtype == np.float32
  assert same_class(y[200:], label[200:]) > 0.9
  np.testing.assert_array_equal(y[:100], reduce(x[:200], 4, **SETTINGS)(x[:100]))
  assert (y[:100] != reduce(x[:200], 4, seed=1, **SETTINGS)(x[:100])).any()


@pytest.mark.parametrize(
  'call,sentence',
  [
    (lambda x: reduce(x[0]), r'float32 of shape \(30,\)'),
    (lambda x: reduce(x * np.nan), 'NaN'),
    (lambda x: reduce(x, colour=3), 'colour is no field'),
    (lambda x: reduce(x, method__colour=3), 'method__colour is no field'),
    (lambda x: reduce(x, epochs='many'), "epochs is 'many', wanted a value such as 20.0"),
    (lambda x: reduce(x, batch_size=9999), 'batch_size is 9999'),
    (lambda x: reduce(x[:8], batch_size=8, method__num_neighbors=8), 'is 8, wanted 1 to 7'),
  ],
)
def test_what_reduce_cannot_use_is_named(call, sentence):
  with pytest.raises(InputError, match=sentence):
    call(clusters()[0])


def test_new_vectors_must_be_as_wide():
  x, _ = clusters()
  smaller = reduce(x, 2, **SETTINGS | {'epochs': 1.0})
  with pytest.raises(InputError, match='vectors have 29 numbers each, wanted 30'):
    smaller(x[:, 1:])
