"""Embeddings of earlier batches: a queue of the newest, and a bank with one for each example."""

import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.ops._check import check_shape
from ssljax.ops._normalize import l2_normalize


def enqueue(queue, pointer, rows, *, wrap=True):
  """Writes rows over the oldest of a circular queue.

  Args:
    queue: [K, D].
    pointer: int scalar, where the oldest row is.
    rows: [B, D], B at most K; cast to the dtype of the queue.
    wrap: False drops rows that do not fit before the end, where the pointer then goes back to 0, as
      lightly's memory banks do.

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
  places, end = pointer + jnp.arange(count), pointer + count
  if wrap:
    places, end = places % size, end % size
  else:
    end = jnp.where(end < size, end, 0)
  return queue.at[places].set(rows.astype(queue.dtype), mode='drop'), end


def remember(bank, index, rows, decay, *, unit=False):
  """Moves the rows of a memory bank that `index` names: bank[i] <- decay bank[i] + (1 - decay) row.

  Of rows with one index in a batch the last counts, on every backend.

  Args:
    bank: [N, ...], one memory for each example.
    index: int [B], which of them.
    rows: [B, ...].
    decay: how much of the old memory stays; may be traced.
    unit: whether the moved rows are scaled to length one; nothing is normalised otherwise.

  Returns:
    The bank after the step, in its dtype.

  Raises:
    InputError: `rows` does not fit the bank and `index`.
  """
  check_shape('rows', rows, (len(index), *bank.shape[1:]))
  moved = decay * bank[index] + (1 - decay) * rows.astype(bank.dtype)
  # Backends write rows of one index in any order: those that come again are left out.
  again = jnp.triu(index[:, None] == index, 1).any(1)
  places = jnp.where(again, len(bank) + jnp.arange(len(index)), index)
  moved = l2_normalize(moved) if unit else moved
  return bank.at[places].set(moved, mode='drop', unique_indices=True)
