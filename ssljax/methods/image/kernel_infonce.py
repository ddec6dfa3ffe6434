"""Kernel-InfoNCE: SimCLR with other kernels of the distance than the Gaussian.

    z = projector(encoder(view)), u = z / |z|, K_g(a, b) = exp(-|a - b|^g / T)
    loss = w L(K_1) + (1 - w) L(K_2),  L(K) = -log( K(u, u') / sum over the others K(u, u_j) ), see
    losses.kernel_info_nce, which also has single kernels and the concatenation

Tan, Zhang, Yang, Yuan 2024, "Contrastive learning is spectral clustering on similarity graph".
Follows the authors' PyTorch code, where 'sum' mixes the losses of two kernels; the paper's formula
mixes the kernels (method.mixture='kernels'). The code draws T, w and the learning rate at random
for each data set and does not record what it found: those here are ours.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Tan et al. 2024, Contrastive learning is spectral clustering on similarity graph'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'cifar': the authors' settings but for what they searched; the paper has no 'imagenet', which
  is SimCLR's; 'tiny' is ours."""
  colour = dict(jitter=(0.8, 0.8, 0.8, 0.2), jitter_prob=0.8, grayscale_prob=0.2)
  weak_colour = colour | dict(jitter=(0.4, 0.4, 0.4, 0.1))
  lars = dict(name='lars', batch_scaling='linear', warmup_fraction=0.1, weight_decay=1e-6)
  common = dict(
    kernel='sum',
    gamma=1.0,
    temperature=0.5,
    weight=0.5,
    mixture='losses',
    view_stats='separate',
    chunk_size=0,  # > 0: elements whose distances are held at a time, memory linear in the batch
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=4096,
        epochs=100,
        optim=dict(learning_rate=0.3, **lars),
        method=dict(
          projector=(2048, 128), views=image.get_config(224, blur_prob=0.5, **colour), **common
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet50', stem='cifar'),
        batch_size=256,
        epochs=400,
        optim=dict(learning_rate=1.0, **lars),
        method=dict(projector=(2048, 128), views=image.get_config(32, **weak_colour), **common),
      ),
      'tiny': dict(
        method=dict(projector=(128, 64), views=image.get_config(32, **_pair.TINY_VIEWS), **common),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  options = {name: config[name] for name in ('kernel', 'gamma', 'temperature', 'weight', 'mixture')}
  # The authors' hidden layer has a bias; the batch norm after it takes it out again.
  projector = heads.mlp(config.projector, hidden_bias=False, last_bias=False)

  def objective(params, state, z, batch, rng, step):
    loss = losses.kernel_info_nce(*_pair.two(z), chunk_size=config.chunk_size or None, **options)
    return loss, (state, {'chance_loss': jnp.log(2 * len(z) - 1.0)})

  return _pair.one_network(config, objective, encoder=nets['encoder'], projector=projector)
