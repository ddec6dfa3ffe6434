"""CroCo v2: paint most of a view from the rest of it and a second view of the same scene.

    keep the (1 - mask_ratio) L patches of smallest noise of the first view
    x = encoder(kept patches of the first view),  y = encoder(second view)
    pred = decoder(x and mask tokens, put back in place; y through cross-attention)
    loss = mean over hidden patches of (pred - normalised patch)^2, see losses.mae

The second view is of the batch's `pair_image`, if the data has that beside `image`: another
photograph of the scene, of the same shape. Else both views are crops of one image, which overlap
where each takes at least half of it, as in the presets: then what is learned is where the crops lie
to each other rather than the geometry of the scene.

Weinzaepfel et al. 2023, "CroCo v2: improved cross-view completion pre-training for stereo matching
and optical flow", on CroCo (2022). Follows the authors' PyTorch code. Its crops of fixed scale are
here random resized ones, never mirrored; its learning rate is that of half a run of 250 epochs,
here a cosine that ends where that does.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _features, _paint, _pair
from ssljax.models import decoders

PAPER = (
  'Weinzaepfel et al. 2023, CroCo v2: improved cross-view completion pre-training for stereo '
  'matching and optical flow'
)
FAMILY = 'masked-modelling'


def get_config(preset='imagenet'):
  """'imagenet': ViT-L with the base decoder, section 3 and the authors' command; 'cifar' and 'tiny'
  are ours."""
  vit = dict(positions='rope_axial', class_token=False, pool='mean')
  adamw = dict(name='adamw', b2=0.95, weight_decay=0.05, batch_scaling='linear')
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.0), jitter_prob=1.0)
  crops = dict(scale=(0.5, 1.0), flip=0.0)
  method = dict(patch_size=config_dict.placeholder(int), mask_ratio=0.9, norm_pix=True)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_large', patch_size=16, **vit),
        batch_size=512,
        epochs=125,
        optim=dict(learning_rate=1.5e-4, warmup_fraction=12 / 125, final_fraction=0.54, **adamw),
        method=method
        | dict(
          decoder=dict(dim=768, depth=12, heads=12),
          views=image.get_config(224, **crops, **colour),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=4, **vit),
        batch_size=1024,
        epochs=800,
        optim=dict(learning_rate=1.5e-4, warmup_fraction=0.05, **adamw),
        method=method
        | dict(
          decoder=dict(dim=96, depth=4, heads=3),
          views=image.get_config(32, **crops, **colour),
        ),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=4, **vit),
        batch_size=256,
        epochs=40,
        optim=dict(learning_rate=2e-3, warmup_fraction=0.1, **adamw),
        method=method
        | dict(
          decoder=dict(dim=48, depth=2, heads=3),
          views=image.get_config(32, interpolation='bilinear', **crops),
        ),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, size, patch = nets['encoder'], config.views.size, config.patch_size
  if config.views.num_views != 2:
    raise InputError(
      f'method.views.num_views is {config.views.num_views}, wanted 2: one is painted with the help '
      'of the other'
    )
  augment = [image.make(image.one_view(config.views, view)) for view in range(2)]
  grid = (size // patch,) * 2
  patches = grid[0] * grid[1]
  keep = patches - int(config.mask_ratio * patches)
  if not 1 <= keep < patches:
    raise InputError(
      f'method.mask_ratio is {config.mask_ratio} of {patches} patches, wanted one at least to hide '
      'and one to see'
    )

  def decoder(channels):
    return decoders.cross_view_decoder(
      grid=grid, patch_dim=patch * patch * channels, **config.decoder
    )

  def views(rng, batch):
    rngs = jax.random.split(rng, 3)
    pair = [batch['image'], batch.get('pair_image', batch['image'])]
    x = [draw(r, y)[:, 0] for draw, r, y in zip(augment, rngs[:2], pair, strict=True)]
    noise = jax.random.uniform(rngs[2], (len(x[0]), patches))
    rest = {name: value for name, value in batch.items() if name != 'pair_image'}
    return {**rest, 'image': jnp.stack(x, axis=1), 'noise': noise}

  def see(params, stats, batch, train, rng=None):
    """Tokens of both views, what `decoder` gets."""
    kept, restore, _ = ops.random_mask(batch['noise'], keep)
    rngs = (None, None) if rng is None else jax.random.split(rng)
    first, other = batch['image'][:, 0], batch['image'][:, 1]
    x, stats = encoder.apply(params, stats, first, train=train, rng=rngs[0], keep=kept)
    y, stats = encoder.apply(params, stats, other, train=train, rng=rngs[1])
    return (x['tokens'], restore, y['tokens']), stats

  def init(rng, batch):
    params, stats = encoder.init(jax.random.fold_in(rng, 0), batch['image'][:, 0])
    seen, _ = see(params, stats, batch, train=False)
    painted, _ = decoder(batch['image'].shape[-1]).init(jax.random.fold_in(rng, 1), *seen)
    return {'encoder': params, 'decoder': painted}, {'stats': stats}

  def paint(params, state, batch, train, rng=None):
    seen, stats = see(params['encoder'], state['stats'], batch, train, rng)
    decode = decoder(batch['image'].shape[-1])
    return decode.apply(params['decoder'], {}, *seen, train=train)[0], {'stats': stats}

  def forward(params, state, batch, rng, step):
    return paint(params, state, batch, True, rng)

  def objective(params, state, pred, batch, rng, step):
    _, _, mask = ops.random_mask(batch['noise'], keep)
    options = dict(patch_size=patch, norm_pix=config.norm_pix)
    loss = losses.mae(pred, batch['image'][:, 0], mask, **options)
    # Normalised patches have variance 1: predicting their mean scores 1.
    return loss, (state, {'chance_loss': jnp.ones(())} if config.norm_pix else {})

  def embed(params, state, batch):
    x = image.prepare(batch['image'], config.views)
    out, _ = encoder.apply(params['encoder'], state['stats'], x, train=False)
    return _features.read(out)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    pred, _ = paint(params, state, batch, False)
    _, _, mask = ops.random_mask(batch['noise'], keep)
    first, other = batch['image'][:, 0], batch['image'][:, 1:]
    if config.norm_pix:
      pred = _paint.unnormalised(pred, first, patch)
    shown = _paint.pictures(first, pred, mask, patch_size=patch, views=config.views)
    (three,) = shown.values()
    other = image.to_display(other, config.views)
    title = 'view, what is kept, reconstruction, the other view'
    return {title: jnp.concatenate([three, other], axis=1)}

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    embed=embed,
    views=views,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    show=show,
  )
