"""Which patches of the large crops iBOT, and the methods after it, hide from the student."""

import jax
import jax.numpy as jnp

from ssljax import ops
from ssljax.errors import InputError

# iBOT's.
MASKS = {
  'mask_prob': 0.5,
  'mask_ratio': (0.1, 0.5),
  'mask_shape': 'block',
  'mask_evenly': False,
  'mask_min_area': 0,
}
SHAPES = ('block', 'random')


def hide(rng, views, config):
  """{'mask', 'hidden', 'counted'}: patches of large crops that are hidden, see `_distill.parts`.

  A crop has patches hidden with the chance mask_prob, a share of them drawn evenly from mask_ratio;
  with mask_evenly so many of the batch's crops, their shares spread over the range (DINOv2). They
  lie in blocks of mask_min_area patches or more, 0 for the square of a third of the grid's side
  (iBOT), or with mask_shape 'random' anywhere. 'mask' is bool [B, V, L]; 'hidden' int32 [B, V, M]
  names those patches, M the most there can be, and 'counted' bool [B, V, M] is False for the places
  left over.
  """
  batch, count, *size = views['global'].shape[:4]
  grid = tuple(side // config.patch_size for side in size)
  length, (low, high) = grid[0] * grid[1], config.mask_ratio
  if not 0 <= low <= high <= 1:
    raise InputError(f'method.mask_ratio is {tuple(config.mask_ratio)}, wanted (low, high) in 0..1')
  if config.mask_shape not in SHAPES:
    raise InputError(f'method.mask_shape is {config.mask_shape!r}, wanted one of {SHAPES}')
  most = max(1, int(high * length))
  chance_rng, ratio_rng, block_rng = jax.random.split(rng, 3)
  place = jax.random.uniform(ratio_rng, (batch, count))
  if config.mask_evenly:
    masked = int(config.mask_prob * batch * count)
    rank = jax.random.permutation(chance_rng, batch * count).reshape(batch, count)
    chosen, place = rank < masked, (rank + place) / max(masked, 1)
  else:
    chosen = jax.random.uniform(chance_rng, (batch, count)) < config.mask_prob
  share = low + (high - low) * place
  wanted = jnp.where(chosen, jnp.minimum(jnp.int32(share * length), most), 0)

  def one(key, count):
    if config.mask_shape == 'random':
      return jax.random.permutation(key, length) < count
    area = config.mask_min_area or max((min(grid) // 3) ** 2, 1)
    return ops.block_mask(key, grid, count=count, min_area=area)

  mask = jax.vmap(jax.vmap(one))(jax.random.split(block_rng, (batch, count)), wanted)
  hidden = jnp.argsort(~mask, axis=-1)[..., :most].astype(jnp.int32)
  return {'mask': mask, 'hidden': hidden, 'counted': jnp.arange(most) < wanted[..., None]}
