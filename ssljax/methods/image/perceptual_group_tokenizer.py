"""Perceptual group tokenizer: DINO, with an encoder that only groups, in place of a transformer.

    group tokens c_m ~ learned Gaussian;  for some rounds, in every head:
      A = softmax over groups of <q(c_m), k(x_l)>,  c_m <- GRU(c_m, mean of v(x_l) by A), + MLP
    x_l <- x_l + sum_m A_ml c_m, + MLP;  layers of this, see models.grouping
    loss and teacher as in dino

Deng et al. 2024, "Perceptual group tokenizer: building perception with iterative grouping". No
code was published: the layer follows what the paper tells of it, else slot attention. The student's
group tokens are drawn in each call, the teacher's and those of evaluation are fixed draws; features
are the mean of patches. Those two are ours.
"""

from ml_collections import ConfigDict

from ssljax.methods.image import dino

PAPER = 'Deng et al. 2024, Perceptual group tokenizer: building perception with iterative grouping'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """DINO's settings with another encoder, whose sizes are ours: 'imagenet' has 256 groups and 3
  rounds in each of 10 layers, on patches of 4 pixels."""
  config = dino.get_config(preset)
  changes = {
    'imagenet': dict(encoder=dict(name='pgt_base', remat=True)),
    'cifar': dict(encoder=dict(name='pgt_small', image_size=32, groups=32)),
    'tiny': dict(encoder=dict(name='pgt_micro')),
  }[preset]
  with config.unlocked():
    config.encoder = ConfigDict(changes['encoder'])
  return config


def make(config, nets):
  """The method is DINO's; see `_distill.parts` for what becomes of the encoder."""
  return dino.make(config, nets)
