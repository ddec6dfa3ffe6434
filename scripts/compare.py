"""Trains methods with several seeds on one data set and writes what each learned to one file.

  python scripts/compare.py --methods=simclr,byol,mae --data=npz,preset=tiny --seeds=0,1,2 \
    --runs=runs/fashion --out=results/fashion_mnist.json \
    -- --config.data.path=fashion_mnist.npz --config.epochs=5

`--seeds_for=simclr,byol:0,1,2` gives some methods other seeds than the rest. Flags after -- go to
every run; `--for_mae=--config.epochs=20` adds one for one method, `--note_mae='...'` a remark to
its row. `--curves=rankme,teacher_entropy` keeps how these went in the run of the first seed. What
of the raw input is worth is found once for each seed. The file is written after each method, and
runs that are done are not repeated, so a run that was stopped costs only itself. Rows of other
methods that are in the file already stay, each with the command that made it.
"""

import argparse
import json
import pathlib
import shlex
import statistics
import sys

from ssljax import cli, main, runtime, workdir
from ssljax.errors import InputError
from ssljax.evaluators import protocols


def command_line():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--methods', required=True)
  parser.add_argument('--data', required=True, help='as in configs/default.py, after the method')
  parser.add_argument('--seeds', default='0,1,2')
  parser.add_argument('--seeds_for', default='', help='methods:seeds')
  parser.add_argument('--runs', required=True, type=pathlib.Path)
  parser.add_argument('--out', required=True, type=pathlib.Path)
  parser.add_argument('--title', default='')
  parser.add_argument('--curves', default='', help='names in metrics.jsonl, of the first seed')
  words = sys.argv[1:]
  cut = words.index('--') if '--' in words else len(words)
  args, extra = parser.parse_known_args(words[:cut])
  special, notes = {}, {}
  for word in extra:
    name, equals, value = word.partition('=')
    kind, _, method = name.removeprefix('--').partition('_')
    if not equals or kind not in ('for', 'note'):
      parser.error(f'{word!r} is not known')
    if kind == 'for':
      special.setdefault(method, []).append(value)
    else:
      notes[method] = value
  return args, special, notes, words[cut + 1 :]


def train(args, method, seed, flags):
  """summary.json of one run."""
  default = pathlib.Path(__file__).resolve().parent.parent / 'configs' / 'default.py'
  folder = args.runs / f'{method}-{seed}'
  print(f'== {method}, seed {seed}', flush=True)
  main.main(
    [
      'ssljax',
      f'--config={default}:{method},{args.data}',
      f'--workdir={folder}',
      f'--config.seed={seed}',
      *flags,
    ]
  )
  path = folder / 'summary.json'
  if not path.is_file():
    raise InputError(f'{folder} was stopped before its end; the same command goes on')
  return json.loads(path.read_text())


def curves(args, method, seed):
  """{name: [[step, value], ...]} of the names in --curves that this run logged."""
  lines = [
    json.loads(line)
    for line in (args.runs / f'{method}-{seed}' / 'metrics.jsonl').read_text().splitlines()
  ]
  found = {
    name: [[line['step'], line[name]] for line in lines if name in line]
    for name in args.curves.split(',')
  }
  return {name: points for name, points in found.items() if points}


def gather(args, special, notes, flags):
  """Yields the result after each method."""
  favoured, _, more = args.seeds_for.partition(':')
  rows, raw = [], {}
  if args.out.exists():
    rows = json.loads(args.out.read_text())['rows']
  for method in args.methods.split(','):
    seeds = more if method in favoured.split(',') else args.seeds
    summaries = []
    for seed in seeds.split(','):
      baselines = "('random',)" if seed in raw else "('random', 'raw')"
      own = [*flags, *special.get(method, []), f'--config.eval.baselines={baselines}']
      summary = train(args, method, seed, own)
      found = {n: value for n, value in summary['metrics'].items() if n.endswith('/raw')}
      if found:
        raw[seed] = found
      summary['metrics'] |= raw.get(seed, {})
      summaries.append(summary)
    names = summaries[0]['metrics']
    rows = [row for row in rows if row['method'] != method]
    rows.append(
      {
        'method': method,
        'encoder': summaries[0]['encoder'],
        'seeds': [s['seed'] for s in summaries],
        'steps': summaries[0]['steps'],
        'batch_size': summaries[0]['batch_size'],
        'commit': summaries[0]['commit'],
        'seconds': [round(s['seconds'], 1) for s in summaries],
        'images_per_second': [round(s['images_per_second'], 1) for s in summaries],
        'peak_memory_bytes': [s['peak_memory_bytes'] for s in summaries],
        'params_sha256': [s['params_sha256'] for s in summaries],
        'mean': {n: statistics.mean(s['metrics'][n] for s in summaries) for n in names},
        'stdev': {
          n: statistics.stdev(s['metrics'][n] for s in summaries) if len(summaries) > 1 else 0.0
          for n in names
        },
        'curves': curves(args, method, seeds.split(',')[0]),
        'flags': special.get(method, []),
        'note': notes.get(method, ''),
        'command': shlex.join(['python', 'scripts/compare.py', *sys.argv[1:]]),
      }
    )
    probes = {name.rsplit('/', 1)[0] for row in rows for name in row['mean'] if '/' in name}
    yield {
      'title': args.title,
      'device': summaries[0]['device'],
      'device_count': summaries[0]['device_count'],
      'versions': runtime.versions(),
      'protocols': {name: protocols.describe(name) for name in sorted(probes)},
      'rows': rows,
    }


def run(_):
  args, *rest = command_line()
  args.out.parent.mkdir(parents=True, exist_ok=True)
  for result in gather(args, *rest):
    workdir.write_json(args.out, result)
    print(f'wrote {args.out}: {len(result["rows"])} methods', flush=True)


if __name__ == '__main__':
  cli.run(run)
