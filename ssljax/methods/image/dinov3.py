"""DINOv3: DINOv2 on a schedule without an end, and patches that stay as alike as they once were.

    loss = DINOv2's terms (see dinov2) + gram_weight gram(student's patches, anchor's patches)
    anchor: what the teacher was at step gram_start, and anew each gram_every steps, gram_updates
    times in all; it sees the large crops without colours at gram_scale times their size, and its
    patch features are resized to the student's grid
    Before gram_start the Gram term counts 0. The student's rotary positions have their box
    jittered; rate, weight decay, temperature and the teacher's decay stay as they are after warm-up

Siméoni et al. 2025, "DINOv3". Follows the paper, and the authors' configs for the numbers. Class
tokens of small crops pass the same last norm as those of large ones, where the authors' have one of
their own.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.method import two_part
from ssljax.methods.image import _distill, _pair, dinov2

PAPER = 'Siméoni et al. 2025, DINOv3'
FAMILY = 'self-distillation'
PRESETS = ('imagenet_gram',)


def get_config(preset='imagenet'):
  """'imagenet': ViT-7B/16, section 3 and dinov3_vit7b16_pretrain; 'imagenet_gram': section 4 and
  dinov3_vit7b16_gram_anchor, to begin from the first with `init_from`; 'cifar' and 'tiny' are
  ours."""
  scales = (0.32, 1.0), (0.05, 0.32)
  rope = dict(positions='rope', registers=4, qkv_bias='no_key', mask_token=True)
  vit = rope | dict(name='vit_7b', patch_size=16, layer_scale=1e-5, rope_rescale=2.0)
  vit |= dict(qkv_bias='none', swiglu_align=64, drop_path=0.4, remat=True)
  constant = dict(name='adamw', b2=0.99, schedule='constant', weight_decay=0.04, clip_norm=30.0)
  constant |= dict(batch_scaling='sqrt', layer_decay=0.98, patch_embed_multiplier=0.2)
  common = _distill.COMMON | dinov2.TERMS
  common |= dict(unit_prototypes=False, gram_weight=0.0, gram_scale=2, gram_start=0, gram_every=0)
  common |= dict(gram_updates=1)
  large = dict(num_prototypes=262144, projector=(8192, 8192, 512))
  large |= dict(num_patch_prototypes=98304, patch_projector=(4096, 4096, 384))
  large |= dict(freeze_prototypes_steps=5000, views=_distill.multi_crop((256, 112), 8, scales))
  big = dict(encoder=vit, batch_size=4096)

  return ConfigDict(
    {
      'imagenet': lambda: dict(
        epochs=2,  # 1,000,000 steps over 1.7 billion images
        optim=constant | dict(learning_rate=5e-5 / 32, warmup_fraction=0.1),
        method=common
        | large
        | dict(momentum=0.994, momentum_final=0.994, teacher_temp_warmup=0.1),
        **big,
      ),
      'imagenet_gram': lambda: dict(
        epochs=1,
        optim=constant | dict(learning_rate=3e-5 / 32, warmup_fraction=0.0),
        method=common
        | large
        | dict(
          momentum=0.999, momentum_final=0.999, teacher_temp_warmup=0.0, gram_weight=2.0,
          gram_every=10_000, gram_updates=3,
        ),
        **big,
      ),
      'cifar': lambda: dict(
        encoder=rope | dict(name='vit_tiny', patch_size=4, layer_scale=1e-5, rope_rescale=2.0),
        batch_size=256,
        epochs=400,
        optim=constant | dict(learning_rate=5e-4 / 16, layer_decay=1.0, warmup_fraction=0.1),
        method=common
        | dict(
          momentum_final=0.996, num_prototypes=4096, num_patch_prototypes=4096,
          patch_projector=(2048, 2048, 256), freeze_prototypes_steps=195, gram_weight=1.0,
          gram_start=40_000, gram_every=10_000, gram_updates=3,
          views=_distill.multi_crop((32, 16), 6, scales),
        ),
      ),
      'tiny': lambda: dict(
        encoder=rope | dict(name='vit_micro', layer_scale=0.1, rope_rescale=2.0),
        method=_distill.TINY_METHOD
        | dinov2.TERMS
        | dict(
          momentum_final=0.98, num_prototypes=256, num_patch_prototypes=256,
          patch_projector=(128, 64), gram_weight=1.0, gram_scale=2, gram_start=0, gram_every=100,
          gram_updates=3, views=_distill.tiny_crops(),
        ),
        **_distill.TINY | dict(optim=_distill.TINY['optim'] | dict(schedule='constant')),
      ),
    }[preset]()
  )  # fmt: skip


def make(config, nets):
  encoder, large = nets['encoder'], config.views['global']
  teacher_temp = _distill.schedules(config)['teacher_temp']
  grid = large.size // config.patch_size
  plain = ConfigDict({**large, 'size': config.gram_scale * large.size})
  base = _distill.parts(
    config, encoder, memory=lambda: dinov2.memory(config), patches=True, more=('tokens',)
  )

  def views(rng, batch):
    crop_rng, rng = jax.random.split(rng)
    seen = base['views'](rng, batch)
    x, drawn = image.make(large, with_parameters=True)(crop_rng, batch['image'])
    shape = {name: drawn[name] for name in ('box', 'flip') if name in drawn}
    cut = jax.vmap(jax.vmap(lambda i, p: image.apply(i, p, plain), (None, 0)))
    anchors = cut(image.to_float(batch['image']), shape)
    return {**seen, 'image': {**seen['image'], 'global': x}, 'anchor_image': anchors}

  def init(rng, batch):
    params, state = base['init'](rng, batch)
    return params, {**state, 'anchor': {'encoder': params['encoder']}}

  def forward(params, state, batch, rng, step):
    z, new = base['forward'](params, state, batch, rng, step)
    x = batch['anchor_image']
    found, _ = encoder.apply(
      state['anchor']['encoder'], state['target']['stats'], x.reshape(-1, *x.shape[2:]), train=False
    )
    side = grid * config.gram_scale
    maps = found['tokens'].reshape(-1, side, side, found['tokens'].shape[-1])
    maps = jax.image.resize(maps, (len(maps), grid, grid, maps.shape[-1]), 'cubic', antialias=False)
    return z | {'anchor': maps.reshape(*x.shape[:2], grid * grid, -1)}, new

  def objective(params, state, z, batch, rng, step):
    loss, state, metrics = dinov2.total(config, state, z, batch, teacher_temp(step))
    tokens, anchor = (z[name].reshape(-1, *z[name].shape[2:]) for name in ('tokens', 'anchor'))
    metrics['gram_loss'] = losses.gram(tokens, anchor)
    weight = jnp.where(step >= config.gram_start, config.gram_weight, 0.0)
    return loss + weight * metrics['gram_loss'], (state, metrics)

  def update(params, state, step):
    state = base['update'](params, state, step)
    since = step - config.gram_start
    every = config.gram_every or 2**30
    due = (since >= 0) & (since % every == 0) & (since // every < config.gram_updates)
    newest = {'encoder': state['target']['params']['encoder']}
    anchor = jax.tree.map(lambda new, old: jnp.where(due, new, old), newest, state['anchor'])
    return {**state, 'anchor': anchor}

  fields = base | dict(init=init, forward=forward, views=views, update=update)
  fields['embed_views'] = _pair.make_embed_views(views, base['embed'], config.views)
  return two_part(objective=objective, **fields)
