"""PIRL: an image and its shuffled patches both find the memory of the image.

    v = f(encoder(view)), v_t = g(encoder(patch 1), ..., encoder(patch 9)), patches in random order
    loss = (1 - lambda) NCE(v_t; m_i) + lambda NCE(v; m_i), M memories of other images drawn as
    noise for each term, see losses.pirl
    m_i <- (m m_i + (1 - m) v / |v|) / |..|

Misra & van der Maaten 2020, "Self-supervised learning of pretext-invariant representations", with
the jigsaw pretext. f is linear; g is linear for each patch, then linear on all nine together.
Follows the authors' VISSL, where the NCE has one normalizer, estimated from the first batch, and
each patch is mirrored and coloured by itself; its "random photometric" transform is left out.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image, jigsaw
from ssljax.method import two_part
from ssljax.methods.image import _memory, _pair
from ssljax.models import heads
from ssljax.net import chain, over_views

PAPER = 'Misra & van der Maaten 2020, Self-supervised learning of pretext-invariant representations'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': section 3.3 and VISSL's pirl_jigsaw_4node_resnet50; 'cifar' and 'tiny' are ours."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.2), jitter_prob=1.0, grayscale_prob=0.2)
  colour |= dict(interpolation='bilinear', num_views=1)
  whole = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0))  # of a patch everything is seen
  sgd = dict(name='sgd', learning_rate=0.03, batch_scaling='linear', warmup_fraction=0.0)
  common = dict(
    temperature=0.07,
    momentum=0.5,
    weights=(0.5, 0.5),  # of the patches and of the image
    num_examples=config_dict.placeholder(int),
    view_stats='shared',
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=1024,
        epochs=800,
        optim=dict(final_fraction=0.001, weight_decay=1e-4, **sgd),
        method=dict(
          projector=(128,),
          num_negatives=32000,
          chunk_size=32,  # images whose memories are held at a time
          jigsaw=dict(size=255, grid=3, jitter=21, scale=(0.6, 1.0)),
          views={
            'global': image.get_config(224, **colour),
            'patches': image.get_config(64, **colour, **whole),
          },
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=400,
        optim=dict(weight_decay=5e-4, **sgd),
        method=dict(
          projector=(128,),
          num_negatives=4096,
          chunk_size=0,
          jigsaw=dict(size=60, grid=3, jitter=4, scale=(0.6, 1.0)),
          views={
            'global': image.get_config(32, **colour | dict(scale=(0.2, 1.0))),
            'patches': image.get_config(16, **colour, **whole),
          },
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          projector=(64,),
          num_negatives=512,
          chunk_size=0,
          jigsaw=dict(size=60, grid=3, jitter=4, scale=(0.6, 1.0)),
          views={
            'global': image.get_config(32, **_pair.TINY_VIEWS, num_views=1),
            'patches': image.get_config(16, **_pair.TINY_VIEWS | whole, num_views=1),
          },
          **common | dict(temperature=0.1),
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  linear = heads.mlp(config.projector, norm=None)
  network = chain(encoder=nets['encoder'], projector=linear)
  of_image = over_views(network, view_stats=config.view_stats)
  of_patches = over_views(
    chain(encoder=nets['encoder'], patch=linear), view_stats=config.view_stats
  )
  together = heads.mlp(config.projector, norm=None)
  shuffle = jigsaw.make(**config.jigsaw)
  augment = {name: image.make(view) for name, view in config.views.items()}
  embed = _pair.make_embed(network, config.views)

  def views(rng, batch):
    rngs = jax.random.split(rng, 4)
    patches = shuffle(rngs[0], batch['image'])
    flat = augment['patches'](rngs[1], patches.reshape(-1, *patches.shape[2:]))
    drawn = _memory.candidates(
      rngs[3], batch['index'], config.num_negatives, config.num_examples, sets=(2,)
    )
    seen = {
      'global': augment['global'](rngs[2], batch['image']),
      'patches': flat.reshape(*patches.shape[:2], *flat.shape[2:]),
    }
    return {**batch, 'image': seen, 'candidates': drawn}

  def init(rng, batch):
    rngs = jax.random.split(rng, 4)
    params, stats = of_image.init(rngs[0], batch['image']['global'])
    patch_params, patch_stats = of_patches.init(rngs[1], batch['image']['patches'])
    wide = jnp.zeros((1, batch['image']['patches'].shape[1] * config.projector[-1]))
    for name, (p, s) in {
      'patch': (patch_params['patch'], patch_stats['patch']),
      'together': together.init(rngs[2], wide),
    }.items():
      params[name], stats[name] = p, s
    bank = _memory.empty(rngs[3], config.num_examples, config.projector[-1])
    return params, {'stats': stats, **bank}

  def forward(params, state, batch, rng, step):
    rngs, stats = jax.random.split(rng), state['stats']
    seen, new = of_image.apply(params, stats, batch['image']['global'], train=True, rng=rngs[0])
    stats = {**stats, **new}
    parts, new = of_patches.apply(params, stats, batch['image']['patches'], train=True, rng=rngs[1])
    stats = {**stats, **new}
    wide = parts['patch'].reshape(len(parts['patch']), -1)
    patches, stats['together'] = together.apply(
      params['together'], stats['together'], wide, train=True
    )
    return {'image': seen['projector'][:, 0], 'patches': patches}, {**state, 'stats': stats}

  def objective(params, state, z, batch, rng, step):
    patches, v = (ops.l2_normalize(ops.as_float(z[name])) for name in ('patches', 'image'))
    bank, drawn = state['bank'], batch['candidates']
    options = {'temperature': config.temperature, 'chunk_size': config.chunk_size or None}
    normalizer = losses.nce_normalizer(patches, bank, drawn[:, 0], state['normalizer'], **options)
    loss = losses.pirl(
      patches, v, bank, drawn, normalizer=normalizer, weights=tuple(config.weights), **options
    )
    bank = ops.remember(bank, batch['index'], v, config.momentum, unit=True)
    state = {**state, 'bank': bank, 'normalizer': normalizer}
    return loss, (state, {'normalizer': normalizer})

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
  )
