"""Projection and prediction heads."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssljax.models.norm import BatchNorm
from ssljax.net import Net, from_linen
from ssljax.ops import gelu, l2_normalize

# What torch draws rows [outputs, inputs] of a linear layer from: their length sets how fast their
# direction turns where they are normalised.
torch_linear = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform', in_axis=-1, out_axis=-2)
NORMS = {
  'batch': {},
  'batch_no_bias': {'use_bias': False},
  'batch_no_affine': {'use_bias': False, 'use_scale': False},
}


def mlp(
  sizes, *, norm='batch', hidden_bias=True, last_bias=True, last_norm=None, activation=nn.relu
) -> Net:
  """Linear layers of the given output sizes on [N, D]: hidden ones with norm and activation.

  sizes: (2048, 128) is one hidden layer and the output; () is the identity.
  norm, last_norm: of the hidden layers and of the output; None, 'batch', 'batch_no_bias' (SimCLR's
  output) or 'batch_no_affine' (SimSiam's, MoCo v3's).
  hidden_bias, last_bias: whether the linear layers have a bias.

  Outputs are [N, sizes[-1]]. SimCLR's projector (Chen et al. 2020, section 2.1), and the predictor
  of BYOL (Grill et al. 2020, appendix C.1) and others.

  Raises ValueError on an unknown norm.
  """
  for name, value in {'norm': norm, 'last_norm': last_norm}.items():
    if value not in (None, *NORMS):
      raise ValueError(f'{name} is {value!r}, wanted None or one of {list(NORMS)}')
  if not sizes:
    return Net(lambda rng, x, **_: ({}, {}), lambda params, state, x, **_: (x, state))
  return from_linen(Mlp(tuple(sizes), norm, hidden_bias, last_bias, last_norm, activation))


def prototypes(sizes, count, *, unit=True, weight_norm=True) -> Net:
  """DINO's head on [..., D]: an MLP with GELU, its output at length one, scores of prototypes.

  sizes: of the linear layers, the last one the width in which prototypes lie: (2048, 2048, 256).
  count: K, how many prototypes there are; outputs are [..., K].
  unit: whether prototypes have length one too, so that scores are cosines. False makes each
    length, one at first, a parameter of its own (`norm_last_layer` of the authors' code).
  weight_norm: False for a plain linear layer in the end, DINOv3's, whatever `unit` is.

  Caron et al. 2021, appendix C.
  """
  return from_linen(Prototypes(tuple(sizes), count, unit, weight_norm))


def side_by_side(inv: Net, equi: Net, *, share) -> Net:
  """Two heads on [N, D], `equi` for the last `share` of the features, `inv` for those before.

  The outputs are joined in that order; parameters and state are dicts of 'inv' and 'equi'.
  """
  nets = {'inv': inv, 'equi': equi}

  def split(x):
    cut = x.shape[-1] - round(x.shape[-1] * share)
    return {'inv': x[:, :cut], 'equi': x[:, cut:]}

  def init(rng, x, **options):
    rngs = dict(zip(nets, jax.random.split(rng), strict=True))
    made = {name: nets[name].init(rngs[name], part, **options) for name, part in split(x).items()}
    return {name: params for name, (params, _) in made.items()}, {
      name: state for name, (_, state) in made.items()
    }

  def apply(params, state, x, **options):
    done = {
      name: nets[name].apply(params[name], state[name], part, **options)
      for name, part in split(x).items()
    }
    joined = jnp.concatenate([done[name][0] for name in nets], -1)
    return joined, {name: done[name][1] for name in nets}

  return Net(init, apply)


class Prototypes(nn.Module):
  sizes: tuple[int, ...]
  count: int
  unit: bool
  weight_norm: bool

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int = 1):
    init = nn.initializers.truncated_normal(0.02)
    for i, size in enumerate(self.sizes):
      x = nn.Dense(size, dtype=x.dtype, kernel_init=init, name=f'linear_{i}')(x)
      x = gelu(x) if i < len(self.sizes) - 1 else x
    if not self.weight_norm:
      rows = self.param('prototypes', init, (self.count, x.shape[-1]))
      return l2_normalize(x) @ rows.T.astype(x.dtype)
    rows = l2_normalize(self.param('prototypes', torch_linear, (self.count, x.shape[-1])))
    if not self.unit:
      rows *= self.param('lengths', nn.initializers.ones, (self.count, 1))
    return l2_normalize(x) @ rows.T.astype(x.dtype)


class Mlp(nn.Module):
  sizes: tuple[int, ...]
  norm: str | None
  hidden_bias: bool
  last_bias: bool
  last_norm: str | None
  activation: Callable

  @nn.compact
  def __call__(self, x, *, train: bool, bn_groups: int = 1):
    for i, size in enumerate(self.sizes):
      last = i == len(self.sizes) - 1
      use_bias = self.last_bias if last else self.hidden_bias
      x = nn.Dense(size, use_bias=use_bias, dtype=x.dtype, name=f'linear_{i}')(x)
      norm = self.last_norm if last else self.norm
      if norm:
        x = BatchNorm(**NORMS[norm], name=f'bn_{i}')(x, train=train, bn_groups=bn_groups)
      x = x if last else self.activation(x)
    return x
