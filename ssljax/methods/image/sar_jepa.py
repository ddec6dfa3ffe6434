"""SAR-JEPA: in small windows of an image, predict gradient features of the patches that are hidden.

    cut num_windows windows of patches out of an image, hide mask_ratio of each with the mask token
    pred = decoder(encoder(window)), both with the class token and rotary positions
    loss = mean over hidden patches of (pred - log ratios of sums of pixels on both sides)^2,
           at several radii, see losses.sar_jepa and ops.gradient_ratio

The target encoder of this joint-embedding predictive architecture is fixed: gradients by ratio,
which the multiplicative noise of synthetic aperture radar does not disturb.

Li et al. 2024, "Predicting gradient is better: exploring self-supervised learning for SAR ATR with
a joint-embedding predictive architecture", on LoMaR (Chen et al. 2022). Follows the authors'
PyTorch code, where all images of a device have the same windows, here each has its own. Its
positions are relative, learned and within a window only; here queries and keys turn with their
place, which is relative too. Their images are not normalised; here gradients are those of the
pixels in [0, 1], and the encoder sees normalised ones. Of colours each has its own gradients.
"""

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
  'Li et al. 2024, Predicting gradient is better: exploring self-supervised learning for SAR ATR '
  'with a joint-embedding predictive architecture'
)
FAMILY = 'jepa'


def get_config(preset='imagenet'):
  """'imagenet': ViT-B of the authors' main_pretrain.py on four devices, for images of 224 pixels;
  'cifar' and 'tiny' are ours."""
  vit = dict(positions='rope_axial', class_token=True, mask_token=True, pool='mean')
  adamw = dict(name='adamw', b2=0.95, weight_decay=0.05, batch_scaling='linear')
  colour = dict(jitter=(0.0, 0.5, 0.0, 0.0), jitter_prob=1.0)
  method = dict(patch_size=config_dict.placeholder(int), num_windows=4, mask_ratio=0.8)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_base', patch_size=16, **vit),
        batch_size=300,
        epochs=300,
        optim=dict(learning_rate=1e-3, warmup_fraction=20 / 300, **adamw),
        method=method
        | dict(
          window_size=7,  # patches
          radii=(5, 9, 13, 17),  # pixels
          decoder=dict(dim=512, depth=8, heads=16),
          views=image.get_config(224, num_views=1, scale=(0.2, 1.0), **colour),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=4, **vit),
        batch_size=512,
        epochs=400,
        optim=dict(learning_rate=1e-3, warmup_fraction=0.05, **adamw),
        method=method
        | dict(
          window_size=5,
          radii=(1, 2, 3, 4),
          decoder=dict(dim=96, depth=4, heads=3),
          views=image.get_config(32, num_views=1, scale=(0.2, 1.0), **colour),
        ),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=4, **vit),
        batch_size=256,
        epochs=40,
        optim=dict(learning_rate=1e-3, warmup_fraction=0.1, **adamw),
        method=method
        | dict(
          window_size=5,
          radii=(1, 2, 3, 4),
          decoder=dict(dim=48, depth=2, heads=3),
          views=image.get_config(
            32, num_views=1, scale=(0.2, 1.0), interpolation='bilinear', jitter_prob=0.0
          ),
        ),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, patch, side = nets['encoder'], config.patch_size, config.window_size
  augment, grid = image.make(config.views), (config.views.size // patch,) * 2
  starts, hidden = grid[0] - side + 1, int(config.mask_ratio * side * side)
  if side < 1 or not 1 <= config.num_windows <= starts:
    raise InputError(
      f'method.num_windows is {config.num_windows} and window_size {side}, wanted windows that '
      f'begin in as many different rows of the {grid[0]} patches a side'
    )
  if not 1 <= hidden < side * side:
    raise InputError(
      f'method.mask_ratio is {config.mask_ratio} of {side * side} patches in a window, wanted one '
      'at least to hide and one to see'
    )

  def decoder(channels):
    out = len(config.radii) * patch * patch * channels
    return predictors.token_predictor(grid=(side, side), out=out, **config.decoder)

  def windows(rng):
    """Places int [W, K] of the patches of random windows, and which of them are hidden."""
    rngs = jax.random.split(rng, 3)
    # No two windows of an image begin in the same row or column, as in the authors' code.
    top, left = (jax.random.permutation(r, starts)[: config.num_windows] for r in rngs[:2])
    within = jnp.arange(side)
    rows, columns = (first[:, None] + within for first in (top, left))
    places = rows[:, :, None] * grid[1] + columns[:, None]
    noise = jax.random.uniform(rngs[2], (config.num_windows, side * side))
    mask = jnp.argsort(jnp.argsort(noise, axis=1), axis=1) < hidden
    return places.reshape(config.num_windows, -1).astype(jnp.int32), mask

  def views(rng, batch):
    view_rng, window_rng = jax.random.split(rng)
    x = augment(view_rng, batch['image'])[:, 0]
    places, mask = jax.vmap(windows)(jax.random.split(window_rng, len(x)))
    return {**batch, 'image': x, 'places': places, 'mask': mask}

  def cut(x, places):
    """Windows [B W, h, w, C] of images [B, H, W, C]."""
    patches = ops.take_tokens(ops.patchify(x, patch), places.reshape(len(x), -1))
    patches = patches.reshape(-1, side * side, patches.shape[-1])
    return ops.unpatchify(patches, patch, side * patch, side * patch)

  def see(params, stats, batch, **options):
    """Tokens [B W, 1 + K, D] of the windows."""
    mask = batch['mask'].reshape(-1, side * side)
    x = cut(batch['image'], batch['places'])
    out, stats = encoder.apply(params, stats, x, mask=mask, **options)
    return jnp.concatenate([out['cls'][:, None], out['tokens']], axis=1), stats

  def init(rng, batch):
    x = cut(batch['image'], batch['places'])
    params, stats = encoder.init(jax.random.fold_in(rng, 0), x)
    tokens, _ = see(params, stats, batch, train=False)
    painted, _ = decoder(x.shape[-1]).init(jax.random.fold_in(rng, 1), tokens)
    return {'encoder': params, 'decoder': painted}, {'stats': stats}

  def predict(params, state, batch, train, rng=None):
    tokens, stats = see(params['encoder'], state['stats'], batch, train=train, rng=rng)
    decode = decoder(batch['image'].shape[-1])
    pred, _ = decode.apply(params['decoder'], {}, tokens, train=train)
    return pred.reshape(*batch['places'].shape, -1), {'stats': stats}

  def forward(params, state, batch, rng, step):
    return predict(params, state, batch, True, rng)

  def objective(params, state, pred, batch, rng, step):
    pixels = image.to_display(batch['image'], config.views)
    loss = losses.sar_jepa(
      pred, pixels, batch['places'], batch['mask'], patch_size=patch, radii=config.radii
    )
    return loss, (state, {})

  def embed(params, state, batch):
    x = image.prepare(batch['image'], config.views)
    out, _ = encoder.apply(params['encoder'], state['stats'], x, train=False)
    return _features.read(out)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    first = {name: batch[name][:, :1] for name in ('places', 'mask')}
    pred, _ = predict(params, state, {**batch, **first}, False)
    x = image.to_display(batch['image'], config.views)
    size = side * patch
    gone = ops.mask_pixels(first['mask'][:, 0], patch, size, size)
    # Of all radii the smallest is the sharpest.
    target = cut(ops.gradient_ratio(x, config.radii[0]), first['places'])
    found = pred[:, 0, :, : patch * patch * x.shape[-1]].astype(jnp.float32)
    found = jnp.where(gone, ops.unpatchify(found, patch, size, size), target)
    most = jnp.max(target, axis=(1, 2, 3), keepdims=True)
    window = cut(x, first['places'])
    seen = [window, jnp.where(gone, 0.5, window), target / most, found / most]
    title = 'window, what is kept, gradients, their prediction'
    return {title: jnp.clip(jnp.stack(seen, axis=1), 0, 1)}

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    embed=embed,
    views=views,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    show=show,
  )
