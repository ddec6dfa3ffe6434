"""Barlow Twins: the cross-correlation of two views' embeddings is to be the identity.

    z = projector(encoder(view)), loss = sum_i (1 - C_ii)^2 + lambd sum_{i != j} C_ij^2 with C the
    correlation of z1 and z2 over the batch, see losses.barlow_twins

Zbontar et al. 2021, "Barlow Twins: self-supervised learning via redundancy reduction". Follows the
authors' PyTorch code, which takes statistics over each view by itself.
"""

from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Zbontar et al. 2021, Barlow Twins: self-supervised learning via redundancy reduction'
FAMILY = 'redundancy-reduction'


def get_config(preset='imagenet'):
  """'imagenet': section 2.2 and appendix; 'cifar' and 'tiny' are ours."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  lars = dict(
    name='lars',
    learning_rate=0.2,
    batch_scaling='linear',
    warmup_fraction=0.01,
    final_fraction=0.001,
    weight_decay=1.5e-6,
    vector_multiplier=0.024,  # 0.0048 for biases and batch norms
  )
  common = dict(lambd=0.0051, scale_loss=1.0, view_stats='separate')
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=2048,
        epochs=1000,
        optim=lars,
        method=dict(
          projector=(8192, 8192, 8192),
          views=image.get_config(224, blur_prob=(1.0, 0.1), solarize_prob=(0.0, 0.2), **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=1000,
        optim=lars | dict(learning_rate=0.3),
        method=dict(
          projector=(2048, 2048, 2048),
          views=image.get_config(32, solarize_prob=(0.0, 0.2), **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(projector=(256, 256), views=image.get_config(32, **_pair.TINY_VIEWS), **common),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  projector = heads.mlp(config.projector, hidden_bias=False, last_bias=False)

  def objective(params, state, z, batch, rng, step):
    loss = losses.barlow_twins(*_pair.two(z), lambd=config.lambd, scale_loss=config.scale_loss)
    return loss, (state, {})

  return _pair.one_network(config, objective, encoder=nets['encoder'], projector=projector)
