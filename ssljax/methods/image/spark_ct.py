"""SparK, as used for computed tomography: paint hidden cells of an image with a convolutional net.

    hide mask_ratio of the cells, each as large as a pixel of the encoder's last map
    maps = encoder(image), computed with seen cells alone, see models.sparse
    pred = decoder(maps, with a learned vector in hidden cells, from the smallest to the largest)
    loss = mean over hidden cells of (pred - normalised cell)^2, see losses.mae

Wolf et al. 2023, "Self-supervised pre-training with contrastive and masked autoencoder methods for
dealing with small datasets in deep learning for medical imaging", who find SparK (Tian et al. 2023)
best for few labels and run its code unchanged on slices of CT scans. Follows that PyTorch code but
for initial weights. The encoder is a network whose maps halve in size: a ResNet, ConvNet or RegNet.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _features, _paint, _pair
from ssljax.models import sparse

PAPER = (
  'Wolf et al. 2023, Self-supervised pre-training with contrastive and masked autoencoder methods '
  'for dealing with small datasets in deep learning for medical imaging'
)
FAMILY = 'masked-modelling'


def get_config(preset='imagenet'):
  """'imagenet': for images of 224 pixels, the paper's ResNet-50 on CT slices, of the authors'
  command (SparK on ImageNet has batch_size=4096); 'cifar' and 'tiny' are ours."""
  crop = dict(num_views=1, scale=(0.67, 1.0))
  lamb = dict(name='lamb', b2=0.95, clip_norm=5.0, weight_decay=0.04, weight_decay_final=0.2)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=32,
        epochs=1600,
        optim=dict(
          learning_rate=2e-4,
          batch_scaling='linear',
          warmup_fraction=40 / 1600,
          final_fraction=1e-3,
          **lamb,
        ),
        method=dict(
          mask_ratio=0.6,
          decoder=dict(width=768, densify_norm='batch'),
          views=image.get_config(224, **crop),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=800,
        optim=dict(learning_rate=2e-3, warmup_fraction=0.05, **lamb),
        method=dict(
          mask_ratio=0.6,
          decoder=dict(width=256, densify_norm='batch'),
          views=image.get_config(32, **crop),
        ),
      ),
      'tiny': dict(
        encoder=dict(name='resnet10', stem='cifar', width=16),
        batch_size=256,
        epochs=12,
        optim=dict(name='adamw', learning_rate=2e-3, warmup_fraction=0.1, weight_decay=0.05),
        method=dict(
          mask_ratio=0.6,
          decoder=dict(width=64, densify_norm='batch'),
          views=image.get_config(32, interpolation='bilinear', **crop),
        ),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, size, augment = nets['encoder'], config.views.size, image.make(config.views)
  side = last_side(encoder, size)
  cell, keep = size // side, round(side * side * (1 - config.mask_ratio))
  if not 1 <= keep < side * side:
    raise InputError(
      f'method.mask_ratio is {config.mask_ratio} of {side * side} cells of {cell} pixels, wanted '
      'one at least to hide and one to see'
    )
  seeing = sparse.sparse(encoder)

  def decoder(channels):
    return sparse.light_decoder(size=size, channels=channels, **config.decoder)

  def views(rng, batch):
    view_rng, mask_rng = jax.random.split(rng)
    x = augment(view_rng, batch['image'])[:, 0]
    noise = jax.random.uniform(mask_rng, (len(x), side * side))
    _, _, mask = ops.random_mask(noise, keep)
    return {**batch, 'image': x, 'mask': mask}

  def see(params, stats, batch, **options):
    """What `decoder` gets: the maps, and the cells that are seen."""
    active = batch['mask'].reshape(-1, side, side) == 0
    out, stats = seeing.apply(params, stats, batch['image'], active, **options)
    return (_pair.feature_maps(out), active), stats

  def init(rng, batch):
    x = batch['image']
    params, stats = encoder.init(jax.random.fold_in(rng, 0), x)
    seen, _ = see(params, stats, batch, train=False)
    painted, more = decoder(x.shape[-1]).init(jax.random.fold_in(rng, 1), *seen)
    return {'encoder': params, 'decoder': painted}, {'stats': {'encoder': stats, 'decoder': more}}

  def paint(params, state, batch, **options):
    """Patches [B, L, P], and the new batch statistics."""
    stats = state['stats']
    seen, encoder_stats = see(params['encoder'], stats['encoder'], batch, **options)
    painted, decoder_stats = decoder(batch['image'].shape[-1]).apply(
      params['decoder'], stats['decoder'], *seen, **options
    )
    stats = {'encoder': encoder_stats, 'decoder': decoder_stats}
    return ops.patchify(painted, cell), {**state, 'stats': stats}

  def forward(params, state, batch, rng, step):
    return paint(params, state, batch, train=True, rng=rng)

  def objective(params, state, pred, batch, rng, step):
    loss = losses.mae(pred, batch['image'], batch['mask'], patch_size=cell)
    # Normalised cells have variance 1: predicting their mean scores 1.
    return loss, (state, {'chance_loss': jnp.ones(())})

  def embed(params, state, batch):
    x = image.prepare(batch['image'], config.views)
    out, _ = encoder.apply(params['encoder'], state['stats']['encoder'], x, train=False)
    return _features.read(out)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    x, mask = batch['image'], batch['mask']
    pred, _ = paint(params, state, batch, train=False)
    pred = _paint.unnormalised(pred.astype(jnp.float32), x, cell)
    return _paint.pictures(x, pred, mask, patch_size=cell, views=config.views)

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    embed=embed,
    views=views,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    show=show,
  )


def last_side(encoder, size):
  """The side in pixels of an encoder's last map of images of `size`, without computing it."""

  def maps(x):
    params, stats = encoder.init(jax.random.key(0), x)
    return _pair.feature_maps(encoder.apply(params, stats, x, train=False)[0])

  last = jax.eval_shape(maps, jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32))[-1]
  if size % last.shape[1]:
    raise InputError(
      f'method.views.size is {size} pixels, which the last map of the encoder shows in '
      f'{last.shape[1]}: wanted a multiple of that'
    )
  return last.shape[1]
