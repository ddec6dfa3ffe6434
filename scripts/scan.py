"""SCAN in three chained runs, and how well each stage's clusters match the labels.

  python scripts/scan.py --data=npz,preset=tiny --name=fashion_mnist --runs=runs/scan \
    -- --config.data.path=fashion_mnist.npz

simclr gives the features; scan puts neighbours in them into clusters; scan labels itself. Accuracy
(of the best matching of clusters to classes), NMI and ARI on the test split are written to
results/scan_NAME.json, beside those of k-means on the features of simclr. Flags after -- go to all
three runs; `--for_simclr=--config.epochs=20`, `--for_cluster=...` and `--for_selflabel=...` add one
for a stage. Runs that are done are not repeated.
"""

import argparse
import pathlib
import shlex
import sys

from ssljax import cli, main, probing, restore, runtime, workdir
from ssljax.errors import InputError
from ssljax.evaluators import clustering, protocols

ROOT = pathlib.Path(__file__).resolve().parent.parent


def command_line():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', required=True, help='as in configs/default.py, after the method')
  parser.add_argument('--name', required=True, help='of the result file')
  parser.add_argument('--runs', required=True, type=pathlib.Path)
  parser.add_argument('--classes', type=int, default=10)
  for stage in ('simclr', 'cluster', 'selflabel'):
    parser.add_argument(f'--for_{stage}', action='append', default=[])
  words = sys.argv[1:]
  cut = words.index('--') if '--' in words else len(words)
  return parser.parse_args(words[:cut]), words[cut + 1 :]


def train(args, stage, flags):
  folder = args.runs / stage
  method = 'simclr' if stage == 'simclr' else 'scan'
  print(f'== {stage}', flush=True)
  config = f'--config={ROOT}/configs/default.py:{method},{args.data}'
  own = getattr(args, f'for_{stage}')
  main.main(['ssljax', config, f'--workdir={folder}', *flags, *own])
  if not (folder / 'summary.json').is_file():
    raise InputError(f'{folder} was stopped before its end; the same command goes on')
  return folder


def embedded(folder, split, feature):
  run = restore.open_run(folder)
  source = run.sources[split]
  return probing.extract(
    run.program, run.train_state, source, limit=len(source), batch_size=256, feature=feature
  )


def by_kmeans(args, folder):
  fit, test = (embedded(folder, split, 'features') for split in ('train', 'test'))
  return clustering.kmeans_v1(fit.x, fit.label, test.x, test.label, num_classes=args.classes)


def by_network(folder):
  test = embedded(folder, 'test', 'probabilities')
  return clustering.scores(test.x.argmax(1), test.label)


def run(_):
  args, flags = command_line()
  scan = [*flags, f'--config.method.num_clusters={args.classes}']
  pretext = train(args, 'simclr', flags)
  cluster = train(
    args, 'cluster', [*scan, f'--config.init_from={pretext}', '--config.method.stage=cluster']
  )
  parts = "--config.init_parts=('encoder', 'head', 'head_loss')"
  selflabel = train(
    args,
    'selflabel',
    [*scan, f'--config.init_from={cluster}', parts, '--config.method.stage=selflabel'],
  )
  summaries = {f.name: workdir.read_json(f / 'summary.json') for f in (pretext, cluster, selflabel)}
  last = summaries['selflabel']
  result = {
    'title': f'{args.name}: clusters of the test images against their classes',
    'protocol': protocols.describe('kmeans-v1'),
    'command': shlex.join(['python', 'scripts/scan.py', *sys.argv[1:]]),
    'commit': last['commit'],
    'device': last['device'],
    'device_count': last['device_count'],
    'versions': runtime.versions(),
    'seed': last['seed'],
    'encoder': last['encoder'],
    'stages': {
      name: {key: summary[key] for key in ('steps', 'seconds', 'peak_memory_bytes')}
      for name, summary in summaries.items()
    },
    'clusters': {
      'k-means on the features of simclr': by_kmeans(args, pretext),
      'scan, clustering': by_network(cluster),
      'scan, self-labelling': by_network(selflabel),
    },
  }
  out = ROOT / 'results' / f'scan_{args.name}.json'
  workdir.write_json(out, result)
  for name, found in result['clusters'].items():
    print(name, {measure: round(value, 4) for measure, value in found.items()})
  print(f'wrote {out}')


if __name__ == '__main__':
  cli.run(run)
