"""Embeddings of earlier batches: a queue of the newest, and a bank with one for each example."""

import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.ops._check import check_shape


def enqueue(queue, pointer, rows):
  """Writes rows over the oldest of a circular queue.

  Args:
    queue: [K, D].
    pointer: int scalar, where the oldest row is.
    rows: [B, D], B at most K; cast to the dtype of the queue.

  Returns:
    The queue with rows at pointer, pointer + 1, ... modulo K, and the pointer moved by B.

  Raises:
    InputError: a shape does not fit.

  Reference: MoCo (https://arxiv.org/abs/1911.05722), Section 3.2; the authors' code wants K to be a
  multiple of B and then does the same.
  """
  check_shape('queue', queue, ('K', 'D'))
  check_shape('rows', rows, ('B', queue.shape[1]))
  size, count = len(queue), len(rows)
  if count > size:
    raise InputError(f'rows has {count} rows, wanted at most {size}, the length of the queue')
  places = (pointer + jnp.arange(count)) % size
  return queue.at[places].set(rows.astype(queue.dtype)), (pointer + count) % size


def remember(bank, index, rows, decay):
  """Moves the rows of a memory bank that `index` names: bank[i] <- decay bank[i] + (1 - decay) row.

  Nothing is normalised: what the bank holds at length one is to be made so by the caller. Of rows
  with one index in a batch the last counts.

  Args:
    bank: [N, ...], one memory for each example.
    index: int [B], which of them.
    rows: [B, ...].
    decay: how much of the old memory stays; may be traced.
  """
  check_shape('rows', rows, (len(index), *bank.shape[1:]))
  moved = decay * bank[index] + (1 - decay) * rows.astype(bank.dtype)
  return bank.at[index].set(moved)
