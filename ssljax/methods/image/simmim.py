"""SimMIM: a mask token for most patches at the input, a linear decoder, absolute error of pixels.

    hide mask_ratio of the squares of mask_unit x mask_unit pixels
    pred = linear(encoder(image, with the mask token in the place of hidden patches))
    loss = mean over hidden pixels of |pred - pixel|, see losses.simmim

Xie et al. 2022, "SimMIM: a simple framework for masked image modeling". Follows the authors'
PyTorch code but for the encoder: theirs is a Swin transformer or BEiT's ViT with relative positions
that all blocks share; here a ViT with learned absolute ones (its layer scale of 0.1 is kept). Their
learning rate falls to a tenth in one step at epoch 700 of 800, here linearly from there on.
"""

import functools

import jax
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _features, _paint, _pair
from ssljax.models import heads

PAPER = 'Xie et al. 2022, SimMIM: a simple framework for masked image modeling'
FAMILY = 'masked-modelling'


def get_config(preset='imagenet'):
  """'imagenet': ViT-B of the authors' vit_base__800ep; 'cifar' and 'tiny' are ours."""
  crop = dict(num_views=1, scale=(0.67, 1.0))
  vit = dict(class_token=True, mask_token=True, pool='mean')
  adamw = dict(name='adamw', weight_decay=0.05, clip_norm=5.0, batch_scaling='linear')
  method = dict(patch_size=config_dict.placeholder(int), mask_ratio=0.6)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_base', patch_size=16, layer_scale=0.1, drop_path=0.1, **vit),
        batch_size=2048,
        epochs=800,
        optim=dict(
          learning_rate=5e-5,  # theirs is 1e-4 for each 512 images
          schedule='infinite',
          anneal_fraction=1 / 8,
          final_fraction=0.1,
          warmup_fraction=1 / 80,
          **adamw,
        ),
        method=method
        | dict(mask_unit=32, views=image.get_config(224, interpolation='bilinear', **crop)),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=4, **vit),
        batch_size=1024,
        epochs=800,
        optim=dict(learning_rate=1e-4, warmup_fraction=0.05, **adamw),
        method=method | dict(mask_unit=8, views=image.get_config(32, **crop)),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=4, **vit),
        batch_size=256,
        epochs=40,
        optim=dict(learning_rate=1e-3, warmup_fraction=0.1, **adamw),
        method=method
        | dict(mask_unit=8, views=image.get_config(32, interpolation='bilinear', **crop)),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, patch, size = nets['encoder'], config.patch_size, config.views.size
  augment = image.make(config.views)
  if config.mask_unit % patch or size % config.mask_unit:
    raise InputError(
      f'method.mask_unit is {config.mask_unit} pixels, wanted a multiple of the patch size {patch} '
      f'that divides the {size} pixels of views.size'
    )
  if config.mask_ratio * (units := (size // config.mask_unit) ** 2) > units - 1:
    raise InputError(
      f'method.mask_ratio is {config.mask_ratio} of {units} squares, wanted one of them left to see'
    )

  hide = functools.partial(
    ops.unit_mask,
    grid=(size // patch, size // patch),
    unit=config.mask_unit // patch,
    ratio=config.mask_ratio,
  )

  def views(rng, batch):
    view_rng, mask_rng = jax.random.split(rng)
    x = augment(view_rng, batch['image'])[:, 0]
    return {**batch, 'image': x, 'mask': jax.vmap(hide)(jax.random.split(mask_rng, len(x)))}

  def decoder(x):
    return heads.mlp((patch * patch * x.shape[-1],))

  def encode(params, stats, batch, train, rng=None):
    return encoder.apply(params, stats, batch['image'], train=train, rng=rng, mask=batch['mask'])

  def paint(params, state, batch, train, rng=None):
    latent, stats = encode(params['encoder'], state['stats'], batch, train, rng)
    pred, _ = decoder(batch['image']).apply(params['decoder'], {}, latent['tokens'], train=train)
    return pred, stats

  def init(rng, batch):
    x, mask = batch['image'], batch['mask']
    params, stats = encoder.init(jax.random.fold_in(rng, 0), x, mask=mask)
    latent, _ = encode(params, stats, batch, train=False)
    painted, _ = decoder(x).init(jax.random.fold_in(rng, 1), latent['tokens'])
    return {'encoder': params, 'decoder': painted}, {'stats': stats}

  def forward(params, state, batch, rng, step):
    pred, stats = paint(params, state, batch, train=True, rng=rng)
    return pred, {'stats': stats}

  def objective(params, state, pred, batch, rng, step):
    return losses.simmim(pred, batch['image'], batch['mask'], patch_size=patch), (state, {})

  def embed(params, state, batch):
    x = image.prepare(batch['image'], config.views)
    out, _ = encoder.apply(params['encoder'], state['stats'], x, train=False)
    return _features.read(out)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    pred, _ = paint(params, state, batch, train=False)
    return _paint.pictures(
      batch['image'], pred, batch['mask'], patch_size=patch, views=config.views
    )

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    embed=embed,
    views=views,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    show=show,
  )
