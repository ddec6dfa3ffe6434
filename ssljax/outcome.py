"""What is left when a run ends: the table, summary.json and report.html."""

import hashlib
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from ssljax import looking, methods, probing, report, runtime, sharding, workdir
from ssljax.augment import image
from ssljax.data import pipeline
from ssljax.evaluators import doctor, protocols
from ssljax.program import Program, with_own_partners


def params_sha256(params) -> str:
  """One number for all parameters: SHA-256 over names, shapes and bytes in the order of names."""
  digest = hashlib.sha256()
  leaves = jax.tree_util.tree_leaves_with_path(sharding.to_host(params))
  for name, array in sorted((sharding.path_name(path), np.asarray(x)) for path, x in leaves):
    digest.update(f'{name} {array.dtype} {array.shape} '.encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def probe_table(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
  """'knn-v1/learned': 0.7, ... -> {'knn-v1': {'learned': 0.7, ...}}."""
  rows = {}
  for name, value in metrics.items():
    protocol, _, which = name.rpartition('/')
    if which in ('learned', 'random', 'raw'):
      rows.setdefault(protocol, {})[which] = value
  return rows


def print_table(metrics: dict[str, float]) -> None:
  """Scores in per cent of what was learned, of a random encoder and of the raw input."""
  rows = probe_table(metrics)
  if not rows:
    return
  columns = ('learned', 'random', 'raw')
  table = Table(title='scores, %')
  for name in ('protocol', *columns):
    table.add_column(name, justify='left' if name == 'protocol' else 'right')
  for protocol, found in rows.items():
    cells = (f'{100 * found[which]:.1f}' if which in found else '' for which in columns)
    table.add_row(protocol, *cells)
  Console().print(table)


def defined(sources: dict, config: ConfigDict) -> dict[str, dict]:
  """What the run's protocols are, by name: beside the metrics they gave."""
  names = probing.protocols_of(sources, config.eval)
  return {name: protocols.describe(name) for name in names}


def finish(
  folder: pathlib.Path,
  config: ConfigDict,
  program: Program,
  train_state,
  *,
  history: list[dict],
  metrics: dict[str, float],
  test,
  sources: dict,
  key,
  steps: int,
  images_per_second: float,
  seconds: float,
  say,
) -> dict:
  """Writes summary.json and report.html, prints the table and warnings; returns the summary."""
  device = program.mesh.devices.flat[0]
  last = next((line for line in reversed(history) if 'loss' in line), {})
  module = methods.load(config.method.name)
  summary = {
    'method': config.method.name,
    'about': module.__doc__.strip().splitlines()[0],
    'paper': module.PAPER,
    'dataset': config.data.name,
    'encoder': config.encoder.name,
    'steps': steps,
    'batch_size': config.batch_size,
    'seed': config.seed,
    'commit': runtime.commit(),
    'jax_version': jax.__version__,
    'versions': runtime.versions(),
    'device': device.device_kind,
    'device_count': program.mesh.size,
    'process_count': jax.process_count(),
    'metrics': {**metrics, **({'loss': last['loss']} if last else {})},
    'protocols': defined(sources, config),
    'params_sha256': params_sha256(train_state.params),
    'images_per_second': images_per_second,
    'peak_memory_bytes': runtime.peak_memory_bytes(),
    'warnings': doctor.diagnose(history, total_steps=steps),
  }
  parts = pictures(config, program, train_state, sources['train'], key) if config.report else {}
  if config.report and looking.has_patches(config) and test.image is not None:
    shown = looking.look(config, train_state, program.mesh, test.image, test.x)
    parts |= dict(zip(('looking', 'blocks'), shown, strict=True))
  summary['seconds'] = seconds
  if jax.process_index() == 0:
    workdir.write_json(folder / 'summary.json', summary)
    if config.report:
      report.write(
        folder / 'report.html',
        summary=summary,
        config=workdir.to_fields(config),
        history=history,
        features=test.x[:2000],
        labels=None if test.label is None else test.label[:2000],
        classes=getattr(sources['test'] or sources['train'], 'classes', None),
        images=None if test.image is None else test.image[:2000],
        warnings=summary['warnings'],
        **parts,
      )
    print_table(metrics)
    for warning in summary['warnings']:
      say(f'warning: {warning}')
    say(f'report: {folder / "report.html"}' if config.report else f'summary: {folder}')
  return summary


def pictures(config: ConfigDict, program: Program, train_state, source, key, rows: int = 8) -> dict:
  """What the method sees of a few training examples, for the report."""
  batch = next(pipeline.eval_batches(source, min(rows, len(source))))
  batch = {name: array for name, array in batch.items() if name not in ('label', 'valid')}
  batch = sharding.put_replicated(with_own_partners(program.method, batch), program.mesh)
  views = {}
  if 'views' in config.method:
    size = image.main(config.method.views)
    seen = jax.tree_util.tree_leaves_with_path(jax.jit(program.method.views)(key, batch))
    views = {
      sharding.path_name(path): np.asarray(image.to_display(x, size), np.float32)
      for path, x in seen
      if x.ndim == 5 and x.shape[-1] in (1, 3)
    }
  shown = {}
  if program.method.show is not None:
    shown = jax.jit(program.method.show)(train_state.params, train_state.state, batch, key)
    shown = {title: np.asarray(x, np.float32) for title, x in shown.items()}
  return {'views': views, 'pictures': shown}
