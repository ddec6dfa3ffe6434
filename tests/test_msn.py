"""What of MSN neither the losses' suite nor the contract sees."""

import jax
import numpy as np
import pytest
import small

from ssljax import methods
from ssljax.errors import InputError


def test_schedules_are_those_of_a_run_a_quarter_longer():
  settings = methods.load('msn').get_config('imagenet').method
  settings.total_steps = 1000
  settings.sharpen_final = 0.5
  moving = methods.load('msn').schedules(settings)
  for step, sharpen, momentum in (
    (0, 0.25, 0.996), (1, 0.25 + 0.25 / 1250, 0.996 + 0.004 / 1250), (500, 0.35, 0.9976),
    (1000, 0.45, 0.9992),
  ):  # fmt: skip
    np.testing.assert_allclose(moving['sharpen'](step), sharpen, rtol=1e-6)
    np.testing.assert_allclose(moving['momentum'](step), momentum, rtol=1e-6)


def test_each_view_of_each_image_keeps_patches_of_its_own():
  program = small.make('msn')
  views = jax.jit(program.method.views)(small.key(), small.seen(program))
  keep = np.asarray(views['keep'])
  assert keep.shape == (small.ROWS, 1, 12)  # three quarters of 16 patches
  assert all(len(set(row)) == 12 for row in keep[:, 0])
  assert len({tuple(sorted(row)) for row in keep[:, 0]}) > small.ROWS // 2


def test_a_share_that_drops_everything_is_an_error():
  config = methods.load('msn').get_config('tiny').method
  config.update(total_steps=8, patch_size=4, patch_drop=1.0)
  with pytest.raises(InputError, match='patch_drop is 1.0'):
    methods.load('msn').make(config, {'encoder': None})
