"""Named, versioned probes: the name in a result file says exactly what was computed.

A change of any number below is a new version under a new name, never an edit.
"""

import difflib
import re
from collections.abc import Mapping, Sequence

from ssljax.errors import InputError
from ssljax.evaluators import knn, linear
from ssljax.evaluators._arrays import draw_per_class, probe_arrays


def _knn(arrays, num_classes, seed, labels_per_class):
  train_x, train_y, test_x, test_y = probe_arrays(*arrays, num_classes)
  if labels_per_class is not None:
    rows = draw_per_class(train_y, labels_per_class, seed)
    train_x, train_y = train_x[rows], train_y[rows]
  return knn.knn_v1(train_x, train_y, test_x, test_y, num_classes=num_classes)


def _linear(arrays, num_classes, seed, labels_per_class):
  result = linear.linear_v1(
    *arrays, num_classes=num_classes, seed=seed, labels_per_class=labels_per_class
  )
  return result['accuracy']


# (arrays, num_classes, seed, labels_per_class) -> accuracy
PROTOCOLS = {'knn-v1': _knn, 'linear-v1': _linear}

_DEFINITIONS = {
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


def parse(name: str) -> tuple[str, int | None]:
  """'linear-v1-100' -> ('linear-v1', 100), 'knn-v1' -> ('knn-v1', None).

  Raises:
    InputError: no such protocol.
  """
  match = re.fullmatch(r'(.+-v\d+)-([1-9]\d*)', name)
  base, labels = (match[1], int(match[2])) if match else (name, None)
  if base not in PROTOCOLS:
    near = difflib.get_close_matches(base, PROTOCOLS, n=1, cutoff=0)[0]
    raise InputError(
      f'protocol: {name!r} seen, one of {", ".join(PROTOCOLS)} wanted, with -N behind it for N '
      f'labels of each class (nearest: {near!r})'
    )
  return base, labels


def describe(name: str) -> dict:
  """Everything that defines a protocol, as plain values for a result file."""
  base, labels = parse(name)
  return {
    'protocol': name,
    **_DEFINITIONS[base],
    'metric': 'top-1 accuracy on the test split',
    'features': 'frozen, float32',
    'labels_per_class': 'all' if labels is None else labels,
  }


def run_protocols(
  features: Mapping, names: Sequence[str], num_classes: int, seed: int = 0
) -> dict[str, float]:
  """Runs probes on one set of features -> {name: accuracy in [0, 1]}.

  Args:
    features: 'train' [n, D], 'train_label' [n], 'test' [m, D], 'test_label' [m].
    names: protocols such as 'knn-v1', 'linear-v1' or, with 100 labels of each class,
      'linear-v1-100'.
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
  return {
    name: PROTOCOLS[base](arrays, num_classes, seed, labels)
    for name, (base, labels) in zip(names, parsed, strict=True)
  }
