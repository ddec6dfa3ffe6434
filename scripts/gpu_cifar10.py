"""Trains ResNet-18 on CIFAR-10 with several methods, each for a given time, and writes what it got.

  python scripts/gpu_cifar10.py --data=cifar10.npz --minutes=6 --runs=runs/gpu \\
    --out=results/gpu_cifar10.json

Of each method's preset 'cifar' everything is kept but the batch size, the dtype (bfloat16) and the
epochs: a short run finds how many fit into the minutes, and the schedule is made for those.
"""

import argparse
import json
import pathlib
import shlex
import sys

from ssljax import cli, config, runtime, train, workdir
from ssljax.evaluators import protocols

METHODS = 'simclr,barlow_twins,byol,swav'


def command_line():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', required=True, help='.npz of images, see ssljax/data/npz.py')
  parser.add_argument('--minutes', type=float, required=True, help='training, for each method')
  parser.add_argument('--methods', default=METHODS)
  parser.add_argument('--encoder', default='resnet18')
  parser.add_argument('--batch_size', type=int, default=512)
  parser.add_argument('--compute_dtype', default='bfloat16')
  parser.add_argument('--trial_steps', type=int, default=60)
  parser.add_argument('--protocols', default='knn-v1')
  parser.add_argument('--runs', required=True, type=pathlib.Path)
  parser.add_argument('--out', required=True, type=pathlib.Path)
  return parser.parse_args()


def settings(args, method):
  c = config.get_config(f'{method},npz,preset=cifar,encoder={args.encoder}')
  c.data.path = args.data
  c.update(batch_size=args.batch_size, compute_dtype=args.compute_dtype, log_every=20)
  return c


def speed(args, method):
  """Images a second of a run that is only as long as it takes to know."""
  c = settings(args, method)
  c.update(steps=args.trial_steps, report=False)
  c.eval.protocols = ()
  return train.train(c, args.runs / f'{method}-trial')['images_per_second']


def learn(args, method):
  images = args.minutes * 60 * speed(args, method)
  c = settings(args, method)
  c.steps = max(round(images / args.batch_size), 1)
  c.update(checkpoint_every=max(c.steps // 4, 1), report=False)
  c.eval.protocols = tuple(args.protocols.split(','))
  c.eval.train_examples = 50000
  c.eval.baselines = ('random',)
  summary = train.train(c, args.runs / method)
  keep = (
    'method', 'encoder', 'steps', 'batch_size', 'seed', 'commit', 'device', 'images_per_second',
    'peak_memory_bytes', 'seconds', 'metrics', 'params_sha256', 'warnings',
  )  # fmt: skip
  return {name: summary[name] for name in keep} | {'minutes': args.minutes}


def run(_):
  args = command_line()
  args.out.parent.mkdir(parents=True, exist_ok=True)
  found = []
  for method in args.methods.split(','):
    print(f'== {method}', flush=True)
    found.append(learn(args, method))
    result = {
      'title': f'CIFAR-10, {args.encoder}, {args.minutes:g} minutes of training a method',
      'command': shlex.join(['python', 'scripts/gpu_cifar10.py', *sys.argv[1:]]),
      'compute_dtype': args.compute_dtype,
      'versions': runtime.versions(),
      'run_protocols': {name: protocols.describe(name) for name in args.protocols.split(',')},
      'runs': found,
    }
    workdir.write_json(args.out, result)
    print(json.dumps(found[-1], indent=1), flush=True)


if __name__ == '__main__':
  cli.run(run)
