"""Features of a trained, a random and no encoder, and what the evaluators say of them."""

from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ssljax import runtime, sharding
from ssljax.data import pipeline
from ssljax.errors import InputError
from ssljax.evaluators import graphs, label_free, protocols
from ssljax.program import Program, example_batch, with_own_partners

BASELINES = ('random', 'raw')
OF_FEATURES, OF_VIEWS = ('rankme', 'alpha_req', 'uniformity', 'feature_std'), ('lidar', 'alignment')


class Features(NamedTuple):
  """x: [N, D] float32; index: [N] their places in the source; label: [N] int or None; image: the
  first examples as the data gives them. Examples that cannot be read are not among them."""

  x: np.ndarray
  index: np.ndarray
  label: np.ndarray | None
  image: np.ndarray | None


def extract(
  program: Program, train_state, source, *, limit: int, batch_size: int, feature: str = 'features'
) -> Features:
  """Embeds the first `limit` examples of a source; batches are padded to one compiled shape."""
  batch_size = -(-batch_size // program.mesh.size) * program.mesh.size
  xs, indices, labels, images = [], [], [], []
  runtime.meet('before features')
  for batch in pipeline.eval_batches(source, batch_size, limit):
    valid, label = batch.pop('valid'), batch.pop('label', None)
    missing = [name for name in program.inputs if name not in batch]
    if missing:
      seen = ', '.join(name for name in batch if name != 'index')
      raise InputError(f'the data has {seen}, wanted {missing[0]}, which the method learned from')
    named = program.embed(train_state.params, train_state.state, place(batch, source, program))
    _refuse_feature(feature, named)
    xs.append(np.asarray(jax.device_get(named[feature]), np.float32)[valid])
    indices.append(batch['index'].reshape(-1)[valid])
    if label is not None:
      labels.append(label[valid])
    if 'image' in batch and sum(map(len, images)) < 2000:
      images.append(batch['image'][valid])
  return Features(
    np.concatenate(xs),
    np.concatenate(indices),
    np.concatenate(labels) if labels else None,
    np.concatenate(images) if images else None,
  )


def place(batch, source, program: Program):
  """A host batch on the devices: this process's rows of it, or all of a whole graph."""
  if getattr(source, 'whole', False):
    return sharding.put_replicated(batch, program.mesh)
  return sharding.put_batch(share(batch), program.mesh)


def share(batch):
  """This process's rows of a host batch that every process has made whole."""
  rows = len(next(iter(batch.values()))) // jax.process_count()
  start = jax.process_index() * rows
  return {name: array[start : start + rows] for name, array in batch.items()}


def raw(source, *, limit: int) -> Features:
  """The inputs themselves, flattened."""
  batches = [
    {name: array[batch['valid']] for name, array in batch.items()}
    for batch in pipeline.eval_batches(source, 1024, limit)
  ]
  whole = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
  x = whole['image'].astype(np.float32) / 255 if 'image' in whole else whole['x']
  x = x.reshape(len(x), -1)
  return Features(x, whole['index'], whole.get('label'), None)


def probe(train: Features, test: Features, *, names, seed: int) -> dict[str, float]:
  """Protocol name -> accuracy."""
  classes = int(max(train.label.max(), test.label.max())) + 1
  features = {
    'train': train.x, 'train_label': train.label, 'test': test.x, 'test_label': test.label,
  }  # fmt: skip
  return protocols.run_protocols(features, names, num_classes=classes, seed=seed)


def without_labels(program: Program, train_state, test: Features, *, key, views: int = 10):
  """RankMe, alpha-ReQ, uniformity and feature std of features; alignment and LiDAR of views."""
  metrics = {
    'rankme': label_free.rankme(test.x),
    'alpha_req': label_free.alpha_req(test.x),
    'uniformity': label_free.uniformity(test.x[:2000]),
    'feature_std': label_free.feature_std(test.x),
  }
  if program.embed_views is not None and test.image is not None:
    size = program.mesh.size
    rows = min(len(test.image) // size, -(-256 // size)) * size
    if rows:
      index = np.arange(rows, dtype=np.int32)
      local = share({'image': test.image[:rows], 'index': index})
      batch = sharding.put_batch(with_own_partners(program.method, local), program.mesh)
      seen = []
      while sum(x.shape[1] for x in seen) < views:
        draw = jax.random.fold_in(key, len(seen))
        seen.append(program.embed_views(train_state.params, train_state.state, batch, draw))
      x = np.concatenate([np.asarray(jax.device_get(s), np.float32) for s in seen], axis=1)
      metrics |= {'lidar': label_free.lidar(x), 'alignment': label_free.alignment(x)}
  return {name: float(value) for name, value in metrics.items()}


def check(program: Program, sources: dict[str, Any], config: ConfigDict) -> None:
  """Raises InputError for what `evaluate` could only find out when the run is trained."""
  settings, source, best = config.eval, sources['train'], config.checkpoint.keep_best
  for field in ('train_examples', 'test_examples', 'batch_size'):
    if settings[field] < 1:
      raise InputError(f'eval.{field} is {settings[field]}, wanted at least 1')
  for name in settings.baselines:
    if name not in BASELINES:
      raise InputError(f'eval.baselines has {name!r}, wanted only {" and ".join(BASELINES)}')
  written = (graphs if hasattr(source, 'collate') else protocols).written
  scores = [n for name in protocols_of(sources, settings) for n in written(name)]
  if settings.feature != 'features':  # which every method has
    batch = example_batch(source, program.mesh.size)
    named = jax.eval_shape(program.embed, program.abstract.params, program.abstract.state, batch)
    _refuse_feature(settings.feature, named)
  metrics = (*(f'{name}/learned' for name in scores), *OF_FEATURES, *OF_VIEWS)
  if best and best not in metrics:
    raise InputError(f'checkpoint.keep_best is {best!r}, wanted one of {", ".join(metrics)}')


def _refuse_feature(feature, named):
  if feature not in named:
    raise InputError(f'eval.feature is {feature!r}, wanted one of {", ".join(named)}')


def protocols_of(sources: dict[str, Any], settings: ConfigDict) -> tuple[str, ...]:
  """The protocols of config.eval that the labels of the data allow."""
  source = sources['train']
  if not hasattr(source, 'collate'):
    return tuple(settings.protocols) if _labelled(sources) else ()
  names = settings.protocols or graphs.fitting(source.level, source.split)
  return tuple(n for n in names if source.label is not None or n in graphs.LABEL_FREE)


def evaluate(
  program: Program,
  train_state,
  sources: dict[str, Any],
  config: ConfigDict,
  *,
  key,
  baselines: bool,
) -> tuple[dict[str, float], Features]:
  """Every protocol on learned features and, with `baselines`, on those of config.eval.baselines.

  Returns metrics such as 'knn-v1/learned', 'knn-v1/random', 'knn-v1/raw', 'rankme', and the test
  features. Where the data has no labelled test split nothing is probed.
  """
  if hasattr(sources['train'], 'collate'):
    return _evaluate_graphs(program, train_state, sources, config, key, baselines)
  settings = config.eval
  names = protocols_of(sources, settings)

  def features(state, split, limit):
    return extract(
      program, state, sources[split], limit=limit, batch_size=settings.batch_size,
      feature=settings.feature,
    )  # fmt: skip

  def score(train, test, which):
    found = probe(train, test, names=names, seed=config.seed)
    return {f'{name}/{which}': value for name, value in found.items()}

  held_out = 'train' if sources['test'] is None else 'test'
  test = features(train_state, held_out, settings.test_examples)
  metrics = without_labels(program, train_state, test, key=key)
  if not names:
    return metrics, test
  limits = {split: settings[f'{split}_examples'] for split in ('train', 'test')}
  train = features(train_state, 'train', limits['train'])
  metrics = score(train, test, 'learned') | metrics
  if baselines and 'random' in settings.baselines:
    state = program.init(key)
    metrics |= score(*(features(state, *split) for split in limits.items()), 'random')
  if baselines and 'raw' in settings.baselines:
    inputs = (raw(sources[split], limit=limit) for split, limit in limits.items())
    metrics |= score(*inputs, 'raw')
  return metrics, test


def _labelled(sources):
  return all(split is not None and 'label' in split[0] for split in sources.values())


def _evaluate_graphs(program, train_state, sources, config, key, baselines):
  """Nodes of one graph, or graphs: all of them are embedded, and the protocols split them."""
  settings, source = config.eval, sources['train']
  names = protocols_of(sources, settings)

  def features(state):
    return extract(
      program, state, source, limit=len(source), batch_size=settings.batch_size,
      feature=settings.feature,
    )  # fmt: skip

  def score(x, which):
    found = graphs.run(x, source.label, source.split, names, seed=config.seed)
    return {f'{name}/{which}': value for name, value in found.items()}

  learned = features(train_state)
  metrics = score(learned.x, 'learned') | without_labels(program, train_state, learned, key=key)
  if baselines and 'random' in settings.baselines:
    metrics |= score(features(program.init(key)).x, 'random')
  if baselines and 'raw' in settings.baselines:
    metrics |= score(source.raw(), 'raw')
  return metrics, learned
