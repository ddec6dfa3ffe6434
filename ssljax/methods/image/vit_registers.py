"""Registers: DINOv2 with tokens that nobody reads, where a ViT may keep what it knows of the whole.

    tokens = (class token, registers, patches); registers are learned and dropped in the end
    loss as in dinov2

Without them large ViTs put global information into patches of little content, whose tokens become
long and useless for dense tasks. Both are watched, in the teacher's large crops: `norm_ratio` is
the longest patch token before the last norm over the median one, and `outliers` the share of those
longer than `outlier_factor` times the median, see ops.outliers. encoder.registers=0 compares.

Darcet et al. 2024, "Vision transformers need registers". Follows the paper; its cut-off is a
length, 150, read off the tokens of DINOv2's ViT-g, which other networks do not share.
"""

from ssljax import ops
from ssljax.method import two_part
from ssljax.methods.image import _distill, dinov2

PAPER = 'Darcet et al. 2024, Vision transformers need registers'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """DINOv2's settings and 4 registers (section 3.1); 'imagenet' is its ViT-L/16 for ImageNet-1k."""
  config = dinov2.get_config('imagenet_short' if preset == 'imagenet' else preset)
  config.encoder.registers = 4
  config.method.outlier_factor = 4.0
  return config


def make(config, nets):
  teacher_temp = _distill.schedules(config)['teacher_temp']

  def objective(params, state, z, batch, rng, step):
    loss, state, metrics = dinov2.total(config, state, z, batch, teacher_temp(step))
    share, ratio = ops.outliers(z['norms'], factor=config.outlier_factor)
    return loss, (state, metrics | {'outliers': share.mean(), 'norm_ratio': ratio.mean()})

  fields = _distill.parts(
    config, nets['encoder'], memory=lambda: dinov2.memory(config), patches=True, more=('norms',)
  )
  return two_part(objective=objective, **fields)
