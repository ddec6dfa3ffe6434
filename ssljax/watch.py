"""Keeps time and reads the metrics of a run, without making the devices wait."""

import contextlib
import math
import time

import jax

from ssljax.errors import InputError
from ssljax.report.progress import Progress


class Watch:
  """Collects the metrics of steps on the device and looks at them now and then.

  `images` and `seconds` count what was trained, compiling and evaluation left out; `skipped` is for
  the caller to count examples that could not be read.

  Looking costs a transfer, so it is done every `log_every` steps and before anything is saved. The
  step that went wrong is named all the same, because the metrics of every step are kept until then.
  """

  def __init__(self, *, batch_size: int, steps: int, start: int, log_every: int, write, say):
    self._batch_size, self._log_every = batch_size, log_every
    self._write, self._progress = write, Progress(steps, start, say)
    self._pending, self._uncounted = [], 0
    self._waited, self._looked = 0.0, None
    self.history = []
    self.images, self.seconds, self.skipped = 0, 0.0, 0

  @contextlib.contextmanager
  def waiting(self):
    """Around what fetches the next batch."""
    begun = time.perf_counter()
    yield
    self._waited += time.perf_counter() - begun

  @contextlib.contextmanager
  def paused(self):
    """Around what is not training, evaluation and saving: not timed, and free to transfer."""
    self.look()
    with jax.transfer_guard('allow'):
      yield
    if self._looked is not None:  # before the first step, its end is still to come
      self._looked = time.perf_counter()

  def stepped(self, step: int, metrics) -> None:
    """Takes a step's metrics; blocks on the one before, so that at most two steps are under way."""
    if self._pending:
      jax.block_until_ready(self._pending[-1][1])
    self._pending.append((step, metrics))
    if self._looked is None:  # the first step compiles: timing begins after it
      jax.block_until_ready(metrics)
      self._looked, self._waited, self._uncounted = time.perf_counter(), 0.0, 1
    if step % self._log_every == 0:
      self.look()

  def look(self) -> None:
    """Fetches what has gathered; raises InputError naming the first step that is not finite."""
    if not self._pending:
      return
    steps = [step for step, _ in self._pending]
    values = jax.device_get([metrics for _, metrics in self._pending])
    now = time.perf_counter()
    elapsed = now - self._looked
    images = (len(steps) - self._uncounted) * self._batch_size
    for step, metrics in zip(steps, values, strict=True):
      bad = [n for n in ('loss', 'grad_norm') if not math.isfinite(metrics.get(n, 0.0))]
      if bad:
        raise InputError(
          f'{bad[0]} is {float(metrics[bad[0]])} at step {step}: stopped, and nothing of it was '
          'saved; lower optim.learning_rate, set optim.clip_norm, or look at the data'
        )
    line = {'step': steps[-1]} | {name: float(value) for name, value in values[-1].items()}
    if images:
      line['images_per_second'] = images / elapsed
      line['data_wait_fraction'] = min(self._waited / elapsed, 1.0)
    if self.skipped:
      line['skipped_examples'] = self.skipped
    self.images, self.seconds = self.images + images, self.seconds + elapsed
    self._pending, self._uncounted = [], 0
    self._looked, self._waited = now, 0.0
    self.record(line)
    self._progress(line)

  def record(self, line: dict) -> None:
    """One line of history and of metrics.jsonl."""
    self.history.append(line)
    self._write(line)
