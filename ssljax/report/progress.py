"""The line that says how far training is."""

import atexit
import math
import sys
import time

from ssljax.report.words import duration, number


def describe(line: dict) -> str:
  """'loss 5.123, 2310 images/s, data wait 0.4%' of what a line of metrics has."""
  parts = []
  if 'loss' in line:
    parts.append(f'loss {line["loss"]:.4f}')
  if 'images_per_second' in line:
    parts.append(f'{number(line["images_per_second"])} images/s')
  if 'data_wait_fraction' in line:
    parts.append(f'data wait {100 * line["data_wait_fraction"]:.1f}%')
  return ', '.join(parts)


class Progress:
  """Called with lines of metrics, shows the newest: a bar on a terminal, else a line now and then.

  total_steps, start_step: the run's steps, and how many of them were done before.
  say: where plain lines go, at most one in `every` seconds and the last. Anything but `print` has
    its own place for text, so no bar is drawn on the terminal.
  """

  def __init__(self, total_steps: int, start_step: int = 0, say=print, *, every: float = 10.0):
    self._total, self._start = total_steps, start_step
    self._say, self._every = say, every
    self._first, self._said = None, -math.inf
    self._bar = _bar(total_steps, start_step) if say is print and sys.stdout.isatty() else None

  def __call__(self, line: dict) -> None:
    step, now = line['step'], time.monotonic()
    eta = self._eta(step, now)
    if self._bar:
      self._bar.start()
      self._bar.update(0, completed=step, eta=eta or '--', line=describe(line))
      if step >= self._total:
        self.close()
    elif now - self._said >= self._every or step >= self._total:
      self._said = now
      left = f', {eta} left' if eta and step < self._total else ''
      self._say(f'step {step}/{self._total}: {describe(line)}{left}')

  def _eta(self, step: int, now: float) -> str:
    # The first call's steps include compiling, so the clock starts with it.
    if self._first is None or step <= self._first[0]:
      self._first = self._first or (step, now)
      return ''
    per_step = (now - self._first[1]) / (step - self._first[0])
    return duration(per_step * (self._total - step))

  def close(self) -> None:
    """Leaves the terminal as it was; done by itself at the last step and at exit."""
    if self._bar:
      self._bar.stop()
      atexit.unregister(self._bar.stop)
      self._bar = None


def _bar(total, start):
  from rich.progress import BarColumn, Progress, TextColumn

  bar = Progress(
    TextColumn('step {task.completed:.0f}/{task.total:.0f}'),
    BarColumn(bar_width=24),
    TextColumn('{task.fields[line]}, {task.fields[eta]} left'),
  )
  bar.add_task('', total=total, completed=start, eta='--', line='')
  atexit.register(bar.stop)
  return bar
