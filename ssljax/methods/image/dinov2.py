"""DINOv2: DINO and iBOT with a head each, codes by Sinkhorn, and embeddings spread out.

    loss = dino(class tokens) + patch_weight ibot_patch(hidden patches)
           + koleo_weight sum over large crops of koleo(the student's class tokens)
    codes: of Sinkhorn's iterations over the batch ('sinkhorn'), or centred as in DINO ('center')
    teacher <- moving average of the student

Oquab et al. 2024, "DINOv2: Learning robust visual features without supervision". Follows the
authors' PyTorch code in the losses and their weights, and in that half of the batch's large crops
have patches hidden, with ratios spread from 0.1 to 0.5. KoLeo's neighbours are those of the global
batch, where there they are a device's. The last phase at high resolution (section 4) is a run of
its own, preset 'imagenet_high_resolution' with
  --config.init_from=WORKDIR --config.init_parts="('encoder','head','patch_head')"
"""

import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _distill, _hide

PAPER = 'Oquab et al. 2024, DINOv2: Learning robust visual features without supervision'
FAMILY = 'self-distillation'
PRESETS = ('imagenet_high_resolution', 'imagenet_short')
CENTERINGS = ('sinkhorn', 'center')
TERMS = _hide.MASKS | {
  'mask_evenly': True,
  'mask_min_area': 4,
  'separate_heads': True,
  'num_patch_prototypes': 65536,
  'patch_projector': (2048, 2048, 256),
  'local_weight': 1.0,  # of small crops' share of the class loss
  'patch_weight': 1.0,
  'koleo_weight': 0.1,
  'centering': 'sinkhorn',
  'center_momentum': 0.9,
  'patch_size': config_dict.placeholder(int),
  'total_steps': config_dict.placeholder(int),
}


def get_config(preset='imagenet'):
  """'imagenet': ViT-L/14, the authors' config for ImageNet-22k; 'imagenet_short': theirs for
  ImageNet-1k with ViT-L/16; 'imagenet_high_resolution': section 4, crops of 518 pixels for 10,000
  steps (its rate, without warm-up, is ours); 'cifar' and 'tiny' are ours."""
  scales = (0.32, 1.0), (0.05, 0.32)
  vit = dict(name='vit_large', layer_scale=1e-5, mask_token=True, drop_path_uniform=True)
  large = vit | dict(patch_size=14, mlp='swiglu', drop_path=0.4)
  # The authors' rates are for 1024 images and go with the root of their number: over 32 here.
  adamw = _distill.ADAMW | dict(batch_scaling='sqrt', patch_embed_multiplier=0.2)
  adamw |= dict(clip_by='module')
  common = _distill.COMMON | TERMS | dict(unit_prototypes=False)
  wide = dict(num_prototypes=131072, projector=(2048, 2048, 384))
  wide |= dict(num_patch_prototypes=131072)

  def imagenet(size=224, local=98, hold=1250, **settings):
    return (
      dict(
        encoder=large,
        batch_size=3072,
        epochs=0,
        optim=adamw
        | dict(
          learning_rate=2e-4 / 32,
          final_fraction=1e-6 / (2e-4 * 3**0.5),  # down to 1e-6
          weight_decay_final=0.2,
          warmup_fraction=80 / 500,
        ),
        method=common
        | wide
        | dict(
          momentum=0.994,
          teacher_temp_warmup=30 / 500,
          freeze_prototypes_steps=hold,
          views=_distill.multi_crop((size, local), 8, scales),
        ),
      )
      | settings
    )

  return ConfigDict(
    {
      'imagenet': lambda: imagenet(epochs=135),  # 625,000 steps in the authors' counting
      'imagenet_high_resolution': lambda: imagenet(
        518,
        196,
        hold=0,
        batch_size=2048,
        epochs=16,
        optim=adamw | dict(learning_rate=1e-5 / 32, weight_decay_final=0.2, warmup_fraction=0.0),
      ),
      'imagenet_short': lambda: dict(
        encoder=vit | dict(drop_path=0.3),
        batch_size=2048,
        epochs=100,
        optim=adamw
        | dict(learning_rate=4e-3 / 32, layer_decay=0.9, final_fraction=1e-6 / (4e-3 * 2**0.5)),
        method=common
        | dict(
          momentum=0.992,
          centering='center',
          separate_heads=False,
          num_prototypes=65536,
          freeze_prototypes_steps=1250,
          views=_distill.multi_crop((224, 96), 8, scales),
        ),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='vit_tiny', patch_size=4, layer_scale=1e-5, mask_token=True),
        batch_size=256,
        epochs=400,
        optim=_distill.ADAMW | dict(learning_rate=5e-4),
        method=common
        | dict(
          num_prototypes=4096,
          num_patch_prototypes=4096,
          freeze_prototypes_steps=195,
          views=_distill.multi_crop((32, 16), 6, scales),
        ),
      ),
      'tiny': lambda: dict(
        encoder=dict(name='vit_micro', layer_scale=0.1, mask_token=True),
        method=_distill.TINY_METHOD
        | TERMS
        | dict(
          num_prototypes=256,
          num_patch_prototypes=256,
          patch_projector=(128, 64),
          views=_distill.tiny_crops(),
        ),
        **_distill.TINY,
      ),
    }[preset]()
  )


def memory(config):
  """The centres, where codes are centred."""
  count = config.num_patch_prototypes if config.separate_heads else config.num_prototypes
  if config.centering not in CENTERINGS:
    raise InputError(
      f'method.centering is {config.centering!r}, wanted one of {", ".join(CENTERINGS)}'
    )
  if config.centering == 'sinkhorn':
    return {}
  return {'center': jnp.zeros(config.num_prototypes), 'patch_center': jnp.zeros(count)}


def total(config, state, z, batch, temp):
  """(loss, state with the centres moved, metrics)."""
  options = dict(student_temp=config.student_temp, teacher_temp=temp)
  hidden = [z[name].reshape(-1, *z[name].shape[2:]) for name in ('student_patch', 'teacher_patch')]
  counted = batch['counted'].reshape(-1, batch['counted'].shape[-1])
  center, patch_center = state.get('center'), state.get('patch_center')
  views, large = z['student'].shape[1], z['teacher'].shape[1]
  weight = jnp.where(jnp.arange(views) < large, 1.0, config.local_weight)
  found = {
    'class_loss': losses.dino(z['student'], z['teacher'], center, weight=weight, **options),
    'patch_loss': losses.ibot_patch(*hidden, counted, patch_center, **options),
    'koleo_loss': sum(losses.koleo(z['features'][:, v]) for v in range(large)),
  }
  loss = found['class_loss'] + config.patch_weight * found['patch_loss']
  loss += config.koleo_weight * found['koleo_loss']
  # Of the terms of the class loss large - 1 in views - 1 are of large crops.
  share = (large - 1 + config.local_weight * (views - large)) / (views - 1)
  metrics = found | _distill.codes_metrics(z['teacher'], center, temp, found['class_loss'] / share)
  if center is not None:
    moves = {'center': (z['teacher'], None), 'patch_center': (z['teacher_patch'], batch['counted'])}
    state = state | {
      name: losses.update_center(state[name], rows, where=where, momentum=config.center_momentum)
      for name, (rows, where) in moves.items()
    }
  return loss, state, metrics


def make(config, nets):
  teacher_temp = _distill.schedules(config)['teacher_temp']

  def objective(params, state, z, batch, rng, step):
    loss, state, metrics = total(config, state, z, batch, teacher_temp(step))
    return loss, (state, metrics)

  fields = _distill.parts(config, nets['encoder'], memory=lambda: memory(config), patches=True)
  return two_part(objective=objective, **fields)
