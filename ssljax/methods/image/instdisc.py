"""Instance discrimination: an image finds its own memory among those of all images.

    v = projector(encoder(view)) / |..|, w_i the memory of image i
    loss = NCE of v_i against w_i and M memories drawn as noise, see losses.nce,
           + proximal |v_i - w_i|^2
    w_i <- (m w_i + (1 - m) v_i) / |..|

Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination". The
normalizer Z is estimated from the first batch and kept. Follows the authors' PyTorch code, which
holds memories back by m = 0.5 and has no proximal term; the paper's is `proximal`, its lambda (0 to
50 in figure 3). The learning rate falls as a cosine here, in steps there.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _memory, _pair
from ssljax.models import heads

PAPER = 'Wu et al. 2018, Unsupervised feature learning via non-parametric instance discrimination'
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': section 3 and the authors' main.py; 'cifar': their cifar.py; 'tiny' is ours."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.4), jitter_prob=1.0, grayscale_prob=0.2, num_views=1)
  sgd = dict(name='sgd', learning_rate=0.03, momentum=0.9, warmup_fraction=0.0, decay_all=True)
  common = dict(
    momentum=0.5,
    num_negatives=4096,
    proximal=0.0,
    chunk_size=0,  # > 0: images whose memories are held at a time
    num_examples=config_dict.placeholder(int),
    view_stats='shared',
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=256,
        epochs=200,
        optim=dict(weight_decay=1e-4, **sgd),
        method=dict(
          temperature=0.07,
          projector=(128,),
          views=image.get_config(224, scale=(0.2, 1.0), interpolation='bilinear', **colour),
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=128,
        epochs=200,
        optim=dict(weight_decay=5e-4, **sgd),
        method=dict(
          temperature=0.1,
          projector=(128,),
          views=image.get_config(
            32, scale=(0.2, 1.0), interpolation='bilinear', flip=0.0, **colour
          ),
          **common,
        ),
      ),
      'tiny': dict(
        method=dict(
          temperature=0.1,
          projector=(64,),
          views=image.get_config(32, **_pair.TINY_VIEWS, num_views=1),
          **common | dict(num_negatives=512, proximal=1.0),
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  one_view = _pair.make_views(config.views)
  options = {'temperature': config.temperature, 'chunk_size': config.chunk_size or None}

  def views(rng, batch):
    view_rng, noise_rng = jax.random.split(rng)
    drawn = _memory.candidates(noise_rng, batch['index'], config.num_negatives, config.num_examples)
    return {**one_view(view_rng, batch), 'candidates': drawn}

  def objective(params, state, z, batch, rng, step):
    v, bank = ops.l2_normalize(ops.as_float(z[:, 0])), state['bank']
    drawn = batch['candidates']
    normalizer = losses.nce_normalizer(v, bank, drawn, state['normalizer'], **options)
    loss = losses.nce(v, bank, drawn, normalizer=normalizer, **options)
    loss += config.proximal * jnp.square(v - bank[batch['index']]).sum(1).mean()
    bank = ops.remember(bank, batch['index'], v, config.momentum, unit=True)
    state = {**state, 'bank': bank, 'normalizer': normalizer}
    return loss, (state, {'normalizer': normalizer})

  return _pair.one_network(
    config,
    objective,
    memory=lambda rng: _memory.empty(rng, config.num_examples, config.projector[-1]),
    views=views,
    encoder=nets['encoder'],
    projector=heads.mlp(config.projector, norm=None),
  )
