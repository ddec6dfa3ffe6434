"""AMDIM: features of one view find those of another, across scales.

    r1, r5, r7 = heads of the encoder's features, its last map and the map before
    loss = nce(r1; r5') + nce(r1; r7') + nce(one place of r5; r5') + lambda (scores squared), both
    ways, with scores c tanh(r . r' / (c sqrt(R))), see losses.amdim

Bachman, Hjelm, Buchwalter 2019, "Learning representations by maximizing mutual information across
views". Follows the authors' PyTorch code in the loss and the views, both of which are mirrored or
neither. The numbers are the sides of the maps of the authors' encoder, which pads nowhere so that
the place of a feature bounds what it sees; with the residual networks here it does not, and the
global features are the mean of the last map. Their mixture of representations is left out.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import amdim
from ssljax.net import fork

PAPER = 'Bachman et al. 2019, Learning representations by maximizing mutual information'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': the authors' README and task_self_supervised.py at 128 pixels; 'cifar': theirs, but
  with crops where they shift by 4 pixels; 'tiny' is ours."""
  colour = dict(jitter_prob=0.8, grayscale_prob=0.25, flip=0.0)
  crop = dict(scale=(0.3, 1.0), ratio=(0.7, 1.4))
  adam = dict(name='adamw', learning_rate=2e-4, b1=0.8, weight_decay=1e-5)
  common = dict(flip_both=0.5, clip=20.0, regularization=0.05, view_stats='separate')
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=480,
        epochs=50,
        optim=dict(warmup_fraction=0.004, **adam),
        method=dict(
          projector=(1536,),
          chunk_size=32,  # images whose scores are held at a time
          views=image.get_config(128, jitter=(0.4, 0.4, 0.4, 0.1), **colour, **crop),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=200,
        epochs=300,
        optim=dict(warmup_fraction=0.007, **adam),
        method=dict(
          projector=(1024,),
          chunk_size=0,
          views=image.get_config(32, jitter=(0.4, 0.4, 0.4, 0.2), **colour, **crop),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          projector=(64,),
          chunk_size=16,
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **common | dict(flip_both=0.0),
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  two_views = _pair.make_views(config.views)
  head = functools.partial(amdim.head, config.projector[-1])
  sources = {
    'coarse': lambda outputs: _pair.feature_maps(outputs)[-1],
    'fine': lambda outputs: _pair.feature_maps(outputs)[-2],
  }

  def views(rng, batch):
    rngs = jax.random.split(rng, 3)
    x = batch['image']
    mirrored = jax.random.bernoulli(rngs[0], config.flip_both, (len(x), 1, 1, 1))
    batch = {**batch, 'image': jnp.where(mirrored, x[:, :, ::-1], x)}
    # Where of the coarse map each view is a source, as a share of its places.
    return {**two_views(rngs[1], batch), 'place': jax.random.uniform(rngs[2], (len(x), 2))}

  def outputs(found):
    maps = {name: found[name] for name in sources}
    places = {name: x.reshape(*x.shape[:2], -1, x.shape[-1]) for name, x in maps.items()}
    return {'global': found['projector'], **places}

  def objective(params, state, z, batch, rng, step):
    coarse = z['coarse']
    place = jnp.floor(batch['place'] * coarse.shape[2]).astype(jnp.int32)
    source = jnp.take_along_axis(coarse, place[:, :, None, None], axis=2)[:, :, 0]
    loss = losses.amdim(
      z['global'], source, coarse, z['fine'],
      clip=config.clip, regularization=config.regularization, chunk_size=config.chunk_size or None,
    )  # fmt: skip
    return loss, (state, {})

  return _pair.one_network(
    config,
    objective,
    outputs=outputs,
    views=views,
    join=functools.partial(fork, sources),
    encoder=nets['encoder'],
    projector=head(),
    coarse=head(),
    # Only ever a target, where a bias adds the same to all scores of a source.
    fine=head(use_bias=False),
  )
