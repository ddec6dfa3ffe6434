"""Eight fake devices, one compilation cache, and where the numbers and data to compare with are
found."""

import gc
import os
import pathlib
import sys

# Tests run small arrays once: compiling is what they spend their time on.
QUICK_TO_COMPILE = (
  ' --xla_backend_optimization_level=0'
  ' --xla_cpu_parallel_codegen_split_count=1'
  ' --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters'
)
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8' + QUICK_TO_COMPILE
)

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get('SSLJAX_SHARED', ROOT.parent / 'shared'))


@pytest.fixture(scope='session')
def golden():
  """slug -> cases {'in': {...}, 'hp', 'w' (weights), 'out', 'grad'} from the authors' code."""

  def load(slug):
    path = SHARED / 'goldens' / f'{slug}.npz'
    if not path.exists():
      pytest.skip(f'no golden numbers at {path}')
    cases = {}
    with np.load(path, allow_pickle=False) as file:
      for key in file.files:
        case, group, name = key.split('.', 2)
        cases.setdefault(case, {k: {} for k in ('in', 'hp', 'w', 'out', 'grad')})[group][name] = (
          file[key]
        )
    return [cases[k] for k in sorted(cases, key=lambda k: int(k.removeprefix('case')))]

  return load


@pytest.fixture(scope='session')
def shared_data():
  """File name -> path of a real data set; skips where the folder is absent."""

  def find(name):
    path = SHARED / 'data' / name
    if not path.exists():
      pytest.skip(f'no real data at {path}')
    return path

  return find


# Files of minutes with few tests: begun last, they would leave the other workers idle.
LONGEST = ('test_runs', 'test_notebooks', 'test_devices', 'test_errors', 'test_parity')


def pytest_configure(config):
  if hasattr(config.option, 'loadscopereorder'):  # pytest-xdist's: groups of many tests first
    config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Tests that share compiled programs, a file's or a method's or a loss's, run one after another
  in one worker, the longest files first."""
  groups = {}
  for item in items:
    name = getattr(item, 'callspec', None) and item.callspec.params.get('name')
    grouped = item.path.stem in ('test_contract', 'test_losses') and name
    group = f'{item.path.stem} {name if grouped else ""}'
    item.add_marker(pytest.mark.xdist_group(group))
    groups.setdefault(group, []).append(item)
  ordered = sorted(groups.items(), key=lambda group: group[0].strip() not in LONGEST)
  items[:] = [item for _, group in ordered for item in group]


GROUP = pytest.StashKey()


def pytest_runtest_setup(item):
  """Forgets the compiled programs of the group before: with all of them in it, a process dies."""
  group = item.get_closest_marker('xdist_group').args[0]
  if item.session.stash.get(GROUP, group) != group:
    for name, caches in {
      'small': ('_make', 'gradient', 'value', 'viewed', 'trace'),
      'losscheck': ('compiled',),
    }.items():
      if name in sys.modules:
        for cache in caches:
          getattr(sys.modules[name], cache).cache_clear()
    jax.clear_caches()
    gc.collect()
  item.session.stash[GROUP] = group
