"""SiT: paint a corrupted image, find the teacher's token of its other view, say how it is turned.

    two views, turned by a multiple of 90 degrees, each corrupted as in GMML
    student on the corrupted views: pred = decoder(patch tokens), q = projector(class token),
    turn = linear(rotation token); teacher on the clean views: k = projector'(class token)
    L = mean over corrupted pixels of |pred - clean pixel|, MoCo v3's contrast of q and k of the
    other view, cross-entropy of the turn
    loss = sum over tasks of exp(-s_k) L_k + s_k, with s learned, see losses.uncertainty_weighted

Atito et al. 2021, "SiT: self-supervised vision transformer". The three tasks and their learned
weights are the first version of the paper, for small sets. Its authors' present PyTorch code, which
is preset 'imagenet', has neither the turn nor s: its loss is contrast + lmbda * reconstruction.
Both contrast the class token; the first version's plain NT-Xent of two students is not here. What
differs from the code besides is as in GMML, and its weight decay grows to 0.1.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.methods.image import _paint, _pair
from ssljax.models import heads

PAPER = 'Atito et al. 2021, SiT: self-supervised vision transformer'
FAMILY = 'masked-modelling'


def get_config(preset='imagenet'):
  """'imagenet': the authors' present defaults; 'cifar' and 'tiny', of three tasks, are ours."""
  adamw = dict(name='adamw', learning_rate=5e-4, weight_decay=0.04, clip_norm=3.0)
  adamw |= dict(warmup_fraction=10 / 800, batch_scaling='linear')
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  blur = dict(blur_prob=(1.0, 0.1), solarize_prob=(0.0, 0.2))
  corruption = dict(fill='zeros', ratio=0.5, foreign_prob=0.5, foreign_ratio=0.3, max_side=0.3)
  method = dict(
    rotation=True,  # whether views are turned and a token tells how
    uncertainty=True,  # whether the tasks' weights are learned
    lmbda=1.0,  # the reconstruction's weight if they are not
    temperature=0.2,
    tau_base=0.996,
    corruption=corruption,
    view_stats='shared',
    patch_size=config_dict.placeholder(int),
    total_steps=config_dict.placeholder(int),
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_small', patch_size=16, registers=0),
        batch_size=256,
        epochs=800,
        optim=adamw | dict(final_fraction=0.002),
        method=method
        | dict(
          rotation=False,
          uncertainty=False,
          projector=(4096, 4096, 256),
          decoder=dict(dim=384, depth=3),
          views=image.get_config(224, scale=(0.2, 1.0), **colour, **blur),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=4, registers=1),
        batch_size=256,
        epochs=800,
        optim=adamw,
        method=method
        | dict(
          projector=(1024, 1024, 256),
          decoder=dict(dim=192, depth=3),
          views=image.get_config(32, scale=(0.2, 1.0), **colour),
        ),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=4, registers=1),
        batch_size=256,
        epochs=40,
        optim=adamw | dict(learning_rate=1e-3, warmup_fraction=0.1),
        method=method
        | dict(
          tau_base=0.97,
          projector=(256, 64),
          decoder=dict(dim=64, depth=2),
          views=image.get_config(32, **_pair.TINY_VIEWS),
        ),
      ),
    }[preset]
  )


def turned(x, quarters):
  """Images [..., H, H, C] turned counterclockwise by `quarters` [...] of a circle."""
  quarters = quarters[..., None, None, None]
  x = jnp.where(quarters % 2 == 1, jnp.rot90(x, 1, (-3, -2)), x)
  return jnp.where(quarters >= 2, x[..., ::-1, ::-1, :], x)


def rotation_token(outputs):
  if 'registers' not in outputs:
    raise InputError('encoder.registers is 0, wanted 1, the token that tells the rotation')
  return outputs['registers'][:, 0]


def make(config, nets):
  parts = {'projector': lambda outputs: outputs['cls']}
  trained = {
    'encoder': nets['encoder'],
    'projector': heads.mlp(
      config.projector, hidden_bias=False, last_bias=False, last_norm='batch_no_affine'
    ),
  }
  if config.rotation:
    parts['rotation'], trained['rotation'] = rotation_token, heads.mlp((4,))

  def objective(params, state, outputs, batch, rng, step):
    z, k = outputs['z'], outputs['target']['projector']
    q = z['projector']
    terms = {
      'reconstruction': _paint.reconstruction(z['decoder'], batch, config),
      'contrast': losses.moco_v3(*_pair.two(q), *_pair.two(k), temperature=config.temperature),
    }
    if config.rotation:
      terms['rotation'] = optax.softmax_cross_entropy_with_integer_labels(
        ops.as_float(z['rotation']), batch['turn']
      ).mean()
    if config.uncertainty:
      loss = losses.uncertainty_weighted(
        jnp.stack([terms[name] for name in sorted(terms)]), params['log_variance']
      )
    else:
      loss = sum(terms.values()) + (config.lmbda - 1) * terms['reconstruction']
    return loss, (state, terms)

  method = _pair.with_teacher(
    config,
    objective,
    lambda step: ops.cosine_ramp(step, config.total_steps, config.tau_base),
    student_views=slice(2, 4),
    teacher_views=slice(2),
    join=_paint.fork_and_paint(config, parts),
    outputs=_paint.heads_of,
    **trained,
  )

  def init(rng, batch):
    params, state = method.init(rng, batch)
    if config.uncertainty:
      params['log_variance'] = jnp.zeros(2 + config.rotation)
    return params, state

  def views(rng, batch):
    view_rng, turn_rng, rng = jax.random.split(rng, 3)
    batch = method.views(view_rng, batch)
    if config.rotation:
      batch['turn'] = jax.random.randint(turn_rng, batch['image'].shape[:2], 0, 4)
      batch['image'] = turned(batch['image'], batch['turn'])
    return {**batch, **_paint.clean_and_corrupt(rng, batch['image'], config)}

  show = _paint.make_show(config, views, method.forward)
  return method._replace(init=init, views=views, show=show)
