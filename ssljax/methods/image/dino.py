"""DINO: a student's crops predict the prototypes in which its moving average puts other crops.

    s = head(encoder(crop)) of all crops, t = head'(encoder'(crop)) of the large ones
    loss = mean over crops a != v of  -softmax((t_a - c) / T_t) . log softmax(s_v / T_s),
    see losses.dino
    c <- m c + (1 - m) mean t,  teacher <- moving average of the student, its decay rising to 1

Caron et al. 2021, "Emerging properties in self-supervised vision transformers". Follows the
authors' PyTorch code; the teacher's temperature rises with each step there with each epoch.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses
from ssljax.method import two_part
from ssljax.methods.image import _distill

PAPER = 'Caron et al. 2021, Emerging properties in self-supervised vision transformers'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet': ViT-S/16, 300 epochs, 10 local crops, section 3.2 and appendix B; 'cifar' and
  'tiny' are ours."""
  common = dict(center_momentum=0.9, total_steps=config_dict.placeholder(int))
  # Down to 1e-6, from 2e-3 with 1024 images.
  adamw = dict(learning_rate=5e-4, final_fraction=5e-4, **_distill.ADAMW)
  scales = (0.25, 1.0), (0.05, 0.25)
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='vit_small', drop_path=0.1),
        batch_size=1024,
        epochs=300,
        optim=adamw | dict(warmup_fraction=10 / 300),
        method=_distill.COMMON
        | common
        | dict(
          num_prototypes=65536,
          unit_prototypes=False,
          teacher_temp_warmup=0.1,  # 30 epochs
          views=_distill.multi_crop((224, 96), 10, scales),
        ),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='vit_tiny', patch_size=4),
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
        encoder=dict(name='vit_micro'),
        method=_distill.TINY_METHOD
        | common
        | dict(num_prototypes=256, views=_distill.tiny_crops()),
        **_distill.TINY,
      ),
    }[preset]()
  )


def make(config, nets):
  teacher_temp = _distill.schedules(config)['teacher_temp']

  def memory():
    return {'center': jnp.zeros(config.num_prototypes)}

  def objective(params, state, z, batch, rng, step):
    center, temp = state['center'], teacher_temp(step)
    loss = losses.dino(
      z['student'], z['teacher'], center, student_temp=config.student_temp, teacher_temp=temp
    )
    metrics = _distill.codes_metrics(z['teacher'], center, temp, loss)
    center = losses.update_center(center, z['teacher'], momentum=config.center_momentum)
    metrics['chance_loss'] = jnp.log(float(config.num_prototypes))
    return loss, ({**state, 'center': center}, metrics)

  return two_part(objective=objective, **_distill.parts(config, nets['encoder'], memory=memory))
