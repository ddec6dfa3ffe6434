"""Who may import whom, and the style that a machine can check."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'ssljax'

# For each layer, what its modules may import at all, ssljax's own modules by their first part.
ARRAYS = {'jax', 'numpy', 'optax', 'chex', 'ml_collections'}
ALLOWED = {
  'losses': ARRAYS | {'ssljax.ops', 'ssljax.losses', 'ssljax.errors'},
  'ops': ARRAYS | {'ssljax.ops', 'ssljax.errors'},
  'discovery': ARRAYS
  | {'scipy', 'ssljax.ops', 'ssljax.discovery', 'ssljax.evaluators', 'ssljax.errors'},
  'embedding': ARRAYS | {'scipy', 'sklearn', 'ssljax.losses', 'ssljax.embedding', 'ssljax.errors'},
  'partition': {'numpy', 'ssljax.errors'},
  'augment': ARRAYS | {'ssljax.ops', 'ssljax.augment', 'ssljax.errors'},
  'models': ARRAYS | {'flax', 'ssljax.ops', 'ssljax.models', 'ssljax.net', 'ssljax.errors'},
  'methods': ARRAYS
  | {f'ssljax.{layer}' for layer in ('losses', 'ops', 'augment', 'models', 'methods')}
  | {'ssljax.method', 'ssljax.net', 'ssljax.errors'},
}
# Modules of these layers that are imported when the layer is, not inside a function.
HEAVY = {'matplotlib', 'sklearn', 'tensorflow_datasets', 'tensorboardX', 'umap', 'grain'}


def imports(path, top_level_only=False):
  tree = ast.parse(path.read_text())
  nodes = tree.body if top_level_only else ast.walk(tree)
  for node in nodes:
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      if node.module == 'ssljax':
        yield from (f'ssljax.{alias.name}' for alias in node.names)
      else:
        yield node.module


def shortened(name):
  parts = name.split('.')
  return '.'.join(parts[:2]) if parts[0] == 'ssljax' else parts[0]


def modules(layer=''):
  found = sorted((PACKAGE / layer).rglob('*.py'))
  assert found
  return found


@pytest.mark.parametrize('layer', ALLOWED)
def test_layers_import_only_what_lies_below(layer):
  standard = sys.stdlib_module_names
  for path in modules(layer):
    for name in map(shortened, imports(path)):
      assert name in ALLOWED[layer] or name in standard, f'{path.relative_to(ROOT)} imports {name}'


def test_nothing_imports_main_and_train_names_no_method():
  for path in modules():
    names = set(imports(path))
    assert 'ssljax.main' not in names, path
    if path.parent == PACKAGE and path.name in ('train.py', 'program.py', 'probing.py'):
      assert not any(name.startswith('ssljax.methods.') for name in names), path
      text = path.read_text()
      named = [p.stem for p in modules('methods') if p.stem.strip('_') and p.stem in text.split()]
      assert not [n for n in named if not n.startswith('_')], path


def test_data_imports_no_jax_and_nothing_heavy_is_imported_early():
  for path in modules('data'):
    names = {name.split('.')[0] for name in imports(path, top_level_only=True)}
    assert 'jax' not in names, path
  for path in modules():
    early = {name.split('.')[0] for name in imports(path, top_level_only=True)}
    assert not early & HEAVY, f'{path.relative_to(ROOT)}: {early & HEAVY}'


def test_importing_the_losses_starts_no_backend():
  code = (
    'import sys, ssljax.losses, ssljax.main, jax\n'
    'from jax._src import xla_bridge\n'
    'assert not xla_bridge.backends_are_initialized()\n'
    "assert not {'flax', 'grain', 'matplotlib', 'sklearn'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


@pytest.mark.parametrize('words', [('check',), ('format', '--check')])
def test_ruff(words):
  done = subprocess.run(
    [sys.executable, '-m', 'ruff', *words, '.'], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr


def test_modules_stay_short():
  for path in modules():
    lines = len(path.read_text().splitlines())
    assert lines <= 350, f'{path.relative_to(ROOT)} has {lines} lines'
