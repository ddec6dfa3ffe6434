"""What methods that hide parts of an image and paint them have in common."""

import jax
import jax.numpy as jnp

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.models import heads
from ssljax.net import Net, fork


def pictures(images, pred, mask, *, patch_size, views, seen=None):
  """Images, what the encoder saw of them, and `pred` in the hidden places, for `Method.show`.

  Args:
    images: [n, H, W, C], normalised.
    pred: [n, L, P], patches on the same scale; mask: [n, L], 1 where a patch is hidden.
    views: config of the views, for its mean and standard deviation.
    seen: [n, H, W, C], if it is not the images with hidden patches grey.

  Returns:
    {title: [n, 3, H, W, C] in [0, 1]}.
  """
  hidden = ops.mask_pixels(mask > 0, patch_size, *images.shape[1:3])
  seen = jnp.where(hidden, 0.0, images) if seen is None else seen
  painted = ops.unpatchify(pred, patch_size, *images.shape[1:3])
  shown = jnp.stack([images, seen, jnp.where(hidden, painted, images)], axis=1)
  return {'image, what is kept, reconstruction': image.to_display(shown, views)}


def unnormalised(pred, images, patch_size):
  """Predicted normalised patches [n, L, P] on the scale of the images, by their own statistics."""
  patches = ops.patchify(images, patch_size)
  deviation = jnp.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6)
  return pred * deviation + patches.mean(-1, keepdims=True)


def decoder(config, *, patch_size, channels):
  """Tokens [N, L, D] to patches [N, L, P]: `depth` layers of `dim` with GELU, a linear one."""
  sizes = (config.dim,) * config.depth + (patch_size**2 * channels,)
  return heads.mlp(sizes, norm=None, activation=ops.gelu)


def fork_and_paint(config, sources):
  """A `join` for functions of `_pair`: `fork`, with a 'decoder' of the patch tokens besides.

  The decoder is made when images are seen, for their channels. A teacher has none.
  """
  sources = {'decoder': lambda outputs: outputs['tokens'], **sources}

  def join(**nets):
    def network(x):
      paint = decoder(config.decoder, patch_size=config.patch_size, channels=x.shape[-1])
      return fork(sources, **nets, decoder=paint)

    def init(rng, x, **options):
      return network(x).init(rng, x, **options)

    def apply(params, state, x, **options):
      return network(x).apply(params, state, x, **options)

    return Net(init, apply)

  return join


def corrupt(rng, clean, config):
  """Groups of patches of each view replaced: GMML's corruption (Atito et al. 2022, section 3).

  A view is either filled with `fill` in the groups, on a share of it from min(1/2, ratio) to
  `ratio`, or, with the chance `foreign_prob`, with the same places of another image of the batch,
  on a share `foreign_ratio`.

  Args:
    clean: [B, V, H, W, C], normalised.
    config: with `patch_size` and `corruption`: fill 'noise' (normal) or 'zeros', ratio,
      foreign_prob, foreign_ratio, and max_side of `ops.group_mask`.

  Returns:
    What a batch then has: 'clean', 'image', the corrupted views, and 'mask' bool [B, V, L], True
    where they are.
  """
  c, patch = config.corruption, config.patch_size
  if c.fill not in ('noise', 'zeros'):
    raise InputError(f"method.corruption.fill is {c.fill!r}, wanted 'noise' or 'zeros'")
  batch, views, height, width, _ = clean.shape
  grid = height // patch, width // patch
  mask_rng, ratio_rng, partner_rng, fill_rng = jax.random.split(rng, 4)
  chance, share = jax.random.uniform(ratio_rng, (2, batch, views))
  foreign, least = chance < c.foreign_prob, min(0.5, c.ratio)
  ratio = jnp.where(foreign, c.foreign_ratio, least + (c.ratio - least) * share)
  count = jnp.ceil(ratio * grid[0] * grid[1] - 1e-3).ravel()
  mask = jax.vmap(lambda key, count: ops.group_mask(key, grid, count=count, max_side=c.max_side))(
    jax.random.split(mask_rng, batch * views), count
  )
  noise = jax.random.uniform(partner_rng, (views, batch, 2))
  other = jnp.stack([clean[ops.random_partner(noise[v]), v] for v in range(views)], axis=1)
  fill = jax.random.normal(fill_rng, clean.shape) if c.fill == 'noise' else 0.0
  hidden = ops.mask_pixels(mask, patch, height, width).reshape(batch, views, height, width, 1)
  replaced = jnp.where(foreign[..., None, None, None], other, fill)
  return {
    'clean': clean,
    'image': jnp.where(hidden, replaced, clean),
    'mask': mask.reshape(batch, views, -1),
  }


def clean_and_corrupt(rng, clean, config):
  """`corrupt`, with the clean views before the corrupted ones: 'image' is [B, 2 V, H, W, C]."""
  made = corrupt(rng, clean, config)
  return {**made, 'image': jnp.concatenate([clean, made['image']], axis=1)}


def heads_of(outputs):
  """The outputs of all networks of `fork_and_paint` but the encoder, by name."""
  return {name: value for name, value in outputs.items() if name != 'encoder'}


def reconstruction(pred, batch, config):
  """`losses.simmim` of pred [B, V, L, P] and the batch's 'clean' views, where 'mask' is."""
  flat = (x.reshape(-1, *x.shape[2:]) for x in (pred, batch['clean'], batch['mask']))
  return losses.simmim(*flat, patch_size=config.patch_size)


def make_show(config, views, forward):
  """`Method.show` of the first corrupted view, by a method's forward, whose outputs (or their 'z')
  have what the 'decoder' painted."""

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    clean = batch['clean']
    seen = batch['image'][:, -clean.shape[1]]  # the corrupted views are the last ones
    outputs, _ = forward(params, state, batch, rng, 0)
    pred, mask = outputs.get('z', outputs)['decoder'][:, 0], batch['mask'][:, 0]
    options = {'patch_size': config.patch_size, 'views': config.views, 'seen': seen}
    return pictures(clean[:, 0], pred, mask, **options)

  return show
