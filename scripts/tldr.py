"""What is left of neighbourhoods at 32 dimensions, TLDR against PCA, in one result file.

  python scripts/tldr.py --data=fashion_mnist.npz,citeseer.npz [--dim=32] [--seeds=0,1,2] \
    [--out=results/tldr.json] [-- epochs=40.0 method__num_neighbors=10]

A file has train_x, train_y, test_x and test_y; or one set of sparse vectors (x_indptr, x_indices,
x_data, x_shape, and y, -1 for no class), whose fifth part, drawn by seed 0, are the queries. Images
are flattened, and all vectors made of length one. At most 10,000 training vectors are the database
and what is learned from, at most 2,000 test vectors the queries. Words after -- are settings of
`ssljax.reduce`, whose preset is 'tiny'. Each number is the mean over seeds; PCA has none.

  recall:    of the 10 nearest by the full vectors, how many are among the 10 nearest by the reduced
             ones, by Euclidean distance or by cosine
  precision: of the 50 nearest by cosine, how many are of the query's class
  knn-v1:    accuracy of that protocol
"""

import argparse
import ast
import json
import pathlib
import shlex
import statistics
import sys
import time

import numpy as np

from ssljax import cli, ops, runtime
from ssljax.errors import InputError
from ssljax.evaluators import knn_v1
from ssljax.reduce import reduce

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAIN, TEST = 10_000, 2_000


def load(path):
  """(train vectors, train labels, test vectors, test labels) of a file."""
  with np.load(path, allow_pickle=False) as file:
    if 'train_x' in file:
      parts = [file[name] for name in ('train_x', 'train_y', 'test_x', 'test_y')]
    elif 'x_indptr' in file:
      parts = _split(_dense(file), file['y'])
    else:
      raise InputError(f'{path} has {", ".join(file)}: wanted train_x, or x_indptr')
  train_x, train_y, test_x, test_y = parts
  train_x, test_x = (
    np.asarray(ops.l2_normalize(x.reshape(len(x), -1).astype(np.float32)))
    for x in (train_x[:TRAIN], test_x[:TEST])
  )
  return train_x, train_y[:TRAIN].astype(np.int32), test_x, test_y[:TEST].astype(np.int32)


def _dense(file):
  import scipy.sparse

  parts = file['x_data'], file['x_indices'], file['x_indptr']
  return scipy.sparse.csr_matrix(parts, shape=tuple(file['x_shape'])).toarray()


def _split(x, y):
  rows = np.random.default_rng(0).permutation(np.flatnonzero(y >= 0))
  train, test = np.split(rows, [len(rows) * 4 // 5])
  return x[train], y[train], x[test], y[test]


def near(queries, keys, k, distance):
  if distance == 'cosine':
    return np.asarray(ops.nearest(ops.l2_normalize(queries), ops.l2_normalize(keys), k)[1])
  mean = keys.mean(0)
  queries, keys = queries - mean, keys - mean
  queries = np.pad(queries, ((0, 0), (0, 1)), constant_values=1)
  keys = np.concatenate([keys, -(keys**2).sum(1, keepdims=True) / 2], 1)
  return np.asarray(ops.nearest(queries, keys, k)[1])


def measure(train, test, truth, train_y, test_y):
  def recall(distance):
    found = near(test, train, 10, distance)
    return float((found[:, :, None] == truth[:, None]).any(1).mean())

  same = train_y[near(test, train, 50, 'cosine')] == test_y[:, None]
  classes = int(max(train_y.max(), test_y.max())) + 1
  return {
    'recall_euclidean': recall('euclidean'),
    'recall_cosine': recall('cosine'),
    'precision': float(same.mean()),
    'knn-v1': knn_v1(train, train_y, test, test_y, num_classes=classes),
  }


def compare(path, dim, seeds, settings):
  from sklearn.decomposition import PCA

  train, train_y, test, test_y = load(path)
  truth = near(test, train, 10, 'cosine')

  def judged(smaller):
    return measure(smaller(train), smaller(test), truth, train_y, test_y)

  rows = {'full': judged(lambda x: x)}
  for name, whiten in {'pca': False, 'pca whitened': True}.items():
    fitted = PCA(dim, whiten=whiten, random_state=0).fit(train)
    rows[name] = judged(lambda x, fitted=fitted: fitted.transform(x).astype(np.float32))
  begun = time.perf_counter()
  runs = [judged(reduce(train, dim, seed=seed, **settings)) for seed in seeds]
  seconds = (time.perf_counter() - begun) / len(runs)
  rows['tldr'] = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
  spread = {
    key: statistics.stdev(run[key] for run in runs) if len(runs) > 1 else 0.0 for key in runs[0]
  }
  for name, row in rows.items():
    print(f'{path.stem:16} {name:14}', *(f'{k} {v:.3f}' for k, v in row.items()), flush=True)
  return {
    'data': path.stem,
    'train': list(train.shape),
    'queries': len(test),
    'dim': dim,
    'rows': rows,
    'tldr_stdev': spread,
    'tldr_seconds': round(seconds, 1),
  }


def command_line():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', required=True, help='.npz files, with commas between')
  parser.add_argument('--dim', type=int, default=32)
  parser.add_argument('--seeds', default='0,1,2')
  parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'results' / 'tldr.json')
  words = sys.argv[1:]
  cut = words.index('--') if '--' in words else len(words)
  pairs = (word.split('=', 1) for word in words[cut + 1 :])
  return parser.parse_args(words[:cut]), {name: ast.literal_eval(v) for name, v in pairs}


def run(_):
  args, settings = command_line()
  seeds = [int(s) for s in args.seeds.split(',')]
  result = {
    'title': f'Neighbours kept at {args.dim} dimensions',
    'protocol': __doc__.split('\n\n', 2)[2].strip(),
    'command': shlex.join(['python', 'scripts/tldr.py', *sys.argv[1:]]),
    'commit': runtime.commit(),
    'versions': runtime.versions(),
    'settings': settings,
    'seeds': seeds,
    'sets': [
      compare(pathlib.Path(path), args.dim, seeds, settings) for path in args.data.split(',')
    ],
  }
  args.out.parent.mkdir(parents=True, exist_ok=True)
  args.out.write_text(json.dumps(result, indent=1) + '\n')
  print(f'wrote {args.out}')


if __name__ == '__main__':
  cli.run(run)
