"""The linear probe: multinomial logistic regression on frozen features, solved to convergence."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssljax.errors import InputError
from ssljax.evaluators._arrays import draw_per_class, probe_arrays, stratified_split

# Strong to weak, so that each solution starts the next and ties go to the stronger penalty.
L2_GRID = (10.0, 1.47, 0.215, 0.0316, 0.00464, 0.000681, 0.0001)
VALIDATION_FRACTION = 0.2
# The largest |gradient| at which the solver stops. Choosing a penalty by accuracy on a fifth of
# the labels needs no more than the first; the second is scikit-learn's.
SWEEP_TOLERANCE = 1e-3
TOLERANCE = 1e-4
MAX_STEPS = 1000

_MEMORY = 20
_LINE_SEARCH_STEPS = 15


def linear_v1(
  train_x,
  train_y,
  test_x,
  test_y,
  *,
  num_classes: int,
  labels_per_class: int | None = None,
  seed: int = 0,
  l2_grid: tuple[float, ...] = L2_GRID,
) -> dict[str, float]:
  """Test accuracy of multinomial logistic regression on standardised features.

  minimise over W, b:  mean_i -log softmax(W x_i + b)[y_i] + l2 / 2 |W|^2

  Features are standardised by the training rows' mean and deviation (a constant feature becomes
  0). Every l2 of the grid is fitted without a fifth of the training rows, stratified, drawn by
  seed; the one with the best accuracy there (ties: the strongest) is fitted again on all of them.

  Args:
    train_x: [n, D] features of the training rows.
    train_y: [n] their integer labels in [0, num_classes).
    test_x: [m, D].
    test_y: [m].
    num_classes: number of classes.
    labels_per_class: None uses every label; a number uses that many of each class, drawn by seed,
      and nothing else of the training rows. At least 2, since one validates.
    seed: of both draws.
    l2_grid: penalties to choose from, strongest first.

  Returns:
    accuracy on the test rows, l2 as chosen, validation_accuracy of that l2.

  Raises:
    InputError: arrays that do not fit together, values that are not finite, labels out of range,
      a class with too few labels.
  """
  train_x, train_y, test_x, test_y = probe_arrays(train_x, train_y, test_x, test_y, num_classes)
  if labels_per_class is not None:
    if labels_per_class < 2:
      raise InputError(
        f'labels_per_class: {labels_per_class} seen, at least 2 wanted (1 validates)'
      )
    rows = draw_per_class(train_y, labels_per_class, seed)
    train_x, train_y = train_x[rows], train_y[rows]
  held_out = stratified_split(train_y, VALIDATION_FRACTION, seed)
  if not held_out.any():
    raise InputError('train labels: one row of each class seen, at least two of some class wanted')
  train_x, test_x = _standardise(train_x, test_x)

  x, y, in_fit, everywhere = jax.device_put(
    (train_x, train_y, (~held_out).astype(np.float32), np.ones(len(train_y), np.float32))
  )
  params = jax.device_put(
    (np.zeros((num_classes, x.shape[1]), np.float32), np.zeros(num_classes, np.float32))
  )
  path = []
  for l2 in l2_grid:
    params, _ = _fit(x, y, in_fit, *_scalars(l2, SWEEP_TOLERANCE), params)
    path.append((_accuracy(params, train_x[held_out], train_y[held_out]), l2, params))
  validation_accuracy, l2, params = max(path, key=lambda entry: entry[0])
  params, slope = _fit(x, y, everywhere, *_scalars(l2, TOLERANCE), params)
  slope = float(jax.device_get(slope))
  if slope > 10 * TOLERANCE:
    logging.getLogger(__name__).warning(
      'linear-v1: stopped at a gradient of %.1e where %.1e was wanted', slope, TOLERANCE
    )
  return {
    'accuracy': _accuracy(params, test_x, test_y),
    'l2': l2,
    'validation_accuracy': validation_accuracy,
  }


def _scalars(*values):
  return jax.device_put(tuple(np.float32(v) for v in values))


def _standardise(train_x, test_x):
  mean, std = train_x.mean(0, dtype=np.float64), train_x.std(0, dtype=np.float64)
  # Rounding leaves a constant feature a deviation near 0, not 0.
  scale = np.where(std > 1e-6 * np.abs(mean), 1 / np.where(std > 0, std, 1), 0)
  mean, scale = mean.astype(np.float32), scale.astype(np.float32)
  return (train_x - mean) * scale, (test_x - mean) * scale


def _accuracy(params, x, y):
  w, b = jax.device_get(params)
  return float(np.mean(np.argmax(x @ w.T + b, axis=1) == y))


@jax.jit
def _fit(x, y, weight, l2, tolerance, start):
  """L-BFGS from `start` until no |gradient| is above tolerance -> (W [C, D], b [C]), largest one.

  Rows of weight 0 are absent: the sweep and the last fit share their shapes and one compilation.
  The sweep is a loop of warm starts, not a vmap: in lockstep every penalty pays for the slowest one
  and for both branches of each line search, which took 20 times the arithmetic on CPU.
  """
  weight = weight / jnp.sum(weight)

  def objective(params):
    w, b = params
    # [C, n] makes the gradient g @ x; [n, C] would make it x.T @ g, 4 times slower on CPU.
    logits = jnp.einsum('cd,nd->cn', w, x, precision='highest') + b[:, None]
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, y, axis=0)
    return jnp.sum(weight * losses) + l2 / 2 * jnp.sum(w * w)

  solver = optax.lbfgs(
    memory_size=_MEMORY,
    linesearch=optax.scale_by_zoom_linesearch(_LINE_SEARCH_STEPS, initial_guess_strategy='one'),
  )
  value_and_grad = optax.value_and_grad_from_state(objective)

  def largest(gradient):
    return jnp.max(jnp.array([jnp.max(jnp.abs(g)) for g in gradient]))

  def unfinished(carry):
    params, state, step, slope, searched = carry
    # A line search that used all its steps has met the rounding of the objective.
    return (slope > tolerance) & (step < MAX_STEPS) & (searched < _LINE_SEARCH_STEPS)

  def advance(carry):
    params, state, step, _, _ = carry
    value, gradient = value_and_grad(params, state=state)
    updates, state = solver.update(
      gradient, state, params, value=value, grad=gradient, value_fn=objective
    )
    params = optax.apply_updates(params, updates)
    slope = largest(optax.tree.get(state, 'grad'))
    searched = optax.tree.get(state, 'num_linesearch_steps')
    return params, state, step + 1, slope, searched

  slope = largest(jax.grad(objective)(start))
  params, _, _, slope, _ = jax.lax.while_loop(
    unfinished, advance, (start, solver.init(start), 0, slope, 0)
  )
  return params, slope
