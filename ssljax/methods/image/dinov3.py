"""DINOv3: DINOv2 on a schedule without an end, and patches that stay as alike as they once were.

    loss = DINOv2's terms (see dinov2) + gram_weight gram(student's patches, anchor's patches)
    anchor <- the teacher at step gram_anchor, and anew every gram_every steps after gram_start,
    gram_updates times; it sees the large crops without colours at gram_scale times their size, and
    its patch features are resized to the student's grid
    The Gram term counts from gram_start on. The student's rotary positions have their box jittered;
    rate, weight decay, temperature and the teacher's decay stay as they are after warm-up

Siméoni et al. 2025, "DINOv3". Follows the paper, and the authors' configs for the numbers. Class
tokens of small crops pass the same last norm as those of large ones, where the authors' have one of
their own.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _distill, dinov2
from ssljax.models import positions

PAPER = 'Siméoni et al. 2025, DINOv3'
FAMILY = 'self-distillation'
PRESETS = ('imagenet_gram',)


def get_config(preset='imagenet'):
  """'imagenet': ViT-7B/16, section 3 and dinov3_vit7b16_pretrain, without the Gram term;
  'imagenet_gram': section 4 and dinov3_vit7b16_gram_anchor, a run that begins from such a one with
  `init_from` and init_parts 'encoder', 'head' and 'patch_head', whose teacher is the first anchor;
  'cifar' and 'tiny' are ours."""
  scales = (0.32, 1.0), (0.05, 0.32)
  rope = dict(positions='rope', registers=4, qkv_bias='no_key', mask_token=True)
  vit = rope | dict(name='vit_7b', patch_size=16, layer_scale=1e-5, rope_rescale=2.0)
  vit |= dict(qkv_bias='none', swiglu_align=64, drop_path=0.4, drop_path_uniform=True, remat=True)
  vit |= dict(layer_norm_eps=1e-5)
  constant = dict(name='adamw', b2=0.99, schedule='constant', weight_decay=0.04, clip_norm=30.0)
  constant |= dict(batch_scaling='sqrt', layer_decay=0.98, patch_embed_multiplier=0.2)
  constant |= dict(clip_by='module')
  # The authors' rates are for 1024 images, go with the root of their number and are taken 4 times.
  per_image = 4 / 32
  # Prototypes are a plain linear layer: they have no norm that could be left out.
  shared, tiny = (
    {name: value for name, value in fields.items() if name != 'unit_prototypes'} | dinov2.TERMS
    for fields in (_distill.COMMON, _distill.TINY_METHOD)
  )
  gram = dict(gram_weight=0.0, gram_scale=2, gram_anchor=0, gram_start=0)
  gram |= dict(gram_every=10_000, gram_updates=3)
  common = shared | gram
  large = dict(num_prototypes=262144, projector=(8192, 8192, 512))
  large |= dict(num_patch_prototypes=98304, patch_projector=(4096, 4096, 384))
  large |= dict(views=_distill.multi_crop((256, 112), 8, scales, flip=0.0))
  big = dict(encoder=vit, batch_size=4096)

  return ConfigDict(
    {
      'imagenet': lambda: dict(
        epochs=2,  # 1,000,000 steps over 1.7 billion images
        optim=constant | dict(learning_rate=per_image * 5e-5, warmup_fraction=0.1),
        method=common
        | large
        | dict(
          momentum=0.994, momentum_final=0.994, teacher_temp_warmup=0.1,
          freeze_prototypes_steps=5000,
        ),
        **big,
      ),
      'imagenet_gram': lambda: dict(
        epochs=1,
        optim=constant | dict(learning_rate=per_image * 3e-5, warmup_fraction=0.0),
        method=common
        | large
        | dict(
          momentum=0.999, momentum_final=0.999, teacher_temp_warmup=0.0, local_weight=0.5,
          freeze_prototypes_steps=0, gram_weight=2.0,
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
          freeze_prototypes_steps=195, gram_weight=1.0, gram_anchor=20_000, gram_start=40_000,
          views=_distill.multi_crop((32, 16), 6, scales),
        ),
      ),
      'tiny': lambda: dict(
        encoder=rope | dict(name='vit_micro', layer_scale=0.1, rope_rescale=2.0),
        method=tiny
        | gram
        | dict(
          momentum_final=0.98, num_prototypes=256, num_patch_prototypes=256,
          patch_projector=(128, 64), gram_weight=1.0, gram_anchor=100, gram_start=100,
          gram_every=100, views=_distill.tiny_crops(),
        ),
        **_distill.TINY | dict(optim=_distill.TINY['optim'] | dict(schedule='constant')),
      ),
    }[preset]()
  )  # fmt: skip


def make(config, nets):
  encoder, large = nets['encoder'], config.views['global']
  teacher_temp = _distill.schedules(config)['teacher_temp']
  plain = ConfigDict({**large, 'size': config.gram_scale * large.size})
  draw = image.make(config.views, with_parameters=True)

  def augment(rng, images):
    x, drawn = draw(rng, images)
    shape = {name: drawn['global'][name] for name in ('box', 'flip') if name in drawn['global']}
    cut = jax.vmap(jax.vmap(lambda x, drawn: image.apply(x, drawn, plain), (None, 0)))
    return {'image': x, 'anchor_image': cut(image.to_float(images), shape)}

  if config.gram_anchor > config.gram_start:
    raise InputError(
      f'method.gram_anchor is {config.gram_anchor}, wanted at most gram_start {config.gram_start}: '
      'there is an anchor before it is held to'
    )
  anchored = bool(config.gram_weight)
  base = _distill.parts(
    config,
    encoder,
    memory=lambda: dinov2.memory(config),
    patches=True,
    more=('tokens',) if anchored else (),
    augment=augment if anchored else None,
    weight_norm=False,
  )

  def objective(params, state, z, batch, rng, step):
    loss, state, metrics = dinov2.total(config, state, z, batch, teacher_temp(step))
    if not anchored:
      return loss, (state, metrics)
    tokens, anchor = (z[name].reshape(-1, *z[name].shape[2:]) for name in ('tokens', 'anchor'))
    metrics['gram_loss'] = losses.gram(tokens, anchor)
    weight = jnp.where(step >= config.gram_start, config.gram_weight, 0.0)
    return loss + weight * metrics['gram_loss'], (state, metrics)

  if not anchored:
    return two_part(objective=objective, **base)

  def init(rng, batch):
    params, state = base['init'](rng, batch)
    return params, {**state, 'anchor': {'encoder': params['encoder']}}

  def forward(params, state, batch, rng, step):
    due = is_due(config, step)
    newest = {'encoder': state['target']['params']['encoder']}
    anchor = jax.tree.map(lambda new, old: jnp.where(due, new, old), newest, state['anchor'])
    z, state = base['forward'](params, state, batch, rng, step)
    x = batch['anchor_image']
    found, _ = encoder.apply(
      anchor['encoder'],
      state['target']['stats']['encoder'],
      x.reshape(-1, *x.shape[2:]),
      train=False,
    )
    sides = (plain.size // config.patch_size,) * 2, (large.size // config.patch_size,) * 2
    resize = jax.vmap(lambda maps: positions.resize_positions(maps, *sides))
    z['anchor'] = resize(found['tokens']).reshape(*z['tokens'].shape)
    return z, {**state, 'anchor': anchor}

  return two_part(objective=objective, **base | dict(init=init, forward=forward))


def is_due(config, step):
  """Whether the teacher becomes the anchor before this step."""
  since = step - config.gram_start
  every = max(config.gram_every, 1)
  again = (since > 0) & (since % every == 0) & (since // every <= config.gram_updates)
  return (step == config.gram_anchor) | (again & (config.gram_every > 0))
