"""iBOT: DINO, and the same for patches that are hidden from the student.

    some patches of the large crops are replaced by a mask token, for the student alone
    class:   s, t of the class tokens as in DINO, each crop predicting the others, losses.dino
    patches: of one and the same crop, s_i = head(student)_i, t_i = head'(teacher)_i at the hidden
             places, losses.ibot_patch
    loss = class + patch_weight patches; one centre for each; the teacher is a moving average

Zhou et al. 2022, "iBOT: Image BERT pre-training with online tokenizer". Follows the authors'
PyTorch code, with one head for class token and patches (separate_heads for one each); the centre
of the patches is of all of them, hidden or not. Masks are laid as in ops.block_mask, with as many
patches as their ratio says: the code stops where no block fits any more. Its pred_ratio 0 and 0.3,
pred_ratio_var 0 and 0.2 are mask_prob and mask_ratio here, its pred_shape is mask_shape.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses
from ssljax.method import two_part
from ssljax.methods.image import _distill, _hide

PAPER = 'Zhou et al. 2022, iBOT: Image BERT pre-training with online tokenizer'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet': ViT-S/16, section 4 and the authors' command; 'cifar' and 'tiny' are ours."""
  common = _hide.MASKS | dict(
    separate_heads=False,
    num_patch_prototypes=8192,  # and patch_projector, of a head of their own
    patch_projector=(2048, 2048, 256),
    patch_weight=1.0,
    center_momentum=0.9,
    patch_size=config_dict.placeholder(int),
    total_steps=config_dict.placeholder(int),
  )
  adamw = dict(learning_rate=5e-4, final_fraction=5e-4, **_distill.ADAMW)
  scales = (0.25, 1.0), (0.05, 0.25)
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='vit_small', drop_path=0.1, mask_token=True),
        batch_size=1024,
        epochs=800,
        optim=adamw | dict(warmup_fraction=10 / 800),
        method=_distill.COMMON
        | common
        | dict(
          num_prototypes=8192,
          unit_prototypes=False,
          teacher_temp_warmup=30 / 800,
          views=_distill.multi_crop((224, 96), 10, scales),
        ),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='vit_tiny', patch_size=4, mask_token=True),
        batch_size=256,
        epochs=400,
        optim=adamw,
        method=_distill.COMMON
        | common
        | dict(
          num_prototypes=4096,
          freeze_prototypes_steps=195,
          views=_distill.multi_crop((32, 16), 6, scales),
        ),
      ),
      'tiny': lambda: dict(
        encoder=dict(name='vit_micro', mask_token=True),
        method=_distill.TINY_METHOD
        | common
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


def make(config, nets):
  teacher_temp = _distill.schedules(config)['teacher_temp']
  num_patch = config.num_patch_prototypes if config.separate_heads else config.num_prototypes

  def memory():
    return {'center': jnp.zeros(config.num_prototypes), 'patch_center': jnp.zeros(num_patch)}

  def objective(params, state, z, batch, rng, step):
    options = dict(student_temp=config.student_temp, teacher_temp=teacher_temp(step))
    one = losses.dino(z['student'], z['teacher'], state['center'], **options)
    hidden = [
      z[name].reshape(-1, *z[name].shape[2:]) for name in ('student_patch', 'teacher_patch')
    ]
    counted = batch['counted'].reshape(-1, batch['counted'].shape[-1])
    patch = losses.ibot_patch(*hidden, counted, state['patch_center'], **options)
    metrics = _distill.codes_metrics(z['teacher'], state['center'], options['teacher_temp'], one)
    state = {
      **state,
      'center': losses.update_center(
        state['center'], z['teacher'], momentum=config.center_momentum
      ),
      'patch_center': losses.update_center(
        state['patch_center'], z['patch_mean'], momentum=config.center_momentum
      ),
    }
    return one + config.patch_weight * patch, (
      state,
      metrics | {'class_loss': one, 'patch_loss': patch},
    )

  fields = _distill.parts(
    config, nets['encoder'], memory=memory, patches=True, more=('patch_mean',)
  )
  return two_part(objective=objective, **fields)
