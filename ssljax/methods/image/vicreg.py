"""VICReg: two views agree, every feature varies over the batch, and no two vary together.

    z = projector(encoder(view)), loss = 25 mean (z1 - z2)^2 + 25 (1 - standard deviation)_+ + sum
    of squared covariances / D, see losses.vicreg

Bardes, Ponce, LeCun 2022, "VICReg: variance-invariance-covariance regularization for
self-supervised learning". Follows the authors' PyTorch code, which halves the sum of the two views'
variance terms.
"""

from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Bardes et al. 2022, VICReg: variance-invariance-covariance regularization'
FAMILY = 'redundancy-reduction'


def get_config(preset='imagenet'):
  """'imagenet': section 4.2 and appendix C, 1000 epochs; 'cifar' and 'tiny' are ours."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  lars = dict(
    name='lars',
    learning_rate=0.2,
    batch_scaling='linear',
    warmup_fraction=0.01,
    final_fraction=0.001,
    weight_decay=1e-6,
  )
  common = dict(sim_coeff=25.0, std_coeff=25.0, cov_coeff=1.0, view_stats='separate')
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=2048,
        epochs=1000,
        optim=lars,
        method=dict(
          projector=(8192, 8192, 8192),
          views=image.get_config(224, blur_prob=0.5, solarize_prob=0.1, **colour),
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
          views=image.get_config(32, solarize_prob=0.1, **colour),
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
  # The authors' hidden layers have a bias; the batch norm after them takes it out again.
  projector = heads.mlp(config.projector, hidden_bias=False, last_bias=False)

  def objective(params, state, z, batch, rng, step):
    weights = {name: config[name] for name in ('sim_coeff', 'std_coeff', 'cov_coeff')}
    return losses.vicreg(*_pair.two(z), **weights), (state, {})

  return _pair.one_network(config, objective, encoder=nets['encoder'], projector=projector)
