"""The head of AMDIM, which takes features of any scale to where they are compared."""

import flax.linen as nn

from ssljax.models.norm import BatchNorm
from ssljax.net import Net, from_linen


def head(size, *, use_bias=True) -> Net:
  """[..., D] -> [..., size]: batch norm of (a bias-free two-layer network + a linear map).

  use_bias: of the batch norm.

  The authors start the second layer at zero and the linear map as the identity; here both are
  drawn, so that every parameter learns from the first step.
  """
  return from_linen(Head(size, use_bias))


class Head(nn.Module):
  size: int
  use_bias: bool

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int = 1):
    y = nn.relu(nn.Dense(self.size, use_bias=False, dtype=x.dtype, name='linear_0')(x))
    y = nn.Dense(self.size, use_bias=False, dtype=x.dtype, name='linear_1')(y)
    # The batch norm takes the authors' bias of the linear map out again.
    y += nn.Dense(self.size, use_bias=False, dtype=x.dtype, name='shortcut')(x)
    return BatchNorm(use_bias=self.use_bias, name='bn')(y, train=train, bn_groups=bn_groups)
