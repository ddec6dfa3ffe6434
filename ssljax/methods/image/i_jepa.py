"""I-JEPA: from a part of an image, predict what a moving average sees in blocks of the rest.

    s = encoder(patches of a context block),  t = encoder'(all patches), each token normalised
    pred = predictor(s, mask tokens at the places of a target block), block by block
    loss = mean of smooth_l1(pred - t at those places), see losses.i_jepa
    encoder' <- moving average of the encoder, its decay rising linearly to 1

Assran et al. 2023, "Self-supervised learning from images with a joint-embedding predictive
architecture". Follows the authors' PyTorch code, smooth L1 and normalised targets where the paper
writes L2; but blocks have the middle of the sizes that it draws and contexts the least number of
patches that may be left (see ops.multiblock_mask), and the learning rate rises from 0 (there from a
fifth of its peak). Features are the teacher's.
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
from ssljax.models import predictors

PAPER = (
  'Assran et al. 2023, Self-supervised learning from images with a joint-embedding predictive '
  'architecture'
)
FAMILY = 'jepa'


def get_config(preset='imagenet'):
  """'imagenet': ViT-H/14 of the authors' in1k_vith14_ep300; 'cifar' and 'tiny' are ours."""
  vit = dict(positions='sincos', class_token=False, pool='mean')
  adamw = dict(name='adamw', weight_decay=0.04, weight_decay_final=0.4, final_fraction=1e-3)
  crop = dict(num_views=1, scale=(0.3, 1.0), flip=0.0, interpolation='bilinear')
  common = dict(
    patch_size=config_dict.placeholder(int),
    total_steps=config_dict.placeholder(int),
    momentum=0.996,
    momentum_final=1.0,
    targets=4,
    target_scale=(0.15, 0.2),  # share of the patches
    target_aspect=(0.75, 1.5),
    context_scale=(0.85, 1.0),
    inner=False,  # see ops.block_size
    truncate='random',  # see ops.multiblock_mask
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_huge', patch_size=14, **vit),
        batch_size=2048,
        epochs=300,
        optim=dict(learning_rate=1e-3, warmup_fraction=40 / 300, **adamw),
        method=common
        | dict(inner=True, truncate='raster')
        | dict(predictor_dim=384, predictor_depth=12, predictor_heads=16)
        | dict(views=image.get_config(224, **crop)),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=4, **vit),
        batch_size=1024,
        epochs=800,
        optim=dict(learning_rate=1e-3, warmup_fraction=0.1, **adamw),
        method=common
        | dict(predictor_dim=96, predictor_depth=6, predictor_heads=3)
        | dict(views=image.get_config(32, **crop)),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=4, **vit),
        batch_size=256,
        epochs=40,
        optim=dict(name='adamw', learning_rate=3e-3, warmup_fraction=0.1, weight_decay=0.04),
        method=common
        | dict(momentum=0.99, predictor_dim=32, predictor_depth=2, predictor_heads=2)
        | dict(views=image.get_config(32, **crop)),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, patch, size = nets['encoder'], config.patch_size, config.views.size
  augment, grid = image.make(config.views), (size // patch,) * 2
  if config.targets < 1:
    raise InputError(f'method.targets is {config.targets}, wanted 1 block or more')
  target = ops.block_size(grid, config.target_scale, config.target_aspect, inner=config.inner)
  context = ops.block_size(grid, config.context_scale, (1.0, 1.0), inner=config.inner)
  options = dict(targets=config.targets, target=target, context=context)
  ops.multiblock_count(grid, **options)  # says here what does not fit
  hide = functools.partial(
    ops.multiblock_mask, grid=grid, inner=config.inner, truncate=config.truncate, **options
  )
  predictor = predictors.block_predictor(
    num_patches=grid[0] * grid[1],
    dim=config.predictor_dim,
    depth=config.predictor_depth,
    heads=config.predictor_heads,
  )

  def views(rng, batch):
    view_rng, mask_rng = jax.random.split(rng)
    x = augment(view_rng, batch['image'])[:, 0]
    context, targets = jax.vmap(hide)(jax.random.split(mask_rng, len(x)))
    return {**batch, 'image': x, 'context': context, 'targets': targets}

  def init(rng, batch):
    x, context = batch['image'], batch['context']
    params, stats = encoder.init(jax.random.fold_in(rng, 0), x)
    seen, _ = encoder.apply(params, stats, x, train=False, keep=context)
    predicts, _ = predictor.init(
      jax.random.fold_in(rng, 1), seen['tokens'], context, batch['targets']
    )
    state = {'stats': stats, 'target': {'params': params, 'stats': stats}}
    return {'encoder': params, 'predictor': predicts}, state

  def forward(params, state, batch, rng, step):
    x, context, teacher = batch['image'], batch['context'], state['target']
    seen, stats = encoder.apply(
      params['encoder'], state['stats'], x, train=True, rng=rng, keep=context
    )
    pred, _ = predictor.apply(
      params['predictor'], {}, seen['tokens'], context, batch['targets'], train=True
    )
    aimed, _ = encoder.apply(teacher['params'], teacher['stats'], x, train=False)
    return {'pred': pred, 'tokens': aimed['tokens']}, {**state, 'stats': stats}

  def objective(params, state, outputs, batch, rng, step):
    return losses.i_jepa(outputs['pred'], outputs['tokens'], batch['targets']), (state, {})

  def update(params, state, step):
    decay = ops.linear_ramp(step, config.total_steps, config.momentum, config.momentum_final)
    moved = ops.ema(state['target']['params'], params['encoder'], decay)
    return {**state, 'target': {'params': moved, 'stats': state['stats']}}

  def embed(params, state, batch):
    x, teacher = image.prepare(batch['image'], config.views), state['target']
    out, _ = encoder.apply(teacher['params'], teacher['stats'], x, train=False)
    return _features.read(out)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    x = batch['image']
    parts = [batch['context'], *jnp.moveaxis(batch['targets'], 1, 0)]
    masks = [(jnp.arange(grid[0] * grid[1]) == part[..., None]).any(1) for part in parts]
    seen = [jnp.where(ops.mask_pixels(mask, patch, size, size), x, 0.0) for mask in masks]
    return {'image, context, targets': image.to_display(jnp.stack([x, *seen], 1), config.views)}

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
