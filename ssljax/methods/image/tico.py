"""TiCo: views agree, and embeddings avoid the directions that embeddings took so far.

    z1 = projector(encoder(view 1)), z2 = projector'(encoder'(view 2)), both at length one
    C <- beta C + (1 - beta) mean z1 z1^T
    loss = 1 - mean z1 . z2 + rho mean z1^T C z1, see losses.tico
    then the teacher <- tau teacher + (1 - tau) student, tau rising to 1

Zhu, Moraes, Karakulak, Sobal, Canziani, LeCun 2022, "TiCo: transformation invariance and
covariance contrast for self-supervised visual representation learning". The authors published no
code; the loss is lightly's, which has no gradient through the mean of z1 z1^T.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Zhu et al. 2022, TiCo: transformation invariance and covariance contrast'
FAMILY = 'redundancy-reduction'


def get_config(preset='imagenet'):
  """'imagenet': beta, rho, the heads and the views of section 4, the optimizer as BYOL's; 'cifar'
  and 'tiny' are ours."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  common = dict(
    beta=0.9,
    rho=8.0,
    grad_through_b=False,
    view_stats='separate',
    total_steps=config_dict.placeholder(int),
  )
  lars = dict(name='lars', batch_scaling='linear', warmup_fraction=0.01, weight_decay=1.5e-6)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=4096,
        epochs=1000,
        optim=dict(learning_rate=0.2, **lars),
        method=dict(
          tau_base=0.99,
          projector=(4096, 256),
          views=image.get_config(224, blur_prob=(1.0, 0.1), solarize_prob=(0.0, 0.2), **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=1000,
        optim=dict(learning_rate=1.0, **lars),
        method=dict(
          tau_base=0.99,
          projector=(2048, 256),
          views=image.get_config(32, solarize_prob=(0.0, 0.2), **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          tau_base=0.97,
          projector=(256, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  width = config.projector[-1]

  def objective(params, state, outputs, batch, rng, step):
    loss, covariance = losses.tico(
      outputs['z'][:, 0],
      outputs['target'][:, 0],
      state['covariance'],
      beta=config.beta,
      rho=config.rho,
      grad_through_b=config.grad_through_b,
    )
    return loss, ({**state, 'covariance': covariance}, {})

  return _pair.with_teacher(
    config,
    objective,
    lambda step: ops.cosine_ramp(step, config.total_steps, config.tau_base),
    student_views=slice(0, 1),
    teacher_views=slice(1, 2),
    memory=lambda rng: {'covariance': jnp.zeros((width, width))},
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, hidden_bias=False),
  )
