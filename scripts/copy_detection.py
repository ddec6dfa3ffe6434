"""How well descriptors find edited copies of images: micro average precision, in one result file.

  python scripts/copy_detection.py --data=cifar10.npz --steps=2000 --runs=runs/copies \
    [--methods=sscd,simclr] [--seeds=0,1,2] [--out=results/copy_detection.json] \
    [--for_sscd=--config.method.entropy_weight=10 ...] [-- --config.optim.learning_rate=1e-3]

Each method is trained for as many steps with the same encoder (its preset 'tiny') and batch. Then
references are images of the test split; half of the queries are edited copies of some of them, the
other half edits of other images, which have none. Scores are normalised, and descriptors whitened,
by training images (SSCD, section 5.3); the file has what is found with and without. Beside the
methods stand the first one's network as it is drawn, and the pixels. Runs that are done are not
repeated.
"""

import argparse
import pathlib
import shlex
import statistics
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from ssljax import cli, main, ops, probing, restore, runtime, workdir
from ssljax.data.source import ArraySource
from ssljax.errors import InputError
from ssljax.evaluators import copy_detection

ROOT = pathlib.Path(__file__).resolve().parent.parent
DESCRIPTORS = ('features', 'projection')  # the encoder's, and its head's


def command_line():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', required=True, help='.npz of images, as data.path')
  parser.add_argument('--steps', required=True, type=int)
  parser.add_argument('--runs', required=True, type=pathlib.Path)
  parser.add_argument('--methods', default='sscd,simclr')
  parser.add_argument('--seeds', default='0')
  parser.add_argument('--queries', default=1000, type=int, help='with a copy, and as many without')
  parser.add_argument('--background', default=10_000, type=int, help='training images')
  parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'results' / 'copy_detection.json')
  words = sys.argv[1:]
  cut = words.index('--') if '--' in words else len(words)
  args, extra = parser.parse_known_args(words[:cut])
  special = {method: [] for method in args.methods.split(',')}
  for word in extra:
    name, _, flag = word.partition('=')
    if name.removeprefix('--for_') not in special:
      parser.error(f'{word!r} is not known')
    special[name.removeprefix('--for_')].append(flag)
  return args, special, words[cut + 1 :]


# Edits: (picture, another picture, generator) -> picture of the same size.


def crop(picture, other, rng):
  """A crop of 40 to 80% of the area, enlarged to the whole."""
  w, h = picture.size
  side = rng.uniform(0.4, 0.8) ** 0.5
  x, y = rng.uniform(0, 1 - side, 2)
  return picture.resize((w, h), Image.BICUBIC, (x * w, y * h, (x + side) * w, (y + side) * h))


def blur(picture, other, rng):
  """A Gaussian blur of 2 to 5% of the side."""
  return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.02, 0.05) * picture.size[0]))


def overlay(picture, other, rng):
  """Another image over 15 to 40% of the area."""
  w, h = picture.size
  side = rng.uniform(0.15, 0.4) ** 0.5
  small = other.resize((round(side * w), round(side * h)), Image.BICUBIC)
  picture = picture.copy()
  picture.paste(small, (rng.integers(w - small.width + 1), rng.integers(h - small.height + 1)))
  return picture


def text(picture, other, rng):
  """A block of one colour with a line of letters."""
  w, h = picture.size
  picture = picture.copy()
  draw = ImageDraw.Draw(picture)
  top = rng.uniform(0, 0.7) * h
  draw.rectangle((0, top, w, top + 0.3 * h), tuple(map(int, rng.integers(0, 256, 3))))
  letters = ''.join(map(chr, rng.integers(65, 91, max(4, w // 6))))
  draw.text((1, top), letters, tuple(map(int, rng.integers(0, 256, 3))))
  return picture


def jitter(picture, other, rng):
  """Brightness, contrast and each channel by factors of 0.6 to 1.4."""
  x = np.asarray(picture, np.float32)
  brightness, contrast, *channels = rng.uniform(0.6, 1.4, 2 + x.shape[-1])
  x = (x - x.mean()) * contrast + x.mean() * brightness
  return Image.fromarray(np.clip(x * np.float32(channels), 0, 255).astype(np.uint8))


def flip(picture, other, rng):
  """Left and right swapped."""
  return ImageOps.mirror(picture)


EDITS = (crop, blur, overlay, text, jitter, flip)


def edited(picture, other, rng):
  """One to three of EDITS, in a random order."""
  for i in rng.permutation(len(EDITS))[: rng.integers(1, 4)]:
    picture = EDITS[i](picture, other, rng)
  return picture


def draw(sources, args, seed=0):
  """{'queries', 'references', 'background': images}, and the reference of each query or -1."""
  rng = np.random.default_rng(seed)
  test, train = sources['test'], sources['train']
  if test is None or len(test) < 2 * args.queries:
    raise InputError(
      f'{args.data} has {len(test or ())} test images, wanted {2 * args.queries}, two for each of '
      f'--queries={args.queries}'
    )
  order = rng.permutation(len(test))
  strangers, kept = order[: args.queries], order[args.queries :]
  copied = rng.choice(len(kept), args.queries, replace=False)

  def picture(i):
    return Image.fromarray(test[int(i)]['image'])

  queries = [
    np.asarray(edited(picture(i), picture(rng.integers(len(test))), rng))
    for i in (*kept[copied], *strangers)
  ]
  background = rng.permutation(len(train))[: args.background]
  images = {
    'queries': np.stack(queries),
    'references': np.stack([test[int(i)]['image'] for i in kept]),
    'background': np.stack([train[int(i)]['image'] for i in background]),
  }
  return images, np.concatenate([copied, np.full(len(strangers), -1)])


def measure(found, source):
  """{name: number} of the descriptors of queries, references and background."""
  metrics = {}
  for name, whiten in (('plain', False), ('whitened', True)):
    scores = copy_detection.evaluate(**found, source=source, whiten=whiten)
    metrics |= {f'{name}/{key}': value for key, value in scores.items()}
  x = ops.l2_normalize(found['references'])
  cosine, _ = ops.nearest(x, x, 1, exclude=np.arange(len(x), dtype=np.int32))
  distance = np.sqrt(np.maximum(2 - 2 * np.asarray(cosine), 0))
  return metrics | {'nearest_reference_distance': float(distance.mean())}


def train(args, method, seed, flags):
  """The run of one method, trained if it is not yet."""
  folder = args.runs / f'{method}-{seed}'
  print(f'== {method}, seed {seed}', flush=True)
  main.main(
    [
      'ssljax',
      f'--config={ROOT}/configs/default.py:{method},npz,preset=tiny',
      f'--config.data.path={args.data}',
      '--config.data.channels=3',
      f'--config.steps={args.steps}',
      f'--config.seed={seed}',
      '--config.eval.protocols=()',
      f'--workdir={folder}',
      *flags,
    ]
  )
  if not (folder / 'summary.json').is_file():
    raise InputError(f'{folder} was stopped before its end; the same command goes on')
  return restore.open_run(folder)


def described(run, state, images):
  """{descriptor: {'queries': [Q, D], ...}} of a network."""
  sources = {name: ArraySource({'image': x}) for name, x in images.items()}

  def embed(feature):
    options = dict(batch_size=run.config.eval.batch_size, feature=feature)
    return {
      name: probing.extract(run.program, state, source, limit=len(source), **options).x
      for name, source in sources.items()
    }

  return {feature: embed(feature) for feature in DESCRIPTORS}


def run(_):
  args, special, flags = command_line()
  seeds = [int(seed) for seed in args.seeds.split(',')]
  rows, encoders = {}, set()

  def add(name, found, source):
    for descriptor, arrays in found.items():
      rows.setdefault((name, descriptor), []).append(measure(arrays, source))

  for method, own in special.items():
    for seed in seeds:
      trained = train(args, method, seed, [*flags, *own])
      images, source = draw(trained.sources, args)
      encoders.add((str(trained.config.encoder.to_dict()), trained.config.batch_size))
      if len(encoders) > 1:
        raise InputError(f'encoders or batches differ: {sorted(encoders)}, wanted the same for all')
      if method == next(iter(special)):
        add('random', described(trained, trained.program.init(trained.key), images), source)
      add(method, described(trained, trained.train_state, images), source)
  pixels = {name: x.reshape(len(x), -1) / np.float32(255) for name, x in images.items()}
  add('raw', {'pixels': pixels}, source)
  ((encoder, batch),) = encoders
  result = {
    'command': shlex.join(['python', 'scripts/copy_detection.py', *sys.argv[1:]]),
    'commit': runtime.commit(),
    'versions': runtime.versions(),
    'encoder': encoder,
    'batch_size': batch,
    'steps': args.steps,
    'seeds': seeds,
    'images': {name: len(x) for name, x in images.items()},
    'edits': {edit.__name__: edit.__doc__ for edit in EDITS} | {'all': edited.__doc__},
    'rows': [
      {'method': name, 'descriptor': descriptor, 'each': found}
      | {'mean': {key: statistics.mean(f[key] for f in found) for key in found[0]}}
      for (name, descriptor), found in rows.items()
    ],
  }
  args.out.parent.mkdir(parents=True, exist_ok=True)
  workdir.write_json(args.out, result)
  for row in result['rows']:
    print(row['method'], row['descriptor'], {k: round(v, 4) for k, v in row['mean'].items()})
  print(f'wrote {args.out}')


if __name__ == '__main__':
  cli.run(run)
