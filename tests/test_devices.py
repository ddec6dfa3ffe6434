"""Loss, gradients and state are those of the global batch, however it is spread.

Every method on eight devices is in test_contract.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import small
from conftest import QUICK_TO_COMPILE

ROOT = pathlib.Path(__file__).resolve().parent.parent
METHODS = ('simclr', 'byol', 'mae')
STEPS = 20


def one_device(name):
  return small.trace(name, 1, 1, steps=STEPS)


@pytest.mark.parametrize('mesh', [(2, 1), (1, 2), (4, 1), (2, 2), (8, 1), (4, 2)])
@pytest.mark.parametrize('name', METHODS)
def test_meshes(name, mesh):
  small.assert_same(small.trace(name, *mesh, steps=STEPS), one_device(name))


@pytest.mark.parametrize('name', METHODS)
def test_two_processes_with_four_devices_each(name, tmp_path):
  command = [
    sys.executable, ROOT / 'scripts' / 'launch_local.py', '--processes=2', '--',
    sys.executable, ROOT / 'tests' / 'worker.py', name, '2', str(STEPS), tmp_path / 'out.npz',
  ]  # fmt: skip
  env = os.environ | {'XLA_FLAGS': '--xla_force_host_platform_device_count=4' + QUICK_TO_COMPILE}
  done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
  assert done.returncode == 0, done.stderr[-2000:]
  with np.load(tmp_path / 'out.npz') as seen:
    small.assert_same(dict(seen), one_device(name))
