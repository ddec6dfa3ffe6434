"""W-MSE: views agree after their embeddings were whitened.

    z = projector(encoder(view)); for each of w_iter random permutations cut into chunks of w_size,
    w = z of one view in one chunk, whitened; loss = mean over pairs of views of |w_u' - w_v'|^2, w'
    at length one, see losses.w_mse

Ermolov, Siarohin, Sangineto, Sebe 2021, "Whitening for self-supervised representation learning".
Follows the authors' PyTorch code, whose head runs on all views together. Their rate falls in two
steps, by 5 at 50 and 25 epochs before the end: here it falls linearly to 1/25 over the last 50.
"""

import jax
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Ermolov et al. 2021, Whitening for self-supervised representation learning'
FAMILY = 'whitening'


def get_config(preset='imagenet'):
  """'cifar': W-MSE 4, section 4 and the authors' command for CIFAR-10; 'imagenet': W-MSE 4 with the
  command for Tiny ImageNet at 224 pixels, and w_iter 4; 'tiny' is ours."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.1)
  adam = dict(name='adamw', weight_decay=1e-6, warmup_fraction=0.002)
  adam |= dict(schedule='infinite', anneal_fraction=0.05, final_fraction=0.04)
  # The authors shrink nothing; in float32 and early in training that is at the edge of what a
  # Cholesky factor bears.
  common = dict(w_eps=1e-4, norm=True, view_stats='separate')
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=256,
        epochs=1000,
        optim=dict(learning_rate=2e-3, **adam),
        method=dict(
          w_size=256,
          w_iter=4,
          projector=(1024, 128),
          views=image.get_config(224, num_views=4, scale=(0.2, 1.0), blur_prob=0.5, **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=1000,
        optim=dict(learning_rate=3e-3, **adam),
        method=dict(
          w_size=128,
          w_iter=1,
          projector=(1024, 64),
          views=image.get_config(32, num_views=4, scale=(0.2, 1.0), **colour),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          w_size=128,
          w_iter=1,
          projector=(256, 32),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **common,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  def objective(params, state, z, batch, rng, step):
    perms = ops.permutations(batch['noise'])
    options = {name: config[name] for name in ('w_size', 'w_eps', 'norm')}
    return losses.w_mse(z, perms, **options), (state, {})

  method = _pair.one_network(
    config,
    objective,
    encoder=nets['encoder'],
    # The authors' last layer has a bias; the whitening after it takes it out again.
    projector=heads.mlp(config.projector, hidden_bias=False, last_bias=False),
  )

  def views(rng, batch):
    view_rng, noise_rng = jax.random.split(rng)
    noise = jax.random.uniform(noise_rng, (len(batch['image']), config.w_iter))
    return {**method.views(view_rng, batch), 'noise': noise}

  return method._replace(views=views)
