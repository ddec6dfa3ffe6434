"""Networks whose weights another network makes from what is known of the input."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from ssljax.net import Net, from_linen

# torch's default for linear layers: uniform, variance 1 / (3 fan_in).
_uniform = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def linear(*, hyper_bias=False, bias=False) -> Net:
  """A linear map that depends on conditions: (x [N, D], conditions [N, P]) -> y [N, D].

    y_i = W_i x_i (+ b_i),  (W_i row by row, then b_i) = V c_i (+ a)

  It is SIE's predictor, `ParametrizedNet` in its authors' code. V is the kernel and a the bias of
  'weights', initialised as torch does it.

  hyper_bias: whether there is an a. bias: whether there is a b.
  """
  return from_linen(_Linear(hyper_bias, bias))


class _Linear(nn.Module):
  hyper_bias: bool
  bias: bool

  @nn.compact
  def __call__(self, x, conditions, *, train: bool, bn_groups: int = 1):
    width = x.shape[-1]
    make_weights = nn.Dense(
      width * (width + self.bias),
      use_bias=self.hyper_bias,
      kernel_init=_uniform,
      dtype=x.dtype,
      name='weights',
    )
    weights = make_weights(conditions)
    matrix = weights[:, : width * width].reshape(-1, width, width)
    y = jnp.einsum('nij,nj->ni', matrix, x, precision=lax.Precision.HIGHEST)
    return y + weights[:, width * width :] if self.bias else y
