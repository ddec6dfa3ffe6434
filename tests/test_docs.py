"""The worked examples of CONTRIBUTING.md work, and the README claims what the result files hold."""

import importlib
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import config, data, losses, methods, program, sharding

ROOT = pathlib.Path(__file__).resolve().parent.parent


def examples():
  text = (ROOT / 'CONTRIBUTING.md').read_text()
  return dict(re.findall(r'```python file=(\S+)\n(.*?)```', text, flags=re.S))


def test_contributing_examples(tmp_path, monkeypatch):
  found = examples()
  assert len(found) == 3
  for path, code in found.items():
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
  package = importlib.import_module('ssljax.methods.image')
  for module, folder in ((package, 'methods/image'), (data, 'data')):
    where = [*module.__path__, str(tmp_path / 'ssljax' / folder)]
    monkeypatch.setattr(module, '__path__', where)

  scope = {}
  exec(compile(found['ssljax/losses/_contrastive.py'], 'align_uniform', 'exec'), scope)
  loss = scope['align_uniform']
  monkeypatch.setattr(losses, 'align_uniform', loss, raising=False)
  z1, z2 = np.random.default_rng(0).normal(size=(2, 12, 5))
  u1, u2 = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (z1, z2))
  wanted = ((u1 - u2) ** 2).sum(1).mean()
  for u in (u1, u2):
    squared = ((u[:, None] - u) ** 2).sum(-1)
    wanted += np.log(np.exp(-2 * squared)[~np.eye(12, dtype=bool)].mean()) / 2
  np.testing.assert_allclose(loss(z1, z2), wanted, rtol=1e-5)
  assert loss(z1, z1) < loss(z1, z2)
  same = jnp.ones((12, 5))
  assert loss(same, same) > loss(z1, z1)

  assert 'align_uniform' in methods.available()
  c = config.get_config('align_uniform,blobs')
  c.encoder.width, c.batch_size = 8, 16
  source = data.load(c.data, 'train')
  run = program.make_program(c, sharding.make_mesh(8), source, steps=4)
  batch = {'image': source.arrays['image'][:16], 'index': np.arange(16, dtype=np.int32)}
  batch = sharding.put_batch(batch, run.mesh)
  state, metrics = run.step(run.init(jax.random.key(0)), batch, {}, jax.random.key(0))
  assert np.isfinite(metrics['loss']) and int(state.step) == 1


def test_ci_runs_the_readme_command():
  readme = (ROOT / 'README.md').read_text()
  commands = [line for line in readme.splitlines() if line.startswith('pip install')]
  assert len(commands) == 2
  assert 'ssljax.main' in commands[0] and 'pytest' in commands[1]
  assert 'README.md' in (ROOT / '.ci' / 'run').read_text()


@pytest.mark.parametrize(
  ('script', 'page'), [('tables.py', 'README.md'), ('methods_page.py', 'docs/methods.md')]
)
def test_generated_pages_are_up_to_date(script, page):
  done = subprocess.run(
    [sys.executable, ROOT / 'scripts' / script, '--check'], capture_output=True, text=True
  )
  assert done.returncode == 0, f'{page} is out of date: python scripts/{script}' + done.stderr
