"""Named, versioned probes: the name in a result file says exactly what was computed.

A change of any number below is a new version under a new name, never an edit.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ssljax.errors import InputError
from ssljax.evaluators import clustering, dense, graphs, knn, linear
from ssljax.evaluators._arrays import draw_per_class, probe_arrays


def _knn(arrays, num_classes, seed, labels_per_class):
  train_x, train_y, test_x, test_y = probe_arrays(*arrays, num_classes)
  if labels_per_class is not None:
    rows = draw_per_class(train_y, labels_per_class, seed)
    train_x, train_y = train_x[rows], train_y[rows]
  return {'accuracy': knn.knn_v1(train_x, train_y, test_x, test_y, num_classes=num_classes)}


def _linear(arrays, num_classes, seed, labels_per_class):
  return linear.linear_v1(
    *arrays, num_classes=num_classes, seed=seed, labels_per_class=labels_per_class
  )


def _kmeans(arrays, num_classes, seed, labels_per_class):
  return clustering.kmeans_v1(*arrays, num_classes=num_classes, seed=seed)


# (arrays, num_classes, seed, labels_per_class) -> {'accuracy': number, and others of METRICS}
PROTOCOLS = {'kmeans-v1': _kmeans, 'knn-v1': _knn, 'linear-v1': _linear}
# What a protocol gives; all but accuracy are written behind its name: 'kmeans-v1-nmi'.
METRICS = {
  'kmeans-v1': {
    'accuracy': 'accuracy of the best one-to-one matching of clusters to classes',
    'nmi': 'normalised mutual information, by the arithmetic mean of the entropies',
    'ari': 'adjusted Rand index',
  }
}
_ACCURACY = {'accuracy': 'top-1 accuracy on the test split'}
# Of patches: (train_x, train_masks, test_x, test_masks, *, num_classes, seed) -> DENSE_METRICS
DENSE = {'knn-seg-v1': dense.knn_seg_v1, 'linear-seg-v1': dense.linear_seg_v1}
DENSE_METRICS = {
  'miou': 'mean over classes of intersection over union, pixels of all test images together',
  'accuracy': 'share of the labelled test pixels classified rightly',
}
WITHOUT_LABELS = ('kmeans-v1',)

_DEFINITIONS = {
  'kmeans-v1': {
    'clustering': "k-means, Lloyd's iterations, of the test split; no labels",
    'k': 'number of classes',
    'starts': clustering.STARTS,
    'started_from': 'distinct rows, drawn by seed',
    'iterations': clustering.ITERATIONS,
    'start_chosen_by': 'smallest sum of squared distances',
    'transform': 'L2-normalised rows',
  },
  'knn-v1': {
    'classifier': 'weighted nearest neighbours',
    'similarity': 'cosine',
    'weights': 'exp(similarity / temperature)',
    'k': knn.K,
    'temperature': knn.TEMPERATURE,
    'ties': 'earlier training row, smaller label',
    'transform': 'L2-normalised rows',
  },
  'linear-v1': {
    'classifier': 'multinomial logistic regression',
    'objective': 'mean cross-entropy + l2 / 2 |W|^2, bias free',
    'l2_grid': list(linear.L2_GRID),
    'l2_chosen_by': 'validation accuracy, ties to the larger, then a fit on all training rows',
    'validation_fraction': linear.VALIDATION_FRACTION,
    'validation_split': 'stratified, drawn by seed',
    'solver': 'L-BFGS',
    'largest_gradient': linear.TOLERANCE,
    'largest_gradient_in_sweep': linear.SWEEP_TOLERANCE,
    'max_steps': linear.MAX_STEPS,
    'transform': 'mean and deviation of the training rows, constant features 0',
  },
}
_TO_PIXELS = 'bilinear between centres of patches, then the class of the largest score'
_DENSE_DEFINITIONS = {
  'knn-seg-v1': {
    'classifier': 'shares of classes in the nearest labelled training patches, weighted',
    'similarity': 'cosine',
    'weights': 'softmax(similarity / temperature) over the k nearest',
    'k': dense.K,
    'temperature': dense.TEMPERATURE,
    'memory': f'labelled training patches, at most {dense.MEMORY}, drawn by seed',
    'transform': 'L2-normalised patches',
    'to_pixels': _TO_PIXELS,
  },
  'linear-seg-v1': {
    **_DEFINITIONS['linear-v1'],
    'l2_chosen_by': 'validation mIoU of patches, ties to the larger, then a fit on all',
    'validation_split': 'whole images, drawn by seed',
    'labels': 'most frequent class among the labelled pixels of a patch',
    'rows': f'labelled training patches, at most {dense.ROWS}, drawn by seed',
    'transform': 'mean and deviation of the training patches, constant features 0',
    'to_pixels': _TO_PIXELS,
  },
}


class Parsed(NamedTuple):
  """A protocol's name taken apart; `labels` of each class, or all; one `metric`, or all."""

  base: str
  labels: int | None
  metric: str | None


def parse(name: str) -> Parsed:
  """'linear-v1-100' -> ('linear-v1', 100, None), 'kmeans-v1-nmi' -> ('kmeans-v1', None, 'nmi').

  Raises:
    InputError: no such protocol.
  """
  match = re.fullmatch(r'(.+-v\d+)-(?:([1-9]\d*)|([a-z]+))', name)
  base, labels, metric = match.groups() if match else (name, None, None)
  if base not in PROTOCOLS or (metric and metric not in METRICS.get(base, ())):
    near = difflib.get_close_matches(base, PROTOCOLS, n=1, cutoff=0)[0]
    raise InputError(
      f'protocol: {name!r} seen, one of {", ".join(PROTOCOLS)} wanted, with -N behind it for N '
      f'labels of each class (nearest: {near!r})'
    )
  if labels and base in WITHOUT_LABELS:
    raise InputError(f'protocol: {name!r} seen, {base!r} wanted: it learns from no labels')
  return Parsed(base, int(labels) if labels else None, metric)


def written(name: str) -> dict[str, str]:
  """The names under which `run_protocols` gives a protocol's numbers -> which these are."""
  base, _, metric = parse(name)
  if metric:
    return {name: metric}
  metrics = METRICS.get(base, _ACCURACY)
  return {name if also == 'accuracy' else f'{name}-{also}': also for also in metrics}


def describe(name: str) -> dict:
  """Everything that defines a protocol, as plain values for a result file."""
  if name in DENSE:
    common = {'metric': DENSE_METRICS, 'features': 'frozen, float32', 'labels_per_class': 'all'}
    return {'protocol': name, **_DENSE_DEFINITIONS[name], **common}
  if name in graphs.PROTOCOLS:
    return {'protocol': name, **graphs.DEFINITIONS[name], 'features': 'frozen, float32'}
  base, labels, metric = parse(name)
  metrics = METRICS.get(base, _ACCURACY)
  return {
    'protocol': name,
    **_DEFINITIONS[base],
    'metric': metrics[metric or 'accuracy'],
    'features': 'frozen, float32',
    'labels_per_class': 0 if base in WITHOUT_LABELS else labels or 'all',
  }


def run_protocols(
  features: Mapping, names: Sequence[str], num_classes: int, seed: int = 0
) -> dict[str, float]:
  """Runs probes on one set of features -> {name: accuracy in [0, 1]}.

  Where a protocol has further numbers, all come, each by its own name: 'kmeans-v1' gives
  'kmeans-v1', its accuracy, and 'kmeans-v1-nmi', 'kmeans-v1-ari'.

  Args:
    features: 'train' [n, D], 'train_label' [n], 'test' [m, D], 'test_label' [m].
    names: protocols such as 'knn-v1', 'linear-v1', with 100 labels of each class
      'linear-v1-100', or one number of several, 'kmeans-v1-nmi'.
    num_classes: number of classes.
    seed: of whatever a protocol draws.

  Raises:
    InputError: an unknown name, a missing array, or arrays that a probe cannot use.
  """
  parsed = [parse(name) for name in names]
  wanted = ('train', 'train_label', 'test', 'test_label')
  missing = [key for key in wanted if key not in features]
  if missing:
    raise InputError(f'features: {", ".join(missing)} missing, {", ".join(wanted)} wanted')
  arrays = tuple(features[key] for key in wanted)
  found = {}
  for name, (base, labels, _) in zip(names, parsed, strict=True):
    numbers = PROTOCOLS[base](arrays, num_classes, seed, labels)
    found |= {key: numbers[metric] for key, metric in written(name).items()}
  return found
