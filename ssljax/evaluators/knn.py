"""Weighted cosine nearest neighbours: the probe that has nothing to tune."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import ops
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
  arrays = jax.device_put((train_x, train_y, test_x))
  chunks = {'chunk': min(chunk, len(test_x)), 'train_chunk': train_chunk}
  predicted = jax.device_get(_predict(*arrays, k=k, temperature=temperature, **chunks))
  return float(np.mean(predicted == test_y))


@functools.partial(jax.jit, static_argnames=('k', 'temperature', 'chunk', 'train_chunk'))
def _predict(train_x, train_y, test_x, *, k, temperature, chunk, train_chunk):
  train_x, test_x = (ops.l2_normalize(x, eps=1e-24) for x in (train_x, test_x))
  s, ids = ops.nearest(test_x, train_x, k, chunk_size=chunk, key_chunk_size=train_chunk)

  def vote(neighbors):
    s, y = neighbors
    weight = jnp.exp((s - s[0]) / temperature)
    # Each neighbour gets its class's score: memory k * k a row, whatever the number of classes.
    score = jnp.sum(jnp.where(y[:, None] == y, weight, 0), axis=1)
    return jnp.min(jnp.where(score == jnp.max(score), y, jnp.iinfo(jnp.int32).max))

  return jax.lax.map(vote, (s, train_y[ids]), batch_size=chunk)
