"""DCLW: DCL that pulls less at the pairs which agree already.

    loss = DCLW(z1, z2; temperature, sigma): the positive term of pair i weighs
    2 - exp(cos_i / sigma) / mean_j exp(cos_j / sigma), see losses.dclw

Yeh et al. 2022, "Decoupled contrastive learning", section 3.2. All else is as in `dcl`.
"""

from ssljax import losses
from ssljax.methods.image import dcl

PAPER = 'Yeh et al. 2022, Decoupled contrastive learning'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """Those of `dcl`, and sigma = 0.5, section 3.2."""
  config = dcl.get_config(preset)
  config.method.sigma = 0.5
  return config


def make(config, nets):
  def loss(z1, z2):
    return losses.dclw(
      z1,
      z2,
      temperature=config.temperature,
      sigma=config.sigma,
      chunk_size=config.chunk_size or None,
    )

  return dcl.decoupled(config, nets, loss)
