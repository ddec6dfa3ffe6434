"""Compares losses with the numbers of the authors' code and writes how near they come.

  python scripts/goldens.py --out=results/goldens.json

The numbers are found as the tests find them (see tests/conftest.py). An error is the largest
difference of an array, in float64, by the norm of the wanted one.
"""

import argparse
import importlib
import json
import os
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import runtime

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tests'))


def cases_of(path):
  """The cases of one file of numbers, as the tests' fixture `golden` gives them."""
  cases = {}
  with np.load(path, allow_pickle=False) as file:
    for key in file.files:
      case, group, name = key.split('.', 2)
      empty = {k: {} for k in ('in', 'hp', 'w', 'out', 'grad')}
      cases.setdefault(case, empty)[group][name] = file[key]
  return [cases[k] for k in sorted(cases, key=lambda k: int(k.removeprefix('case')))]


def error(seen, wanted):
  pairs = zip(jax.tree.leaves(seen), jax.tree.leaves(wanted), strict=True)
  return max(
    (
      float(np.linalg.norm(np.ravel(np.asarray(a, np.float64) - b)) / max(np.linalg.norm(b), 1e-9))
      for a, b in pairs
    ),
    default=0.0,
  )


def compare(golden, cases):
  """Largest errors of value, gradients and what is left behind, over the cases of one file."""
  found = {'cases': 0, 'value': 0.0, 'gradient': 0.0, 'state': None}
  for case in cases:
    numbers = golden(case)
    if numbers is None:
      continue
    arrays = [
      jnp.asarray(x, 'float64' if np.issubdtype(x.dtype, np.floating) else 'int32')
      for x in map(np.asarray, numbers.arrays)
    ]
    has_aux = numbers.aux is not None
    trained = tuple(range(len(numbers.grads)))
    step = jax.jit(jax.value_and_grad(numbers.loss, argnums=trained, has_aux=has_aux))
    value, grads = step(*arrays)
    if has_aux:
      value, aux = value
      found['state'] = max(found['state'] or 0.0, error(aux, numbers.aux))
    found['cases'] += 1
    found['value'] = max(found['value'], error(value, numbers.value))
    found['gradient'] = max(found['gradient'], error(list(grads), numbers.grads))
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, required=True)
  args = parser.parse_args()
  shared = pathlib.Path(os.environ.get('SSLJAX_SHARED', ROOT.parent / 'shared'))
  jax.config.update('jax_enable_x64', True)
  found = {}
  for path in sorted((ROOT / 'tests').glob('cases_*.py')):
    for slug, golden in importlib.import_module(path.stem).GOLDENS.items():
      file = shared / 'goldens' / f'{slug}.npz'
      if not file.is_file():
        sys.exit(f'there are no numbers at {file}')
      found[slug] = compare(golden, cases_of(file))
      print(slug, found[slug], flush=True)
  result = {
    'title': "Losses against the authors' code",
    'command': 'python scripts/goldens.py ' + ' '.join(sys.argv[1:]),
    'commit': runtime.commit(),
    'versions': runtime.versions(),
    'goldens': dict(sorted(found.items())),
  }
  args.out.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
  main()
