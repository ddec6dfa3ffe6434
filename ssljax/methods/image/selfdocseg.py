"""SelfDocSeg: BYOL on the objects of a page, which classic image processing finds, and their place.

    mask = what is printed, grown together; objects = its connected parts, see ops.layout_mask
    f_v = encoder(view v), a map;  y_vm = mean of f_v over object m
    loss = focal(layout head of (f_1, f_2), mask)
           - mean over objects of (cos(p_1, z'_2) + cos(p_2, z'_1)) / 2, see losses.selfdocseg
    with z = projector(y), p = predictor(z), and ' the moving average

Views differ in colour and blur alone, so that an object stays where it is.

Maity et al. 2023, "SelfDocSeg: a self-supervised vision-based approach towards document
segmentation". Follows the authors' code. There is room for `num_objects` of an image, those nearest
to its top; an image of fewer fills it with its own again, which weigh in batch statistics but not
in the loss, and an image of none with the mean of its map. Pages are squares here.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _features, _pair
from ssljax.models import heads
from ssljax.net import over_views

PAPER = 'Maity et al. 2023, SelfDocSeg: document segmentation without labels'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet': the authors' settings for pages of DocLayNet, section 4.2 and train_ssl.py; 'cifar'
  and 'tiny' are ours, where ink is what is darker than the middle."""
  whole = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, interpolation='bilinear')
  colour = dict(
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_prob=0.8,
    grayscale_prob=0.2,
    blur_prob=(1.0, 0.1),
    blur_sigma=(0.8, 2.0),
    solarize_prob=(0.0, 0.2),
  )
  common = dict(
    layout_weight=1.0,
    similarity_weight=1.0,
    squash_layout=True,
    cells=4,  # places of the mask along a side of a place of the map
    kernel=3,
    kernel_iters=2,
    view_stats='separate',
  )
  lars = dict(
    name='lars', learning_rate=0.2, weight_decay=5e-4, warmup_fraction=0.0, decay_all=True
  )
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='resnet50'),
        batch_size=8,
        epochs=800,
        optim=lars,
        method=common
        | dict(
          num_objects=64,
          threshold=239 / 255,
          momentum=0.99,
          projector=(4096, 256),
          predictor=(4096, 256),
          views=image.get_config(512, **whole, **colour),
        ),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=400,
        optim=lars | dict(batch_scaling='linear'),
        method=common
        | dict(
          num_objects=8,
          threshold=0.5,
          kernel_iters=0,
          momentum=0.99,
          projector=(1024, 128),
          predictor=(1024, 128),
          views=image.get_config(32, **whole, **(colour | dict(blur_prob=0.5))),
        ),
      ),
      'tiny': lambda: (
        _pair.TINY
        | dict(
          method=common
          | dict(
            num_objects=4,
            threshold=0.5,
            kernel_iters=0,
            momentum=0.97,
            projector=(256, 64),
            predictor=(256, 64),
            views=image.get_config(32, **(_pair.TINY_VIEWS | whole)),
          ),
        )
      ),
    }[preset]()
  )


def make(config, nets):
  if config.views.num_views != 2:
    raise InputError(f'views.num_views is {config.views.num_views}, wanted 2')
  size, count = config.views.size, config.num_objects
  encoder = over_views(nets['encoder'], view_stats=config.view_stats)
  small = {
    # A bias at its end would be taken out by the batch norm of the predictor.
    'projector': heads.mlp(config.projector, hidden_bias=False, last_bias=False),
    'predictor': heads.mlp(config.predictor, hidden_bias=False),
  }
  small = {name: over_views(net, view_stats='separate') for name, net in small.items()}
  locate = heads.mlp((1,), norm=None)
  augment = _pair.make_views(config.views)

  def page(x):
    """Of one image: its mask [size, size] and the objects of it."""
    x = image.crop_resize(x, (0, 0, *x.shape[:2]), size, 'bilinear')
    ink = dict(threshold=config.threshold, kernel=config.kernel, iters=config.kernel_iters)
    return ops.layout_mask(x, (size, size), **ink)

  def views(rng, batch):
    masks = jax.vmap(page)(image.to_float(batch['image']))
    return {**augment(rng, batch), 'layout': masks}

  def cut(masks, maps):
    """The mask in the map's cells, [B, 4h, 4w], the share of objects in places, which are real."""
    shape = tuple(config.cells * side for side in maps.shape[2:4])
    rows, columns = (jnp.arange(n) * size // n for n in shape)
    mask = masks[:, rows][:, :, columns]
    parts, found = jax.vmap(lambda m: ops.objects(m, count))(mask)
    again = jnp.arange(count) % jnp.maximum(found.sum(1, keepdims=True), 1)
    parts = (
      jnp.take_along_axis(parts, again[..., None, None], 1) | ~found.any(1)[:, None, None, None]
    )
    cells = parts.reshape(
      *parts.shape[:2], shape[0] // config.cells, config.cells, -1, config.cells
    )
    share = cells.sum((3, 5)).astype(jnp.float32)
    return mask, share / share.sum((2, 3), keepdims=True), found

  def branch(params, stats, x, masks, names, **options):
    """Maps, and what the networks `names` make of the objects, [B, M, 2, D], the last of each."""
    found, new = encoder.apply(params['encoder'], stats['encoder'], x, **options)
    maps = _pair.feature_maps(found)[-1]
    share = cut(masks, maps)[1].astype(maps.dtype)
    z, stats, last = jnp.einsum('bmhw,bvhwd->bmvd', share, maps), {**stats, 'encoder': new}, {}
    z = z.reshape(-1, *z.shape[2:])
    for name in names:
      z, stats[name] = small[name].apply(params[name], stats[name], z, train=True)
      last[name] = z.reshape(len(x), count, *z.shape[1:])
    return maps, last, stats

  def both(maps):
    """The two views of a page beside each other, [B, h, w, 2 D]."""
    return jnp.concatenate([maps[:, 0], maps[:, 1]], -1)

  def init(rng, batch):
    rngs, x = jax.random.split(rng, 4), batch['image']
    params, stats = {}, {}
    params['encoder'], stats['encoder'] = encoder.init(rngs[0], x)
    found, _ = encoder.apply(params['encoder'], stats['encoder'], x, train=False)
    maps = _pair.feature_maps(found)[-1]
    params['layout'], _ = locate.init(rngs[1], both(maps))
    z = maps[:, :, 0, 0]
    for key, (name, net) in zip(rngs[2:], small.items(), strict=True):
      params[name], stats[name] = net.init(key, z)
      z, _ = net.apply(params[name], stats[name], z, train=False)
    target = {kind: {name: tree[name] for name in ('encoder', 'projector')}
              for kind, tree in (('params', params), ('stats', stats))}  # fmt: skip
    return params, {'stats': stats, 'target': target}

  def forward(params, state, batch, rng, step):
    x, masks, target = batch['image'], batch['layout'], state['target']
    maps, seen, stats = branch(params, state['stats'], x, masks, small, train=True, rng=rng)
    _, aimed, target_stats = branch(
      target['params'], target['stats'], x, masks, ('projector',), train=True, rng=rng
    )
    layout, _ = locate.apply(params['layout'], {}, both(maps), train=True)
    mask, _, found = cut(masks, maps)
    outputs = {
      'p': seen['predictor'],
      'target': aimed['projector'],
      'layout': layout[..., 0].repeat(config.cells, 1).repeat(config.cells, 2),
      'mask': mask.astype(jnp.float32),
      'found': found.astype(jnp.float32),
    }
    return outputs, {**state, 'stats': stats, 'target': {**target, 'stats': target_stats}}

  def objective(params, state, z, batch, rng, step):
    p, target, found = z['p'], z['target'], z['found'] > 0
    loss = losses.selfdocseg(
      p[:, :, 0], p[:, :, 1], z['layout'], target[:, :, 0], target[:, :, 1], found, z['mask'],
      layout_weight=config.layout_weight, similarity_weight=config.similarity_weight,
      squash=config.squash_layout,
    )  # fmt: skip
    guess, mask = z['layout'] > 0, z['mask'] > 0
    union = jnp.maximum((guess | mask).sum(), 1)
    return loss, (state, {
      'objects': found.sum(1).mean(),
      'ink': mask.mean(),
      'layout_iou': (guess & mask).sum() / union,
    })  # fmt: skip

  def update(params, state, step):
    target = state['target']
    student = {name: params[name] for name in target['params']}
    return {
      **state,
      'target': {**target, 'params': ops.ema(target['params'], student, config.momentum)},
    }

  def embed(params, state, batch):
    x = image.prepare(batch['image'], config.views)
    found, _ = nets['encoder'].apply(params['encoder'], state['stats']['encoder'], x, train=False)
    return _features.read(found)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    x = image.to_display(batch['image'], config.views)
    mask = jnp.broadcast_to(batch['layout'][:, None, ..., None], (len(x), 1, *x.shape[2:]))
    return {'views, and what counts as printed': jnp.concatenate([x, mask.astype(x.dtype)], 1)}

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    update=update,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    show=show,
  )
