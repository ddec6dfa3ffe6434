"""Loss, gradients and state are those of the global batch, however it is spread.

Every method on eight devices is in test_contract.
"""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from conftest import QUICK_TO_COMPILE
from jax.sharding import NamedSharding

from ssljax import flops, models, sharding
from ssljax.models import conv

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


def test_fsdp_gathers_parameters_and_not_the_batch():
  """Left to itself XLA has all rows of the batch on every device inside a scan over layers."""
  mesh, config = sharding.make_mesh(1, 8), models.get_config('vit_micro')
  config.update({'scan': True, 'depth': 2, 'image_size': 32, 'patch_size': 8})
  net = models.make(config, dtype=jnp.float32)
  image = jax.ShapeDtypeStruct((256, 32, 32, 3), jnp.float32)
  params, _ = jax.eval_shape(net.init, jax.random.key(0), image)
  places = sharding.state_shardings(params, mesh, min_size=1), NamedSharding(mesh, sharding.BATCH)

  def loss(params, x):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return (net.apply(params, {}, x, train=True)[0]['features'] ** 2).mean()

  text = jax.jit(jax.grad(loss), in_shardings=places).lower(params, image).compile().as_text()
  tokens = 16 + config.class_token
  assert f'[32,{tokens},' in text and f'[256,{tokens},' not in text


def test_flops_of_loops_branches_and_convolutions():
  x, w = jnp.zeros((8, 16)), jnp.zeros((5, 16, 16))
  image, kernel = jnp.zeros((2, 16, 16, 3)), jnp.zeros((3, 3, 3, 4))

  def layers(x, w):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

  def either(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda: layers(x, w), lambda: x @ w[0])

  def unused(x, w):
    x @ w[0]
    return x @ w[1]

  def convolved(image, kernel):
    return conv.conv2d_xla(image, kernel, strides=(2, 2), padding=(1, 1))

  once = 2 * 8 * 16 * 16
  pixels = 2 * (2 * 8 * 8 * 4) * (3 * 3 * 3)
  square = lambda f: lambda *xs: (f(*xs) ** 2).sum()  # noqa: E731
  for function, arrays, wanted in (
    (layers, (x, w), 5 * once),
    (jax.grad(square(layers), (0, 1)), (x, w), 3 * 5 * once),
    (jax.vmap(layers, (None, 0)), (x, w[None]), 5 * once),
    (either, (x, w), 5 * once),
    (unused, (x, w), once),
    (convolved, (image, kernel), pixels),
    (jax.grad(square(convolved), (0, 1)), (image, kernel), 3 * pixels),
  ):
    assert flops.count(jax.make_jaxpr(function)(*arrays).jaxpr) == wanted
