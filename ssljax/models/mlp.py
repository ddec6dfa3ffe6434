"""Linear and multi-layer encoders of vectors."""

from ml_collections import ConfigDict

from ssljax.errors import InputError
from ssljax.models import heads
from ssljax.net import Net

VARIANTS = {
  'mlp_linear': {'hidden': ()},
  'mlp_small': {'hidden': (512,)},
  'mlp_base': {'hidden': (2048, 2048)},
}


def get_config(name):
  """dim: D, the size of the features. hidden: sizes of the layers before, () for a linear map."""
  return ConfigDict({'name': name, 'dim': 128, **VARIANTS[name]})


def make(config, *, dtype) -> Net:
  """Encoder of arrays [N, ...], flattened: {'features': [N, D]}.

  Hidden layers have batch norm and ReLU. No layer has a bias: batch norm follows, that of the head
  behind the last, and takes it away. Raises InputError on an option that cannot be.
  """
  for field, sizes in {'dim': (config.dim,), 'hidden': tuple(config.hidden)}.items():
    if any(size < 1 for size in sizes):
      raise InputError(f'encoder.{field} is {config[field]}, wanted sizes of at least 1')
  net = heads.mlp((*config.hidden, config.dim), hidden_bias=False, last_bias=False)

  def rows(x):
    return x.reshape(len(x), -1).astype(dtype)

  def init(rng, x, **options):
    return net.init(rng, rows(x), **options)

  def apply(params, state, x, **options):
    y, state = net.apply(params, state, rows(x), **options)
    return {'features': y}, state

  return Net(init, apply)
