"""MSN: views of which patches are dropped are to be like the same prototypes as a whole view.

    z_v = projector(encoder(kept patches of view v)),  t = projector'(encoder'(another view))
    p_v = softmax(cos(z_v, prototypes) / tau),  q = the sharper softmax of t, spread by Sinkhorn
    loss = mean_v -q . log p_v + log K - H(mean p), see losses.msn
    teacher <- moving average of the student, its decay rising to 1

The student sees the large views but one, patches dropped, and small "focal" ones whole; the teacher
sees the large view that is left.

Assran et al. 2022, "Masked Siamese networks for label-efficient learning". Follows the authors'
code. It drops the same patches of all images of a device, here each image has its own draw; its
rates and schedules are those of a run 1.25 times as long, which holds here of temperature and
teacher; the learning rate falls to where it ends there instead, and weight decay reaches its end.
The gradient is clipped as a whole, theirs without the prototypes'.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _distill, _features, _pair
from ssljax.models import heads

PAPER = 'Assran et al. 2022, Masked Siamese networks for label-efficient learning'
FAMILY = 'self-distillation'
STRETCH = 1.25  # of the schedules, beyond the end of the run


def get_config(preset='imagenet'):
  """'imagenet': ViT-S/16, appendix B and configs/pretrain/msn_vits16.yaml; 'cifar' and 'tiny' are
  ours."""
  common = dict(
    tau=0.1,
    sharpen=0.25,
    sharpen_final=0.25,
    sinkhorn_iters=3,
    memax_weight=1.0,
    entropy_weight=0.0,
    momentum_final=1.0,
    hidden_norm='batch',  # of the projector's hidden layers, or ''
    patch_size=config_dict.placeholder(int),
    total_steps=config_dict.placeholder(int),
  )
  adamw = dict(
    name='adamw',
    warmup_fraction=15 / 800,
    final_fraction=0.1,  # a cosine 1.25 times as long is there at 0.8 of its way
    weight_decay=0.04,
    weight_decay_final=0.4,
    clip_norm=3.0,
    undecayed=('^prototypes$',),
  )
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.2, blur_prob=0.5)
  colour |= dict(interpolation='bilinear')

  def settings(momentum, count, projector, drop, views):
    return common | dict(
      momentum=momentum,
      num_prototypes=count,
      projector=projector,
      patch_drop=drop,
      views=views,
    )

  def crops(large, small, count, share):
    return {
      'global': image.get_config(large, scale=(share, 1.0), **colour),
      'local': image.get_config(small, num_views=count, scale=(0.05, share), **colour),
    }

  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='vit_small'),
        batch_size=1024,
        epochs=800,
        optim=dict(learning_rate=1e-3, **adamw),
        method=settings(0.996, 1024, (2048, 2048, 256), 0.15, crops(224, 96, 10, 0.3)),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='vit_tiny', patch_size=4),
        batch_size=256,
        epochs=400,
        optim=dict(learning_rate=5e-4, **adamw),
        method=settings(0.996, 256, (1024, 1024, 128), 0.15, crops(32, 16, 4, 0.3)),
      ),
      'tiny': lambda: (
        _distill.TINY
        | dict(
          encoder=dict(name='vit_micro'),
          method=settings(0.98, 64, (128, 128, 64), 0.25, _distill.tiny_crops()),
        )
      ),
    }[preset]()
  )


def schedules(config) -> dict:
  """name -> (step -> value): the targets' sharpening and how much of the teacher stays."""

  def line(start, end):
    return lambda step: ops.linear_ramp(step, STRETCH * config.total_steps, start, end)

  return {
    'sharpen': line(config.sharpen, config.sharpen_final),
    'momentum': line(config.momentum, config.momentum_final),
  }


def make(config, nets):
  size, moving = config.views['global'].size, schedules(config)
  if not 0 <= config.patch_drop < 1:
    raise InputError(f'patch_drop is {config.patch_drop}, wanted a share, less than 1')
  if config.views['global'].num_views < 2:
    raise InputError(
      f'views.global.num_views is {config.views["global"].num_views}, wanted 2 or more: the '
      'teacher sees the first, the student the others'
    )
  encoder = nets['encoder']
  norm = config.hidden_norm or None
  # A batch norm after a hidden layer takes the authors' bias out again.
  projector = heads.mlp(config.projector, norm=norm, hidden_bias=not norm, activation=ops.gelu)
  augment, patches = image.make(config.views), (size // config.patch_size) ** 2
  kept = max(1, int(patches * (1 - config.patch_drop)))

  def views(rng, batch):
    view_rng, keep_rng = jax.random.split(rng)
    x = augment(view_rng, batch['image'])
    count, anchors = x['global'].shape[0], x['global'].shape[1] - 1
    noise = jax.random.uniform(keep_rng, (count * anchors, patches))
    keep, _, _ = ops.random_mask(noise, kept)
    return {**batch, 'image': x, 'keep': keep.reshape(count, anchors, kept)}

  def init(rng, batch):
    encoder_rng, head_rng, rows_rng = jax.random.split(rng, 3)
    x = batch['image']['global'][:, 0]
    params, _ = encoder.init(encoder_rng, x)
    found, _ = encoder.apply(params, {}, x, train=False)
    head, stats = projector.init(head_rng, found['features'])
    params = {'encoder': params, 'projector': head}
    shape = config.num_prototypes, config.projector[-1]
    bound = shape[1] ** -0.5
    rows = jax.random.uniform(rows_rng, shape, minval=-bound, maxval=bound)
    return params | {'prototypes': rows}, {
      'stats': stats,
      'target': {'params': params, 'stats': stats},
    }

  def project(params, stats, x, **options):
    """[B, V, H, W, C] -> [B, V, D]."""
    weights = params['encoder']
    if norm:
      last = {**weights['norm'], 'bias': jax.lax.stop_gradient(weights['norm']['bias'])}
      weights = {**weights, 'norm': last}
    found, _ = encoder.apply(weights, {}, x.reshape(-1, *x.shape[2:]), **options)
    z, stats = projector.apply(params['projector'], stats, found['features'], train=True)
    return z.reshape(*x.shape[:2], -1), stats

  def forward(params, state, batch, rng, step):
    rngs, x, target = jax.random.split(rng), batch['image'], state['target']
    options = dict(rng=rngs[0], keep=batch['keep'].reshape(-1, kept))
    z, stats = project(params, state['stats'], x['global'][:, 1:], train=True, **options)
    if 'local' in x:
      small, stats = project(params, stats, x['local'], train=True, rng=rngs[1])
      z = jnp.concatenate([z, small], 1)
    t, target_stats = project(target['params'], target['stats'], x['global'][:, :1], train=False)
    target = {**target, 'stats': target_stats}
    return {'anchors': z, 'target': t[:, 0]}, {**state, 'stats': stats, 'target': target}

  def objective(params, state, z, batch, rng, step):
    options = dict(
      tau=config.tau,
      sharpen=moving['sharpen'](step),
      sinkhorn_iters=config.sinkhorn_iters,
    )
    rows = params['prototypes']
    weights = dict(memax_weight=config.memax_weight, entropy_weight=config.entropy_weight)
    loss = losses.msn(z['anchors'], z['target'], rows, **options, **weights)
    q = losses.msn_targets(z['target'], rows, **options)
    return loss, (state, _distill.entropies(q))

  def update(params, state, step):
    target = state['target']
    student = {name: params[name] for name in target['params']}
    moved = ops.ema(target['params'], student, moving['momentum'](step))
    return {**state, 'target': {**target, 'params': moved}}

  def embed(params, state, batch):
    """The teacher's, which the paper evaluates."""
    x = image.prepare(batch['image'], config.views['global'])
    found, _ = encoder.apply(state['target']['params']['encoder'], {}, x, train=False)
    return _features.read(found)

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    update=update,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    frozen={'^encoder/norm/bias$': 'the projector takes it out again'} if norm else {},
  )
