"""CURL: an anchor is nearer to other views of its image than to those of k others, by a margin.

    f = encoder(view) at length R; p the mean of f over b views of the anchor's image, n_j over b
    views of each of k other images
    loss = l({f . (p - n_j)}), l hinge or logistic, see losses.curl

Arora et al. 2019, "A theoretical analysis of contrastive unsupervised representation learning",
whose theorems bound the loss of the mean classifier (evaluators.mean_classifier) by this one. There
is no code for images. The paper's similar pairs come from video or text and have many examples to a
latent class; here they are views, and an image is its own class. The theory asks for |f| <= R: here
it is R.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Arora et al. 2019, A theoretical analysis of contrastive unsupervised representation'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """All ours, but for k = 4 and blocks of 2, which are of the paper's section 8; `block` views of
  an image make a block, one more is the anchor."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.2, num_views=3)
  common = dict(form='logistic', negatives=4, radius=3.0, projector=(), view_stats='shared')
  adam = dict(name='adamw', learning_rate=1e-3, weight_decay=1e-4)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=512,
        epochs=100,
        optim=adam,
        method=dict(views=image.get_config(224, blur_prob=0.5, **colour), **common),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=200,
        optim=adam,
        method=dict(views=image.get_config(32, **colour), **common),
      ),
      'tiny': dict(
        method=dict(views=image.get_config(32, **_pair.TINY_VIEWS, num_views=3), **common),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  if config.views.num_views < 2:
    raise InputError(f'views.num_views is {config.views.num_views}, wanted at least 2')
  some_views = _pair.make_views(config.views)

  def views(rng, batch):
    rngs = jax.random.split(rng)
    # Who is whose negative: the next in a random order of the batch, wherever its rows stand.
    order = jax.random.uniform(rngs[0], (len(batch['image']),))
    return {**some_views(rngs[1], batch), 'order': order}

  def objective(params, state, z, batch, rng, step):
    if not 1 <= config.negatives < len(z):
      raise InputError(
        f'negatives is {config.negatives}, wanted 1 to {len(z) - 1}, the other images of a batch'
      )
    f = config.radius * ops.l2_normalize(ops.as_float(z))
    ranked = jnp.argsort(batch['order'])
    rank = jnp.argsort(ranked)
    others = ranked[(rank[:, None] + 1 + jnp.arange(config.negatives)) % len(z)]
    loss = losses.curl(f[:, 0], f[:, 1:], f[others, 1:], form=config.form)
    chance = 1.0 if config.form == 'hinge' else jnp.log2(1.0 + config.negatives)
    return loss, (state, {'chance_loss': jnp.float32(chance)})

  projector = heads.mlp(config.projector, hidden_bias=False)
  return _pair.one_network(
    config, objective, views=views, encoder=nets['encoder'], projector=projector
  )
