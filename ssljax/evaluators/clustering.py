"""How well clusters match classes: an assignment against labels, and k-means on features."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import ops
from ssljax.errors import InputError
from ssljax.evaluators._arrays import probe_arrays

STARTS = 10
ITERATIONS = 50


def scores(assignment, labels) -> dict[str, float]:
  """Accuracy of the best matching of clusters to classes, NMI and ARI.

  accuracy = max over one-to-one matchings m of mean_i [m(a_i) = y_i]
  nmi = I(a, y) / ((H(a) + H(y)) / 2),  ari = (RI - E[RI]) / (max RI - E[RI])

  With more clusters than classes those left over count as wrong. NMI and ARI do not change when
  clusters or classes are renamed; both are 1 where the two agree, and ARI is 0 on average by
  chance.

  Args:
    assignment: int [N], the cluster of each example, from 0 on.
    labels: int [N], its class, from 0 on.

  Returns:
    'accuracy', 'nmi', 'ari'.

  Raises:
    InputError: not two integer arrays of one length of at least 1, or a negative number in them.

  The matching is Kuhn's Hungarian method; NMI with the arithmetic mean, as in scikit-learn; ARI of
  Hubert & Arabie 1985.
  """
  from scipy.optimize import linear_sum_assignment
  from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

  assignment, labels = np.asarray(assignment), np.asarray(labels)
  for name, x in {'assignment': assignment, 'labels': labels}.items():
    if x.ndim != 1 or not x.size or not np.issubdtype(x.dtype, np.integer) or x.min() < 0:
      raise InputError(
        f'{name}: {x.dtype} of shape {x.shape} seen, integers [N] of at least 0 wanted'
      )
  if len(assignment) != len(labels):
    raise InputError(
      f'assignment and labels: {len(assignment)} and {len(labels)} rows seen, one length wanted'
    )
  together = np.zeros((assignment.max() + 1, labels.max() + 1), np.int64)
  np.add.at(together, (assignment, labels), 1)
  matched = together[linear_sum_assignment(together, maximize=True)].sum()
  return {
    'accuracy': float(matched / len(labels)),
    'nmi': float(normalized_mutual_info_score(labels, assignment)),
    'ari': float(adjusted_rand_score(labels, assignment)),
  }


def kmeans_v1(train_x, train_y, test_x, test_y, *, num_classes: int, seed: int = 0):
  """`scores` of k-means on the L2-normalised test features, k the number of classes.

  Of ten starts from distinct random rows, 50 iterations each, the one with the smallest sum of
  squared distances counts. Labels are used for nothing but the scores, training rows for nothing.

  Args:
    train_x, train_y, test_x, test_y: as of every probe, [n, D], [n], [m, D], [m].
    num_classes: k; at most m.
    seed: of the starts.

  Returns:
    'accuracy', 'nmi', 'ari'.

  Raises:
    InputError: arrays that do not fit together, values that are not finite, labels out of range.
  """
  _, _, test_x, test_y = probe_arrays(train_x, train_y, test_x, test_y, num_classes)
  x, seed = jax.device_put((test_x, np.uint32(seed)))
  return scores(jax.device_get(_best_of_starts(x, seed, k=num_classes)), test_y)


@functools.partial(jax.jit, static_argnames='k')
def _best_of_starts(x, seed, *, k):
  x = ops.l2_normalize(x, eps=1e-24)

  def fit(rng):
    centroids, assignment = ops.kmeans(x, k, rng=rng, iters=ITERATIONS)
    return jnp.sum((x - centroids[assignment]) ** 2), assignment

  spread, assignment = jax.lax.map(fit, jax.random.split(jax.random.key(seed), STARTS))
  return assignment[jnp.argmin(spread)]
