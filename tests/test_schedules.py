"""What moves during a run of DINO's family, at its first, second, middle and last step, by hand.

The tables are of the papers' settings (preset 'imagenet') in a run of 1000 steps.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import losses, methods, models, optim
from ssljax.methods.image import _distill

STEPS = 1000
# A cosine from a to b is at a + (b - a) (1 - cos(pi k / K)) / 2, which is 2.467e-6 (b - a) above a
# at the first of 1000 steps.
SLIGHT = 2.4674e-6
TABLE = {
  # name: {what: values at steps 0, 1, 500 and 1000}
  'dino': {
    # 0.04 to 0.07 in 30 of 300 epochs: over 100 steps
    'teacher_temp': (0.04, 0.04 + 0.03 / 100, 0.07, 0.07),
    'momentum': (0.996, 0.996 + 0.004 * SLIGHT, 0.998, 1.0),
    'weight_decay': (0.04, 0.04 + 0.36 * SLIGHT, 0.22, 0.4),
    # 5e-4 for 256 images, so 2e-3 for 1024; 10 of 300 epochs, 33 steps, of warm-up; ends at 1e-6
    'learning_rate': (0.0, 2e-3 / 33, 1.054053e-03, 1e-6),
  },
  'ibot': {
    'teacher_temp': (0.04, 0.04 + 0.03 / 37.5, 0.07, 0.07),  # 30 of 800 epochs
    'momentum': (0.996, 0.996 + 0.004 * SLIGHT, 0.998, 1.0),
    'weight_decay': (0.04, 0.04 + 0.36 * SLIGHT, 0.22, 0.4),
    'learning_rate': (0.0, 2e-3 / 12, 1.019568e-03, 1e-6),  # 10 of 800 epochs: 12 steps
  },
  'dinov2': {
    'teacher_temp': (0.04, 0.04 + 0.03 / 60, 0.07, 0.07),  # 30 of 500 epochs
    'momentum': (0.994, 0.994 + 0.006 * SLIGHT, 0.997, 1.0),
    'weight_decay': (0.04, 0.04 + 0.16 * SLIGHT, 0.12, 0.2),
    # 2e-4 for 1024 images, with the root of their number: sqrt(3) of it for 3072; 80 of 500 epochs
    'learning_rate': (0.0, 2e-4 * 3**0.5 / 160, 2.246108e-04, 1e-6),
  },
  'dinov3': {
    'teacher_temp': (0.04, 0.04 + 0.03 / 100, 0.07, 0.07),
    'momentum': (0.994, 0.994, 0.994, 0.994),
    'weight_decay': (0.04, 0.04, 0.04, 0.04),
    # 4 x 5e-5 for 1024 images, with the root of their number: twice that for 4096
    'learning_rate': (0.0, 4e-4 / 100, 4e-4, 4e-4),
  },
}


def found(name):
  settings = methods.load(name).get_config('imagenet')
  settings.method.total_steps = STEPS
  config = optim.get_config(**settings.optim)
  decay = optim.make_decay(config, total_steps=STEPS)
  return _distill.schedules(settings.method) | {
    'weight_decay': decay if callable(decay) else lambda step: decay,
    'learning_rate': optim.make_schedule(config, total_steps=STEPS, batch_size=settings.batch_size),
  }


@pytest.mark.parametrize('name', TABLE)
def test_schedules_are_the_papers(name):
  schedules = found(name)
  for what, wanted in TABLE[name].items():
    for step, value in zip((0, 1, 500, STEPS), wanted, strict=True):
      seen = float(schedules[what](step))
      assert math.isclose(seen, value, rel_tol=5e-6, abs_tol=1e-9), (what, step, seen, value)


@pytest.mark.parametrize('name', TABLE)
def test_the_teacher_moves_by_the_schedule(name):
  settings = methods.load(name).get_config('imagenet').method
  settings.total_steps = STEPS
  if 'patch_size' in settings:
    settings.patch_size = 16
  encoder = models.make(models.get_config('vit_micro'), dtype=jnp.float32)
  made = methods.load(name).make(settings, {'encoder': encoder})
  for step, kept in zip((0, 1, 500, STEPS), TABLE[name]['momentum'], strict=True):
    student, teacher = ({'encoder': {'w': jnp.full((), value)}} for value in (1.0, 0.0))
    state = {'target': {'params': teacher}, 'anchor': teacher}  # the last one DINOv3's
    moved = made.update(student, state, step)['target']['params']['encoder']['w']
    np.testing.assert_allclose(moved, 1 - kept, rtol=1e-4, atol=1e-9)


def test_a_center_follows_the_teacher():
  # Nine tenths of the old and a tenth of the mean, twice.
  center, teacher = jnp.array([1.0, 0.0]), jnp.array([[[0.0, 4.0]], [[2.0, 0.0]]])
  center = losses.update_center(center, teacher)
  np.testing.assert_allclose(center, [1.0, 0.2], rtol=1e-6)
  counted = jnp.array([[True], [False]])
  center = losses.update_center(center, teacher, where=counted)
  np.testing.assert_allclose(center, [0.9, 0.58], rtol=1e-6)
  none = losses.update_center(center, teacher, where=~counted & False)
  np.testing.assert_allclose(none, center)
  # On TPUs and recent GPUs a product has three digits unless it asks for more.
  assert 'HIGHEST' in str(jax.make_jaxpr(losses.update_center)(center, teacher))
