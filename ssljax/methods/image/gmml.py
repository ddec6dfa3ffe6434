"""GMML: paint an image whose groups of neighbouring patches are noise or of another image.

    two views, each corrupted in random rectangles of patches, see _paint.corrupt
    pred = decoder(mean of the tokens after blocks 6, 8, 10 and 12)
    loss = mean over corrupted pixels of |pred - clean pixel|, see losses.simmim

Atito et al. 2022, "GMML is all you need". No mask token, no teacher, no negatives. Follows the
authors' PyTorch code, but for: rectangles lie on the grid of patches (theirs may, and do not by
default) and the last one is cut where the share is reached; weight decay stays 0.04 where theirs
grows to 0.4; 3 bounds the norm of the whole gradient, theirs that of each parameter's.
"""

import functools

import jax
from ml_collections import ConfigDict, config_dict

from ssljax.augment import image
from ssljax.methods.image import _paint, _pair
from ssljax.net import chain

PAPER = 'Atito et al. 2022, GMML is all you need'
FAMILY = 'masked-modelling'


def get_config(preset='imagenet'):
  """'imagenet': the authors' defaults, 64 images on each of 4 GPUs; 'cifar' and 'tiny' are ours."""
  adamw = dict(name='adamw', weight_decay=0.04, clip_norm=3.0)
  method = dict(
    view_stats='shared',
    patch_size=config_dict.placeholder(int),
    blocks=(1 / 2, 2 / 3, 5 / 6, 1.0),  # whose tokens' mean is decoded, as shares of the depth
    corruption=dict(fill='noise', ratio=0.75, foreign_prob=0.5, foreign_ratio=0.3, max_side=0.3),
  )
  views = dict(scale=(0.05, 1.0), jitter=(0.1, 0.1, 0.1, 0.01), jitter_prob=0.3, blur_prob=0.1)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_small', patch_size=16),
        batch_size=256,
        epochs=800,
        optim=dict(
          learning_rate=5e-4,
          batch_scaling='linear',
          warmup_fraction=10 / 800,
          final_fraction=0.002,
          **adamw,
        ),
        method=method | dict(decoder=dict(dim=384, depth=3), views=image.get_config(224, **views)),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=4, pool='mean'),
        batch_size=256,
        epochs=800,
        optim=dict(learning_rate=5e-4, warmup_fraction=10 / 800, **adamw),
        method=method
        | dict(
          decoder=dict(dim=192, depth=3),
          views=image.get_config(32, **views | dict(scale=(0.2, 1.0), blur_prob=0.0)),
        ),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=4, pool='mean'),
        batch_size=256,
        epochs=40,
        optim=dict(learning_rate=1e-3, warmup_fraction=0.1, **adamw),
        method=method
        | dict(
          decoder=dict(dim=64, depth=2),
          views=image.get_config(32, scale=(0.2, 1.0), interpolation='bilinear'),
        ),
      ),
    }[preset]
  )


def make(config, nets):
  encoder = nets['encoder']

  def objective(params, state, z, batch, rng, step):
    return _paint.reconstruction(z['decoder'], batch, config), (state, {})

  method = _pair.one_network(
    config,
    objective,
    outputs=_paint.heads_of,
    join=_paint.fork_and_paint(config, {}),
    encoder=encoder._replace(apply=functools.partial(encoder.apply, average=tuple(config.blocks))),
  )
  embed = _pair.make_embed(chain(encoder=encoder), config.views)

  def views(rng, batch):
    view_rng, rng = jax.random.split(rng)
    batch = method.views(view_rng, batch)
    return {**batch, **_paint.corrupt(rng, batch['image'], config)}

  return method._replace(
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(method.views, embed, config.views),
    show=_paint.make_show(config, views, method.forward),
  )
