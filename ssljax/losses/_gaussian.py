"""Losses that give embeddings the distribution of an isotropic Gaussian."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.ops import as_float, check_shape, dots


def sigreg(z, slices, *, t_max=3.0, n_points=17, axis_name=None):
  """Sketched isotropic Gaussian regularisation: the Epps-Pulley test on random directions.

  With x_n the projections of the B rows of z on a slice, averaged over slices (and views):
    B integral over t of  | mean_n exp(i t x_n) - exp(-t^2 / 2) |^2 exp(-t^2 / 2)

  by the trapezoid rule on [0, t_max], doubled. The rows are not standardised: their mean, scale and
  shape are all to be those of N(0, I). Constant embeddings have |mean exp| = 1 for all t and cost
  in proportion to B.

  Args:
    z: [B, D], or [B, V, D]: each view is tested by itself.
    slices: [D, K], unit columns; drawn anew at each step.
    t_max, n_points: of the integral.
    axis_name: of `pmap` or `shard_map`, if z is one device's share of the batch (see
      `ssljax.losses`); every device has the same slices.

  Returns:
    The scalar statistic of the global batch; for a true Gaussian about 1.05 by the defaults,
    whatever B is.

  Raises:
    InputError: a shape does not fit.

  Reference: LeJEPA (https://arxiv.org/abs/2511.08544), Section 4. Equals the authors'
  `SlicingUnivariateTest(EppsPulley())`. Memory is that of one point t, [B, V, K].
  """
  if jnp.ndim(z) not in (2, 3):
    raise InputError(f'z has shape {jnp.shape(z)}, wanted (B, D) or (B, V, D)')
  check_shape('slices', slices, (z.shape[-1], 'K'))
  z = as_float(z)
  x = dots('b...d,dk->b...k', z, slices.astype(z.dtype))
  t = jnp.linspace(0, t_max, n_points, dtype=z.dtype)
  normal = jnp.exp(-(t**2) / 2)
  step = t_max / (n_points - 1)
  weights = normal * jnp.full_like(t, 2 * step).at[jnp.array([0, -1])].set(step)

  @jax.checkpoint
  def gap(point):
    t, normal = point
    real, imaginary = jnp.mean(jnp.cos(t * x), 0), jnp.mean(jnp.sin(t * x), 0)
    if axis_name is not None:
      real, imaginary = lax.pmean((real, imaginary), axis_name)
    return jnp.mean((real - normal) ** 2 + imaginary**2)

  count = len(z) * (1 if axis_name is None else lax.axis_size(axis_name))
  return count * jnp.sum(weights * lax.map(gap, (t, normal)))


def lejepa(z, slices, *, global_views=None, lambd=0.05, t_max=3.0, n_points=17, axis_name=None):
  """LeJEPA: all views predict the mean of the global ones, and each view's embeddings are Gaussian.

    lambd sigreg(z) + (1 - lambd) mean over images, views and features of (z_v - m)^2

  with m the mean of an image's global views; it has a gradient. Constant embeddings satisfy the
  second term and fail the first, see `sigreg`.

  Args:
    z: [B, V, D], embeddings of V views, the global ones first.
    slices: [D, K], unit columns; drawn anew at each step.
    global_views: how many of the views are global; None for all.
    lambd: the share of `sigreg`.
    t_max, n_points: as in `sigreg`.
    axis_name: as in `sigreg`.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit.

  Reference: LeJEPA (https://arxiv.org/abs/2511.08544), Section 5. Equals lightly's `LeJEPALoss`.
  """
  check_shape('z', z, ('B', 'V', 'D'))
  z = as_float(z)
  centre = jnp.mean(z[:, :global_views], axis=1, keepdims=True)
  invariance = jnp.mean((z - centre) ** 2)
  invariance = invariance if axis_name is None else lax.pmean(invariance, axis_name)
  gaussian = sigreg(z, slices, t_max=t_max, n_points=n_points, axis_name=axis_name)
  return lambd * gaussian + (1 - lambd) * invariance
