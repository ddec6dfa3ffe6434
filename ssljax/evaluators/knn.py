"""Weighted cosine nearest neighbours: the probe that has nothing to tune."""

import functools
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.errors import InputError
from ssljax.evaluators._arrays import probe_arrays

K = 20
TEMPERATURE = 0.07


def knn_v1(
  train_x,
  train_y,
  test_x,
  test_y,
  *,
  num_classes: int,
  k: int = K,
  temperature: float = TEMPERATURE,
  chunk: int = 512,
  train_chunk: int = 16_384,
) -> float:
  """Accuracy of the weighted k-nearest-neighbour vote on cosine similarity.

  score_c = sum over the k nearest training rows i with y_i = c of exp(cos(x, x_i) / temperature)

  and the class of the highest score is predicted. Equal similarities go to the earlier training
  row, equal scores to the smaller label. Similarities are float32 whatever comes in.

  Args:
    train_x: [n, D] features of the training rows.
    train_y: [n] their integer labels in [0, num_classes).
    test_x: [m, D].
    test_y: [m].
    num_classes: number of classes.
    k: neighbours; where there are fewer training rows, all of them (and the log says so).
    temperature: of the weights.
    chunk: test rows compared at a time.
    train_chunk: training rows compared at a time; memory is about chunk * train_chunk floats.

  Returns:
    The fraction of test rows classified rightly.

  Raises:
    InputError: arrays that do not fit together, values that are not finite, labels out of range.

  Wu et al. 2018 (InstDisc), section 3.4; k and temperature of Caron et al. 2021 (DINO).
  """
  train_x, train_y, test_x, test_y = probe_arrays(train_x, train_y, test_x, test_y, num_classes)
  if k < 1:
    raise InputError(f'k: {k} seen, at least 1 wanted')
  if k > len(train_x):
    logging.getLogger(__name__).warning(
      'knn-v1: k=%d is more than the %d training rows, which all vote', k, len(train_x)
    )
    k = len(train_x)
  arrays = jax.device_put(
    (
      _blocks(train_x, train_chunk),
      _blocks(train_y, train_chunk),
      np.int32(len(train_x)),
      _blocks(test_x, chunk),
    )
  )
  predicted = jax.device_get(_predict(*arrays, k=k, temperature=temperature))
  return float(np.mean(predicted.reshape(-1)[: len(test_y)] == test_y))


def _blocks(x, largest):
  """[n, ...] -> [blocks, rows, ...], blocks of nearly equal size, zeros at the end."""
  count = math.ceil(len(x) / largest)
  rows = math.ceil(len(x) / count)
  x = np.pad(x, [(0, count * rows - len(x))] + [(0, 0)] * (x.ndim - 1))
  return x.reshape(count, rows, *x.shape[1:])


def _unit(x):
  return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-24))


@functools.partial(jax.jit, static_argnames=('k', 'temperature'))
def _predict(train_x, train_y, n, test_x, *, k, temperature):
  train_x = _unit(train_x)
  rows = train_x.shape[1]

  def nearer(x, best, block):
    (best_s, best_y), (start, bx, by) = best, block
    s = jnp.matmul(x, bx.T, precision='highest')
    s = jnp.where(start + jnp.arange(rows) < n, s, -jnp.inf)
    # The running best comes first: top_k gives ties to the lower position.
    s, at = jax.lax.top_k(jnp.concatenate([best_s, s], 1), k)
    y = jnp.concatenate([best_y, jnp.broadcast_to(by, (len(x), rows))], 1)
    return (s, jnp.take_along_axis(y, at, 1)), None

  def classify(x):
    start = rows * jnp.arange(len(train_x))
    none = (jnp.full((len(x), k), -jnp.inf), jnp.zeros((len(x), k), jnp.int32))
    (s, y), _ = jax.lax.scan(functools.partial(nearer, _unit(x)), none, (start, train_x, train_y))
    # s[:, :1] would be the same, but XLA then sorts every row in full: 40 times slower on CPU.
    weight = jnp.exp((s - jnp.max(s, 1, keepdims=True)) / temperature)
    # Each neighbour gets its class's score: memory k * k a row, whatever the number of classes.
    score = jnp.sum(jnp.where(y[:, :, None] == y[:, None, :], weight[:, None, :], 0), -1)
    winner = score == jnp.max(score, 1, keepdims=True)
    return jnp.min(jnp.where(winner, y, jnp.iinfo(jnp.int32).max), 1)

  return jax.lax.map(classify, test_x)
