"""From sources to batches in an order that only the seed and the step decide.

The examples come as one permutation after another, one for each epoch; batch `step` takes the
positions [step * B, (step + 1) * B) of them, across ends of epochs. So the position in the data is
the step, whatever the number of processes and workers.
"""

import concurrent.futures
import functools
import itertools
import logging
import os
from collections.abc import Iterator, Mapping

import numpy as np
from ml_collections import ConfigDict

from ssljax.data.source import ArraySource, Source, Unreadable
from ssljax.errors import InputError

log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]


@functools.lru_cache(maxsize=4)  # of a pure function: this epoch, the next and the evaluators'
def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
  """int32 [n], read-only: the permutation of 0..n-1 for an epoch."""
  order = np.random.default_rng([seed % 2**64, epoch]).permutation(np.arange(n, dtype=np.int32))
  order.flags.writeable = False
  return order


def index_batch(n: int, batch_size: int, seed: int, step: int) -> np.ndarray:
  """int32 [batch_size]: which of n examples make up the batch of a step, from step 0 on."""
  position, end, parts = step * batch_size, (step + 1) * batch_size, []
  while position < end:
    epoch, first = divmod(position, n)
    parts.append(epoch_order(n, seed, epoch)[first : first + end - position])
    position += len(parts[-1])
  return np.concatenate(parts)


def fits(source: Source, config: ConfigDict) -> bool:
  """Whether the set is to be kept on the devices: `resident`, or if 'auto' its bytes."""
  if hasattr(source, 'collate'):
    return False
  if config.resident != 'auto':
    return config.resident == 'yes'
  size = sum(array.nbytes for array in inputs(source[0], labels=False).values())
  return len(source) * size <= config.resident_bytes


def fitted(source: Source, config: ConfigDict, steps: int):
  """A source that makes its own batches, made for those of this run; others as they are."""
  if not hasattr(source, 'collate'):
    return source
  size, packs = config.batch_size, 1 if source.whole else config.data.packs
  if packs < 1 or size % packs:
    raise InputError(f'data.packs is {packs}, wanted a divisor of batch_size {size}')
  indices = (index_batch(len(source), size, config.seed, step) for step in range(steps))
  return source.fitted([np.arange(len(source))] if source.whole else indices, packs)


def inputs(arrays: Mapping, labels: bool) -> dict:
  """What methods get of an example or a set: all but the labels, unless they learn from them."""
  return {name: array for name, array in arrays.items() if labels or name != 'label'}


def materialize(source: Source) -> tuple[ArraySource, list[str]]:
  """All examples in memory, read by threads, and a sentence for each that could not be read.

  Those are left out, so what follows them moves up.
  """
  if isinstance(source, ArraySource):
    return source, []
  n = len(source)
  arrays = {name: np.empty((n, *x.shape), x.dtype) for name, x in source[0].items()}

  def read(rows):
    errors = {}
    for i in rows.tolist():
      try:
        example = source[i]
      except Unreadable as error:
        errors[i] = str(error)
        continue
      for name, array in arrays.items():
        _check_shape(example[name], array.shape[1:], name, i)
        array[i] = example[name]
    return errors

  with concurrent.futures.ThreadPoolExecutor(_threads()) as pool:
    parts = np.array_split(np.arange(n), min(n, 8 * _threads()))
    errors = {i: text for part in pool.map(read, parts) for i, text in part.items()}
  if errors:
    arrays = {name: np.delete(array, list(errors), 0) for name, array in arrays.items()}
  return ArraySource(arrays, source.classes), list(errors.values())


def stream(
  source: Source,
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  workers: int = 0,
  labels: bool = False,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[Batch]:
  """Endless batches from `start_step` on, read ahead by threads, or by `workers` processes.

  Yields this process's rows, the `process_index`-th of `process_count` equal parts of each global
  batch: `image` [b, H, W, C], `index` int32 [b] and `skipped` int32 [b], how many examples could
  not be read before the one given, which is then the next in the source that can, under its own
  index; with `labels`, `label` too. The number of workers changes nothing but the speed.
  """
  import grain
  from absl import flags

  if batch_size % process_count:
    raise InputError(f'batch_size is {batch_size}, wanted a multiple of {process_count} processes')
  size = batch_size // process_count
  rows = slice(process_index * size, (process_index + 1) * size)
  read = functools.partial(_read_step, source, batch_size, seed, rows, labels)
  threads = 2 if workers else 4  # for each process; every thread makes one batch at a time
  batches = (
    grain.MapDataset.range(start_step, 2**62)
    .map(read)
    .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
  )
  if workers:
    if not flags.FLAGS.is_parsed():  # grain hands absl's flags to its workers
      flags.FLAGS.mark_as_parsed()
    batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  return iter(batches)


def _read_step(source, batch_size, seed, rows, labels, step) -> Batch:
  index = index_batch(len(source), batch_size, seed, step)[rows]
  if hasattr(source, 'collate'):
    packs = source.packs * len(index) // batch_size  # this process's share of them
    return inputs(source.collate(index, packs), labels) | {'skipped': np.zeros(1, np.int32)}
  if isinstance(source, ArraySource):
    batch = {name: array[index] for name, array in inputs(source.arrays, labels).items()}
    return batch | {'index': index, 'skipped': np.zeros_like(index)}
  found = [_next_readable(source, i) for i in index.tolist()]
  examples, taken, skipped = zip(*found, strict=True)
  batch = {name: np.stack([x[name] for x in examples]) for name in inputs(examples[0], labels)}
  return batch | {'index': np.array(taken, np.int32), 'skipped': np.array(skipped, np.int32)}


def _next_readable(source, i):
  for skipped in range(len(source)):
    taken = (i + skipped) % len(source)
    try:
      return source[taken], taken, skipped
    except Unreadable as error:
      log.warning('%s, and is skipped', error)
  raise InputError(f'none of the {len(source)} examples can be read')


def eval_batches(source: Source, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
  """All examples once, in ascending order, or a fixed random `limit` of them.

  Random, because folders are sorted by class. Yields `image`, `label` if there is one, `index` and
  `valid` bool [B], which is False for an example that cannot be read and for what fills the last
  batch up; their rows are zero.
  """
  if hasattr(source, 'collate'):
    yield from source.eval_batches(batch_size, limit)
    return
  n = len(source)
  chosen = np.arange(n, dtype=np.int32)
  if limit is not None and limit < n:
    chosen = np.sort(epoch_order(n, 0, 0)[:limit])
  shapes = {name: (x.shape, x.dtype) for name, x in source[0].items()}

  def read(i):
    try:
      return source[i]
    except Unreadable as error:
      log.warning('%s, and is skipped', error)
      return None

  with concurrent.futures.ThreadPoolExecutor(_threads()) as pool:
    parts = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
    ahead = pool.map(read, parts[0].tolist())
    for index, following in itertools.zip_longest(parts, parts[1:]):
      examples, ahead = list(ahead), following is not None and pool.map(read, following.tolist())
      batch = {name: np.zeros((batch_size, *shape), kind) for name, (shape, kind) in shapes.items()}
      batch['index'] = np.resize(index, batch_size)
      batch['valid'] = np.arange(batch_size) < len(index)
      for row, example in enumerate(examples):
        batch['valid'][row] = example is not None
        for name in shapes if example else ():
          _check_shape(example[name], shapes[name][0], name, index[row])
          batch[name][row] = example[name]
      yield batch


def _check_shape(x, wanted, name, i) -> None:
  if np.shape(x) != wanted:
    raise InputError(
      f"{name} of example {i} has shape {list(np.shape(x))}, wanted {list(wanted)}, the first one's"
    )


def _threads() -> int:
  return min(32, os.cpu_count() or 1)
