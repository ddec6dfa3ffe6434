"""Mixed Barlow Twins: Barlow Twins, and mixed images have mixed embeddings.

    x_m = alpha view1 + (1 - alpha) view2 of another image, alpha ~ U(0, 1), one for the batch
    z = projector(encoder(view)) of view1, view2 and x_m
    loss = Barlow Twins(z1, z2) + how far z_m is from correlating with z1 and z2 as the mixture of
    embeddings does, see losses.mixed_barlow_twins

Bandara, De Melo, Patel 2023, "Guarding Barlow Twins against overfitting with mixed samples".
Follows the authors' PyTorch code: `main.py` (CIFAR, where embeddings are scaled to length one
first) for 'cifar' and 'tiny', the hyper-parameters of `main_imagenet.py` for 'imagenet'. There the
weight of the mixed term grows from 0 over the first 10 epochs; here it is constant.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Bandara et al. 2023, Guarding Barlow Twins against overfitting with mixed samples'
FAMILY = 'redundancy-reduction'


def get_config(preset='imagenet'):
  """'imagenet': section 4.1, 300 epochs; 'cifar': the authors' script for CIFAR-10, 2000 epochs."""
  common = dict(view_stats='separate')
  small = dict(lambd=1 / 128, mixup_loss_scale=4.0, normalize=True, **common)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=1024,
        epochs=300,
        optim=dict(
          name='lars',
          learning_rate=0.2,
          batch_scaling='linear',
          warmup_fraction=10 / 300,
          final_fraction=0.001,
          weight_decay=1e-6,
          vector_multiplier=0.024,  # 0.0048 for biases and batch norms
        ),
        method=dict(
          lambd=0.0051,
          mixup_loss_scale=0.5,
          normalize=False,
          projector=(8192, 8192, 8192),
          views=image.get_config(
            224,
            jitter=(0.4, 0.4, 0.2, 0.1),
            jitter_prob=0.8,
            grayscale_prob=0.2,
            blur_prob=(1.0, 0.1),
            solarize_prob=(0.0, 0.2),
          ),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=2000,
        optim=dict(
          name='adamw',
          learning_rate=0.01,
          batch_scaling='linear',
          warmup_fraction=10 / 2000,
          final_fraction=0.001,
          weight_decay=1e-6,
        ),
        method=dict(
          projector=(512, 1024),
          views=image.get_config(
            32, jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.2
          ),
          **small,
        ),
      ),
      'tiny': dict(
        method=dict(projector=(256, 256), views=image.get_config(32, **_pair.TINY_VIEWS), **small),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  projector = heads.mlp(config.projector, hidden_bias=False, last_bias=False)

  def objective(params, state, z, batch, rng, step):
    z = ops.l2_normalize(z) if config.normalize else z
    loss = losses.mixed_barlow_twins(
      *(z[:, i] for i in range(3)),
      ops.random_partner(batch['noise']),
      batch['alpha'],
      lambd=config.lambd,
      mixup_loss_scale=config.mixup_loss_scale,
    )
    return loss, (state, {})

  method = _pair.one_network(config, objective, encoder=nets['encoder'], projector=projector)

  def views(rng, batch):
    view_rng, noise_rng, alpha_rng = jax.random.split(rng, 3)
    batch = method.views(view_rng, batch)
    x, count = batch['image'], len(batch['image'])
    noise = jax.random.uniform(noise_rng, (count, 2))
    alpha = jnp.broadcast_to(jax.random.uniform(alpha_rng), (count,))
    share = alpha[:, None, None, None]
    mixed = share * x[:, 0] + (1 - share) * x[ops.random_partner(noise), 1]
    x = jnp.concatenate([x, mixed[:, None]], axis=1)
    return {**batch, 'image': x, 'noise': noise, 'alpha': alpha}

  return method._replace(views=views)
