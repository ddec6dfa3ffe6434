"""The training loop, the only one."""

import contextlib
import itertools
import os
import signal
import time

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from ssljax import checkpoint, data, outcome, probing, restore, runtime, sharding, workdir
from ssljax import config as configs
from ssljax.data import pipeline
from ssljax.errors import InputError
from ssljax.program import Program, make_program
from ssljax.report.metrics import MetricsWriter
from ssljax.report.metrics import read as read_metrics
from ssljax.watch import Watch


def train(config: ConfigDict, folder: str | os.PathLike) -> dict | None:
  """Trains, evaluates and reports; returns what summary.json holds, or None if told to stop.

  A folder that holds an unfinished run of the same config is continued, to the same parameters to
  the bit as if it had never stopped. Raises InputError for whatever the user can mend.
  """
  begun = time.perf_counter()
  runtime.use_compilation_cache(config.compilation_cache)
  runtime.connect(**config.distributed)
  first = jax.process_index() == 0
  say = print if first else (lambda *_: None)
  folder, fields = workdir.path_of(folder), workdir.to_fields(config)
  workdir.check(folder, fields, make=first)
  mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
  sources, resident = open_data(config, mesh, say)
  runtime.meet('data is open')
  steps = configs.total_steps(config, len(sources['train']))
  sources['train'] = pipeline.fitted(sources['train'], config, steps)
  program = make_program(config, mesh, sources['train'], steps=steps)
  key = sharding.make_key(config.seed, mesh)
  probing.check(program, sources, config)
  best = bool(config.checkpoint.keep_best)
  if first and not (folder / 'config.json').is_file():  # all of the config has been used by now
    workdir.write_json(folder / 'config.json', fields)

  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(
      checkpoint.open_folder(
        folder / 'checkpoints',
        fields,
        versions=runtime.versions(),
        num_examples=len(sources['train']),
        say=say,
        **config.checkpoint,
      )
    )
    # The newest readable checkpoint goes on; without one the run begins.
    restored = checkpoints.restore(program.abstract)
    train_state, start = restored or (program.init(key), 0)
    if config.init_from and restored is None:
      train_state = restore.start_from(
        config.init_from, config.init_parts, train_state, say, encoder=config.encoder
      )
    if start > steps:
      raise InputError(f'steps is {steps}, but the run in {folder} is at step {start} already')
    if first:  # as it goes on, where fields that may differ do
      workdir.write_json(folder / 'config.json', fields)
    if start == steps and (folder / 'summary.json').is_file():
      summary = workdir.read_json(folder / 'summary.json')
      if summary.get('steps') == steps:  # not what is left of a run that has been prolonged
        say(f'the run in {folder} is done: {steps} steps')
        return summary
    if start:
      say(f'continuing at step {start} of {steps}')
    if config.micro_batches > 1 and 'batch_stats' in str(jax.tree.structure(train_state.state)):
      say(
        f'warning: with micro_batches={config.micro_batches} batch norm takes its statistics over '
        f'{config.batch_size // config.micro_batches} examples; all else is as in one batch of '
        f'{config.batch_size}'
      )
    writer = stack.enter_context(
      MetricsWriter(folder / 'metrics.jsonl' if first else None, config.tensorboard)
    )
    writer.truncate_after(start)
    watch = Watch(
      batch_size=config.batch_size,
      steps=steps,
      start=start,
      log_every=config.log_every,
      write=writer.write,
      say=say,
    )
    stopping = stack.enter_context(stop_signal())
    stack.enter_context(jax.transfer_guard('disallow'))

    step, stopped, metrics, test = start, False, {}, None
    batches = make_batches(program, sources['train'], resident, config, start, watch)
    for step in range(start + 1, steps + 1):
      if program.refresh is not None and refreshes(step, config, sources['train'], program.method):
        with watch.paused():
          train_state = refresh(program, train_state, sources['train'], config, key, step)
      with watch.waiting():
        batch = next(batches)
      train_state, step_metrics = program.step(train_state, batch, resident, key)
      watch.stepped(step, step_metrics)
      last, stopped = step == steps, stopping(step)
      looking = last or (bool(config.eval_every) and step % config.eval_every == 0)
      saving = last or stopped or step % config.checkpoint_every == 0
      if looking or saving:
        metrics, test = {}, None  # of this step: a checkpoint keeps no others
        with watch.paused():  # looks at every step's loss first: what went wrong is never saved
          if saving and not best:
            checkpoints.save(step, train_state)
          if looking and (last or not stopped):
            metrics, test = probing.evaluate(
              program, train_state, sources, config, key=key, baselines=last
            )
            runtime.meet('evaluated')
            watch.record({'step': step, **metrics})
          if saving and best:
            checkpoints.save(step, train_state, metrics)
      if stopped:
        break
    checkpoints.wait()
    if stopped and step < steps:
      say(f'stopped and saved at step {step} of {steps}; the same command goes on from there')
      return None
    if test is None:  # killed between the last checkpoint and the report
      with watch.paused():
        metrics, test = probing.evaluate(
          program, train_state, sources, config, key=key, baselines=True
        )
        runtime.meet('evaluated')
        watch.record({'step': step, **metrics})
  return outcome.finish(
    folder,
    config,
    program,
    train_state,
    history=read_metrics(folder / 'metrics.jsonl') if first else watch.history,
    metrics=metrics,
    test=test,
    sources=sources,
    key=key,
    steps=steps,
    images_per_second=watch.images / watch.seconds if watch.seconds else 0.0,
    seconds=time.perf_counter() - begun,
    say=say,
  )


def open_data(config: ConfigDict, mesh, say):
  """({'train', 'test'} sources, arrays kept on the devices or {} if the set is streamed)."""
  sources = {split: data.load(config.data, split) for split in ('train', 'test')}
  train_source, resident = sources['train'], {}
  if pipeline.fits(train_source, config.data):
    train_source, skipped = pipeline.materialize(train_source)
    if skipped:
      say(f'{len(skipped)} unreadable examples were left out, the first: {skipped[0]}')
    if len(train_source) == 0:
      raise InputError(f'data: none of the training examples can be read, the first: {skipped[0]}')
    resident = sharding.put_replicated(train_source.arrays, mesh)
  return sources | {'train': train_source}, resident


def make_batches(program: Program, source, resident, config: ConfigDict, start: int, watch: Watch):
  """Yields device batches from step `start` on, in an order that only (seed, step) decides."""
  size, me, count = config.batch_size, jax.process_index(), jax.process_count()
  if getattr(source, 'whole', False):
    batch = pipeline.inputs(source.collate(np.arange(len(source))), program.method.labels)
    yield from itertools.repeat(sharding.put_replicated(batch, program.mesh))
  if not resident:
    stream = pipeline.stream(
      source,
      batch_size=size,
      seed=config.seed,
      start_step=start,
      workers=config.data.workers,
      labels=program.method.labels,
      process_index=me,
      process_count=count,
    )
    for batch in stream:
      watch.skipped += int(batch.pop('skipped').sum())
      yield sharding.put_batch(batch, program.mesh)
  for step in itertools.count(start):
    index = pipeline.index_batch(len(source), size, config.seed, step)
    yield sharding.put_batch(probing.share({'index': index}), program.mesh)


def refreshes(step: int, config: ConfigDict, source, method) -> bool:
  """Whether the batch of this step (from 1 on) has the first example of an epoch with a refresh."""
  every = method.refresh_every
  if not every:
    return step == 1
  span = every * len(source)
  return (step - 1) * config.batch_size // span > (step - 2) * config.batch_size // span


def refresh(program: Program, train_state, source, config: ConfigDict, key, step: int):
  """Gives the method the features of all training data, by index; zero where it is unreadable."""
  found = probing.extract(
    program,
    train_state,
    source,
    limit=len(source),
    batch_size=config.eval.batch_size,
    feature=program.method.refresh_feature,
  )
  features = np.zeros((len(source), found.x.shape[1]), np.float32)
  features[found.index] = found.x
  x = sharding.put_replicated(features, program.mesh)
  return train_state._replace(
    state=program.refresh(train_state.params, train_state.state, x, jax.random.fold_in(key, step))
  )


@contextlib.contextmanager
def stop_signal():
  """Yields step -> whether SIGTERM has come, the same answer on every process."""
  if jax.process_count() > 1:  # jax's coordination service hears the signal and agrees on a step
    yield multihost_utils.reached_preemption_sync_point
    return
  heard = []
  before = signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
  try:
    yield lambda step: bool(heard)
  finally:
    signal.signal(signal.SIGTERM, before)
