"""Losses that predict a teacher's embedding."""

import jax.numpy as jnp
from jax import lax

from ssljax.ops import as_float, check_shape, l2_normalize


def byol(p1, p2, z1, z2, *, axis_name=None):
  """The loss of BYOL: each view's prediction meets the teacher's projection of the other view.

  With x' = x at length one, |p' - z'|^2 = 2 - 2 cos(p, z):
    mean over the batch of  |p1' - z2'|^2 + |p2' - z1'|^2

  The targets z1, z2 get no gradient. Equal embeddings for all inputs are a minimum (0): nothing in
  the loss prevents collapse, the predictor and the slow teacher do.

  Args:
    p1: [B, D], the student's predictions from the first view, of any length.
    p2: [B, D], from the second.
    z1: [B, D], the teacher's projections of the first view, of any length; no gradient.
    z2: [B, D], of the second.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch, from 0 to 8.

  Raises:
    InputError: the four arrays are not of one shape [B, D].

  Reference: BYOL (https://arxiv.org/abs/2006.07733), Section 3.1, equation 2 with its symmetric
  term. Equals the authors' `regression_loss`, both directions added as in `byol_experiment.py`: no
  factor 1/2.
  """
  check_shape('p1', p1, ('B', 'D'))
  for name, array in (('p2', p2), ('z1', z1), ('z2', z2)):
    check_shape(name, array, p1.shape)
  first = cosine_regression(p1, z2, axis_name=axis_name)
  return first + cosine_regression(p2, z1, axis_name=axis_name)


def cosine_regression(p, z, *, axis_name=None):
  """Squared distance of unit vectors, one direction of `byol`.

  With x' = x at length one:  mean over the batch of  |p' - z'|^2 = 2 - 2 cos(p, z)

  Args:
    p: [B, D], predictions, of any length.
    z: [B, D], targets, of any length; no gradient.
    axis_name: as in `byol`.

  Returns:
    The scalar loss of the global batch, from 0 to 4.

  Raises:
    InputError: `p` and `z` are not of one shape [B, D].

  Reference: BYOL (https://arxiv.org/abs/2006.07733), Section 3.1, equation 2; `regression_loss` of
  the authors' code.
  """
  check_shape('p', p, ('B', 'D'))
  check_shape('z', z, p.shape)
  difference = l2_normalize(as_float(p)) - lax.stop_gradient(l2_normalize(as_float(z)))
  loss = jnp.mean(jnp.sum(difference * difference, axis=-1))
  return loss if axis_name is None else lax.pmean(loss, axis_name)


def simsiam(p1, p2, z1, z2, *, axis_name=None):
  """SimSiam: each view's prediction meets the same network's projection of the other view.

    - mean over the batch of  ( cos(p1, z2) + cos(p2, z1) ) / 2

  The projections z1, z2 get no gradient. Equal embeddings for all inputs are a minimum (-1):
  nothing in the loss prevents collapse, the predictor and the stop-gradient do.

  Args:
    p1: [B, D], the predictions from the first view, of any length; p2: [B, D], from the second.
    z1: [B, D], the projections of the first view, of any length; z2: [B, D], of the second; no
      gradient.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch, from -1 to 1.

  Raises:
    InputError: the four arrays are not of one shape [B, D].

  Reference: SimSiam (https://arxiv.org/abs/2011.10566), Section 3, equation 4. Equals the loss of
  the authors' `main_simsiam.py`.
  """
  check_shape('p1', p1, ('B', 'D'))
  for name, array in (('p2', p2), ('z1', z1), ('z2', z2)):
    check_shape(name, array, p1.shape)
  p1, p2, z1, z2 = (l2_normalize(as_float(x)) for x in (p1, p2, z1, z2))
  loss = -jnp.mean(jnp.sum(p1 * lax.stop_gradient(z2) + p2 * lax.stop_gradient(z1), axis=-1)) / 2
  return loss if axis_name is None else lax.pmean(loss, axis_name)
