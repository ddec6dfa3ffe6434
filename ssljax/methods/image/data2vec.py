"""data2vec, for images: predict at hidden patches what the last layers of a moving average hold.

    hide blocks of patches
    targets = norm(mean over the last K layers of norm(layer of encoder'(image)))
    pred = linear(encoder(image, with the mask token in the place of hidden patches))
    loss = mean over hidden patches of smooth_l1(pred - targets), see losses.data2vec
    encoder' <- moving average of the encoder, its decay rising linearly for a while

Baevski et al. 2022, "data2vec: a general framework for self-supervised learning in speech, vision
and language". Follows the authors' PyTorch code for images, which also normalises the mean of the
layers; but its BEiT has relative positions that all blocks share and dropout of the attention, here
a ViT with learned absolute positions and none.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _features, _pair
from ssljax.models import heads

PAPER = (
  'Baevski et al. 2022, data2vec: a general framework for self-supervised learning in speech, '
  'vision and language'
)
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet': ViT-B of 800 epochs, section 4.1 and the authors' command, whose moving average
  keeps one decay; 'cifar' and 'tiny' are ours."""
  vit = dict(class_token=True, mask_token=True, pool='mean')
  adamw = dict(name='adamw', weight_decay=0.05, clip_norm=3.0)
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.0), jitter_prob=1.0)
  common = dict(
    patch_size=config_dict.placeholder(int),
    total_steps=config_dict.placeholder(int),
    mask_ratio=0.6,
    min_block=4,  # patches
    beta=2.0,
    final_norm='layer',  # or 'none', see losses.data2vec_targets
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_base', patch_size=16, layer_scale=1e-4, drop_path=0.25, **vit),
        batch_size=2048,
        epochs=800,
        optim=dict(learning_rate=2e-3, warmup_fraction=10 / 800, final_fraction=5e-3, **adamw),
        method=common
        | dict(
          mask_ratio=120 / 196,
          min_block=16,
          layers=6,
          momentum=0.9998,
          momentum_final=0.9998,
          momentum_ramp=0.0,  # share of the steps in which it rises
          views=image.get_config(224, num_views=1, **colour),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=4, **vit),
        batch_size=1024,
        epochs=800,
        optim=dict(learning_rate=1e-3, warmup_fraction=0.05, **adamw),
        method=common
        | dict(layers=6, momentum=0.996, momentum_final=0.9998, momentum_ramp=0.3)
        | dict(views=image.get_config(32, num_views=1, scale=(0.3, 1.0), **colour)),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=4, **vit),
        batch_size=256,
        epochs=40,
        optim=dict(learning_rate=1e-3, warmup_fraction=0.1, **adamw),
        method=common
        | dict(layers=2, momentum=0.99, momentum_final=0.999, momentum_ramp=0.3)
        | dict(views=image.get_config(32, num_views=1, scale=(0.3, 1.0), interpolation='bilinear')),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, size = nets['encoder'], config.views.size
  augment, grid = image.make(config.views), (size // config.patch_size,) * 2
  patches = grid[0] * grid[1]
  count = int(config.mask_ratio * patches + 1e-6)  # 0.29 * 100 is a rounding below 29
  if not 1 <= count < patches:
    raise InputError(
      f'method.mask_ratio is {config.mask_ratio} of {patches} patches, wanted one at least to hide '
      'and one to see'
    )
  hide = functools.partial(ops.block_mask, grid=grid, count=count, min_area=config.min_block)

  def views(rng, batch):
    view_rng, mask_rng = jax.random.split(rng)
    x = augment(view_rng, batch['image'])[:, 0]
    return {**batch, 'image': x, 'mask': jax.vmap(hide)(jax.random.split(mask_rng, len(x)))}

  def init(rng, batch):
    x, mask = batch['image'], batch['mask']
    params, stats = encoder.init(jax.random.fold_in(rng, 0), x, mask=mask)
    seen, _ = encoder.apply(params, stats, x, train=False, mask=mask)
    if not 1 <= config.layers <= len(seen['layers']):
      raise InputError(
        f'method.layers is {config.layers}, wanted 1 to {len(seen["layers"])}, the encoder has no '
        'more'
      )
    predicts, _ = heads.mlp(seen['tokens'].shape[-1:]).init(
      jax.random.fold_in(rng, 1), seen['tokens']
    )
    state = {'stats': stats, 'target': {'params': params, 'stats': stats}}
    return {'encoder': params, 'predictor': predicts}, state

  def forward(params, state, batch, rng, step):
    x, teacher = batch['image'], state['target']
    seen, stats = encoder.apply(
      params['encoder'], state['stats'], x, train=True, rng=rng, mask=batch['mask']
    )
    pred, _ = heads.mlp(seen['tokens'].shape[-1:]).apply(
      params['predictor'], {}, seen['tokens'], train=True
    )
    aimed, _ = encoder.apply(teacher['params'], teacher['stats'], x, train=False)
    layers = [layer[:, -pred.shape[1] :] for layer in aimed['layers'][-config.layers :]]
    targets = losses.data2vec_targets(layers, final_norm=config.final_norm)
    return {'pred': pred, 'targets': targets}, {**state, 'stats': stats}

  def objective(params, state, outputs, batch, rng, step):
    pred, targets = outputs['pred'], outputs['targets']
    return losses.data2vec(pred, targets, batch['mask'], beta=config.beta), (state, {})

  def update(params, state, step):
    decay = ops.linear_ramp(
      step, config.momentum_ramp * config.total_steps, config.momentum, config.momentum_final
    )
    moved = ops.ema(state['target']['params'], params['encoder'], decay)
    return {**state, 'target': {'params': moved, 'stats': state['stats']}}

  def embed(params, state, batch):
    x = image.prepare(batch['image'], config.views)
    out, _ = encoder.apply(params['encoder'], state['stats'], x, train=False)
    return _features.read(out)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    x, mask = batch['image'], batch['mask']
    seen = jnp.where(ops.mask_pixels(mask, config.patch_size, size, size), 0.0, x)
    shown = image.to_display(jnp.stack([x, seen], 1), config.views)
    return {'what the teacher sees, what the student sees': shown}

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    update=update,
    embed=embed,
    views=views,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    show=show,
  )
