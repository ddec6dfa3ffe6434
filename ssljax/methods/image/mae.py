"""MAE: hide most patches of an image, encode the rest, paint the hidden ones.

    keep the (1 - mask_ratio) L patches of smallest noise, latent = encoder(kept patches)
    pred = decoder(latent and mask tokens, put back in place)
    loss = mean over hidden patches of (pred - normalised patch)^2, see losses.mae

He et al. 2022, "Masked autoencoders are scalable vision learners". Follows the authors' PyTorch
code, the order of patches and of kept tokens included.
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

PAPER = 'He et al. 2022, Masked autoencoders are scalable vision learners'
FAMILY = 'masked-modelling'


def get_config(preset='imagenet'):
  """'imagenet': section 4 and appendix A.1; 'cifar' and 'tiny' are ours."""
  crop = dict(num_views=1, scale=(0.2, 1.0))
  adamw = dict(name='adamw', b2=0.95, weight_decay=0.05, batch_scaling='linear')
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_base', patch_size=16, positions='sincos', class_token=True),
        batch_size=4096,
        epochs=800,
        optim=dict(learning_rate=1.5e-4, warmup_fraction=0.05, **adamw),
        method=dict(
          patch_size=config_dict.placeholder(int),
          mask_ratio=0.75,
          norm_pix=True,
          decoder=dict(dim=512, depth=8, heads=16),
          views=image.get_config(224, **crop),
        ),
      ),
      'cifar': dict(
        encoder=dict(
          name='vit_tiny', patch_size=4, positions='sincos', class_token=True, pool='mean'
        ),
        batch_size=1024,
        epochs=800,
        optim=dict(learning_rate=1.5e-4, warmup_fraction=0.05, **adamw),
        method=dict(
          patch_size=config_dict.placeholder(int),
          mask_ratio=0.75,
          norm_pix=True,
          decoder=dict(dim=96, depth=4, heads=3),
          views=image.get_config(32, **crop),
        ),
      ),
      'tiny': dict(
        encoder=dict(
          name='vit_micro', patch_size=4, positions='sincos', class_token=True, pool='mean'
        ),
        batch_size=256,
        epochs=40,
        optim=dict(learning_rate=2e-3, warmup_fraction=0.1, **adamw),
        method=dict(
          patch_size=config_dict.placeholder(int),
          mask_ratio=0.75,
          norm_pix=True,
          decoder=dict(dim=48, depth=2, heads=3),
          views=image.get_config(32, interpolation='bilinear', **crop),
        ),
      ),
    }[preset]
  )


def make(config, nets, *, upscale=1):
  """upscale: how many times as large the images to paint are as those that the encoder sees."""
  encoder, size, patch = nets['encoder'], config.views.size, config.patch_size
  augment = image.make(ConfigDict({**config.views, 'size': upscale * size}))
  target = upscale * patch
  num_patches = (size // patch) ** 2
  keep = int(num_patches * (1 - config.mask_ratio))
  if not 1 <= keep < num_patches:
    raise InputError(
      f'method.mask_ratio is {config.mask_ratio} of {num_patches} patches, wanted one at least to '
      'hide and one to see'
    )

  def decoder(channels):
    return decoders.mae_decoder(
      num_patches=num_patches, patch_dim=target * target * channels, **config.decoder
    )

  def views(rng, batch):
    view_rng, mask_rng = jax.random.split(rng)
    x = augment(view_rng, batch['image'])[:, 0]
    return {**batch, 'image': x, 'noise': jax.random.uniform(mask_rng, (len(x), num_patches))}

  def shrunk(x):
    return jax.image.resize(x, (len(x), size, size, x.shape[-1]), 'bicubic') if upscale > 1 else x

  def run(params, state, batch, train, rng=None):
    kept, restore, mask = ops.random_mask(batch['noise'], keep)
    latent, stats = encoder.apply(
      params['encoder'], state['stats'], shrunk(batch['image']), train=train, rng=rng, keep=kept
    )
    tokens = jnp.concatenate([latent['cls'][:, None], latent['tokens']], axis=1)
    pred, _ = decoder(batch['image'].shape[-1]).apply(
      params['decoder'], {}, tokens, restore, train=train
    )
    return pred, mask, stats

  def init(rng, batch):
    x = shrunk(batch['image'])
    kept, restore, _ = ops.random_mask(batch['noise'], keep)
    params, stats = encoder.init(jax.random.fold_in(rng, 0), x, keep=kept)
    latent, _ = encoder.apply(params, stats, x, train=False, keep=kept)
    if 'cls' not in latent:
      raise InputError('encoder.class_token is False, wanted True: the decoder reads it too')
    tokens = jnp.concatenate([latent['cls'][:, None], latent['tokens']], axis=1)
    painted, _ = decoder(x.shape[-1]).init(jax.random.fold_in(rng, 1), tokens, restore)
    return {'encoder': params, 'decoder': painted}, {'stats': stats}

  def forward(params, state, batch, rng, step):
    pred, _, stats = run(params, state, batch, train=True, rng=rng)
    return pred, {'stats': stats}

  def objective(params, state, pred, batch, rng, step):
    _, _, mask = ops.random_mask(batch['noise'], keep)
    loss = losses.mae(pred, batch['image'], mask, patch_size=target, norm_pix=config.norm_pix)
    # Normalised patches have variance 1: predicting their mean scores 1.
    return loss, (state, {'chance_loss': jnp.ones(())} if config.norm_pix else {})

  def embed(params, state, batch):
    x = image.prepare(batch['image'], config.views)
    out, _ = encoder.apply(params['encoder'], state['stats'], x, train=False)
    return _features.read(out)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    pred, mask, _ = run(params, state, batch, train=False)
    x = batch['image']
    if config.norm_pix:
      pred = _paint.unnormalised(pred, x, target)
    return _paint.pictures(x, pred, mask, patch_size=target, views=config.views)

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    embed=embed,
    views=views,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    show=show,
  )
