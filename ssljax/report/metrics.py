"""metrics.jsonl: one line of strict JSON for every look at the metrics."""

import json
import math
import os
import pathlib

from ssljax.errors import InputError


def _parse(path: pathlib.Path) -> list[dict]:
  """The lines of the file; a last one that a kill has torn is left out."""
  if not path.exists():
    return []
  found, lines = [], path.read_text(errors='replace').splitlines()
  for number, line in enumerate(lines, start=1):
    try:
      entry = json.loads(line)
      if not isinstance(entry, dict) or not isinstance(entry.get('step'), int):
        raise ValueError('wanted an object with a whole number "step"')
    except ValueError as error:
      if number == len(lines):
        break
      raise InputError(f'{path} line {number} is no line of metrics: {error}') from error
    found.append(entry)
  return found


def _replace(path: pathlib.Path, entries: list[dict]) -> None:
  partial = path.with_name(path.name + '.partial')
  partial.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))
  os.replace(partial, path)


def read(path: str | os.PathLike) -> list[dict]:
  """The lines of a metrics.jsonl, null read as nan; [] where there is no file.

  A torn last line is left out; raises InputError for any other line that cannot be read.
  """
  return [
    {name: math.nan if value is None else value for name, value in entry.items()}
    for entry in _parse(pathlib.Path(path))
  ]


class MetricsWriter:
  """Appends lines of metrics to a file, and to TensorBoard if asked.

  path: the file, or None to write nothing (all processes but the first). A torn last line is
    dropped on opening.
  tensorboard: also write event files, to the folder `tensorboard` beside the file.

  Raises InputError if TensorBoard is asked for and tensorboardX is not installed.
  """

  def __init__(self, path: str | os.PathLike | None, tensorboard: bool = False):
    self._path = None if path is None else pathlib.Path(path)
    self._summary_writer = _summary_writer() if tensorboard and path is not None else None
    self._file = self._events = self._purge = None
    self.truncate_after(math.inf)

  def write(self, metrics: dict) -> None:
    """Appends one line: 'step' and whatever else, scalars; what is not finite becomes null."""
    if self._path is None:
      return
    step = int(metrics['step'])
    values = {name: float(value) for name, value in metrics.items() if name != 'step'}
    line = {name: value if math.isfinite(value) else None for name, value in values.items()}
    self._file.write(json.dumps({'step': step, **line}, allow_nan=False) + '\n')
    self._file.flush()
    if self._summary_writer:
      if self._events is None:
        folder = str(self._path.parent / 'tensorboard')
        self._events = self._summary_writer(folder, purge_step=self._purge)
      for name, value in values.items():
        if math.isfinite(value):
          self._events.add_scalar(name, value, step)

  def truncate_after(self, step: float) -> None:
    """Drops the lines of later steps, in one move: a resumed run writes them again."""
    if self._path is None:
      return
    self.close()
    entries = _parse(self._path)
    kept = [entry for entry in entries if entry['step'] <= step]
    text = ''.join(json.dumps(entry) + '\n' for entry in kept)
    if self._path.exists() and self._path.read_text(errors='replace') != text:
      _replace(self._path, kept)
    self._purge = int(step) + 1 if math.isfinite(step) else None
    self._file = self._path.open('a')

  def close(self) -> None:
    for opened in (self._file, self._events):
      if opened is not None:
        opened.close()
    self._file = self._events = None

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()


def _summary_writer():
  try:
    from tensorboardX import SummaryWriter
  except ImportError as error:
    raise InputError(
      'tensorboard is on, but tensorboardX is not installed: pip install ssljax[tensorboard]'
    ) from error
  return SummaryWriter
