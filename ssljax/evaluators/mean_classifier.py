"""The classifier whose rows are the means of the classes, which the theory of CURL is about."""

import math

import numpy as np

from ssljax.errors import InputError
from ssljax.evaluators._arrays import probe_arrays

FORMS = ('hinge', 'logistic')


def mean_classifier(
  train_x, train_y, test_x, test_y, *, num_classes: int, form: str = 'logistic'
) -> dict[str, float]:
  """Accuracy and supervised loss of W x with W_c the mean of the training rows of class c.

  With v_c = W_y x - W_c x for the classes c other than the row's own y, the loss is the mean over
  the test rows of l(v): max(0, 1 + max_c -v_c) for 'hinge', log2(1 + sum_c exp(-v_c)) for
  'logistic', as in `losses.curl`. Features are taken as they are.

  Args:
    train_x: [n, D] features of the training rows; train_y: [n] their labels in [0, num_classes),
      every class at least once.
    test_x: [m, D]; test_y: [m].
    num_classes: number of classes, at least 2.
    form: 'hinge' or 'logistic'.

  Returns:
    'accuracy' and 'loss' on the test rows.

  Raises:
    InputError: arrays that do not fit together, a class without training rows, an unknown form.

  Reference: Arora et al. (https://arxiv.org/abs/1902.09229), Definition 2.2, L_sup^mu of all
  classes.
  """
  train_x, train_y, test_x, test_y = probe_arrays(train_x, train_y, test_x, test_y, num_classes)
  counts = np.bincount(train_y, minlength=num_classes)
  if num_classes < 2 or not counts.all():
    raise InputError(
      f'train labels: {np.count_nonzero(counts)} of {num_classes} classes seen, '
      'all of them wanted, and at least 2'
    )
  if form not in FORMS:
    raise InputError(f'form is {form!r}, wanted one of {", ".join(FORMS)}')
  means = np.eye(num_classes)[train_y].T @ train_x / counts[:, None]
  scores = test_x @ means.T
  own = np.take_along_axis(scores, test_y[:, None], axis=1)
  others = np.arange(num_classes) != test_y[:, None]
  against = (scores - own)[others].reshape(len(test_x), num_classes - 1)  # -v
  if form == 'hinge':
    loss = np.maximum(0, 1 + against.max(1))
  else:
    zeros = np.zeros((len(against), 1))
    loss = np.logaddexp.reduce(np.concatenate([zeros, against], 1), axis=1) / math.log(2)
  return {'accuracy': float((scores.argmax(1) == test_y).mean()), 'loss': float(loss.mean())}
