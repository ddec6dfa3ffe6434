"""How often objects are found in scenes of digits by the patch features of a run: CorLoc.

  python scripts/discover.py --workdir=runs/mae [--scenes=500] [--out=results/discovery.json]

Nothing is trained. LOST, TokenCut and MOST get the keys of a block of the run's ViT (the last one
unless --block says otherwise), of the same network before its first step, and the pixels of the
patches: each as they are ('plain', as in the papers) and less their mean over the patches of the
image ('centred'), since all three ask for signs of dot products or cosines, which a large common
part makes positive everywhere. Both are written for all features. Beside them stands a square in
the middle of every scene, of the side that is best for these very scenes. --pictures=DIR writes
some scenes with the boxes found in learned, centred keys.
"""

import argparse
import pathlib
import shlex
import sys
import time

import numpy as np
from PIL import Image, ImageDraw

from ssljax import cli, discovery, looking, ops, restore, runtime, workdir
from ssljax.data import scenes
from ssljax.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parent.parent
METHODS = ('lost', 'token_cut', 'most_localization')
COLOURS = {'truth': 'white', 'lost': 'red', 'token_cut': 'cyan', 'most_localization': 'yellow'}


def command_line():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--workdir', required=True, type=pathlib.Path, help='of a run with a ViT')
  parser.add_argument('--scenes', default=500, type=int)
  parser.add_argument('--block', default=-1, type=int, help='whose keys are taken, from 0 on')
  parser.add_argument('--k_patches', default=100, type=int, help='of LOST')
  parser.add_argument('--tau', default=0.2, type=float, help='of TokenCut')
  parser.add_argument('--pictures', type=pathlib.Path, help='folder to write scenes to')
  parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'results' / 'discovery.json')
  return parser.parse_args()


def keys_of(run, train_state, images, block):
  """[N, L, D]: keys of the patches, heads side by side."""
  rows, columns = looking.grid_of(run.config, images)

  def read(outputs):
    if not outputs['qkv'] or not -len(outputs['qkv']) <= block < len(outputs['qkv']):
      raise InputError(f'--block is {block}, and the network gives keys of {len(outputs["qkv"])}')
    k = outputs['qkv'][block][1][:, -rows * columns :]
    return k.reshape(*k.shape[:2], -1)

  return looking.make(run.config, train_state, run.program.mesh, read)(images)


def pixels_of(images, patch):
  """[N, L, D]: the pixels of patches, in [0, 1]."""
  return np.asarray(ops.patchify(images.astype(np.float32) / 255, patch))


def found_by(name, features, grid, patch, args):
  options = {
    'lost': {'k_patches': args.k_patches},
    'token_cut': {'tau': args.tau},
    'most_localization': {'min_side': patch},
  }[name]
  discover = getattr(discovery, name).discover
  return [discover(x, grid, patch_size=patch, **options).boxes for x in features]


def centre_boxes(truth, canvas):
  """The same square for every scene, of the side with the best CorLoc, and that side."""
  scores = {}
  for side in range(8, canvas + 1, 2):
    low = (canvas - side) // 2
    boxes = [np.array([[low, low, low + side, low + side]])] * len(truth)
    scores[side] = discovery.corloc(boxes, truth), boxes
  side = max(scores, key=lambda s: scores[s][0])
  return scores[side][1], side


def measure(boxes, truth):
  return {
    'corloc': discovery.corloc(boxes, truth),
    'recall': discovery.box_recall(boxes, truth),
    'boxes_per_scene': float(np.mean([len(b) for b in boxes])),
  }


def draw(folder, images, truth, found, count=24, scale=4):
  folder.mkdir(parents=True, exist_ok=True)
  tiles = []
  for i in range(min(count, len(images))):
    side = scale * images.shape[1]
    picture = Image.fromarray(images[i]).resize((side, side), Image.NEAREST)
    pen = ImageDraw.Draw(picture)
    for inset, (name, boxes) in enumerate({'truth': truth, **found}.items()):
      inset *= 2  # one inside the other where they are the same
      for x1, y1, x2, y2 in scale * np.asarray(boxes[i]):
        corners = x1 + inset, y1 + inset, x2 - 1 - inset, y2 - 1 - inset
        pen.rectangle(corners, outline=COLOURS[name], width=2)
    tiles.append(np.pad(np.asarray(picture), ((2, 2), (2, 2), (0, 0))))
  tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 6)
  rows = [np.concatenate(tiles[i : i + 6], axis=1) for i in range(0, len(tiles), 6)]
  Image.fromarray(np.concatenate(rows)).save(folder / 'discovery.png')


def run(_):
  args = command_line()
  begun = time.perf_counter()
  opened = restore.open_run(args.workdir)
  if not looking.has_patches(opened.config):
    raise InputError(f'{args.workdir} has a {opened.config.encoder.name}, wanted a run with a ViT')
  patch = opened.config.encoder.patch_size
  config = scenes.get_config()
  config.test_size = args.scenes
  images, truth, _, _ = scenes.annotated(config, 'test')
  if scenes.CANVAS % patch:
    raise InputError(f'patches are {patch} pixels wide, wanted a divisor of {scenes.CANVAS}')
  grid = looking.grid_of(opened.config, images)
  features = {
    'learned': keys_of(opened, opened.train_state, images, args.block),
    'random': keys_of(opened, opened.program.init(opened.key), images, args.block),
    'raw': pixels_of(images, patch),
  }
  boxes, side = centre_boxes(truth, scenes.CANVAS)
  rows, shown = {'centre square': measure(boxes, truth)}, {}
  for kind, plain in features.items():
    for form, x in {'plain': plain, 'centred': plain - plain.mean(1, keepdims=True)}.items():
      for name in METHODS:
        boxes = found_by(name, x, grid, patch, args)
        rows[f'{name}/{kind}/{form}'] = measure(boxes, truth)
        if (kind, form) == ('learned', 'centred'):
          shown[name] = boxes
  if args.pictures:
    draw(args.pictures, images, truth, shown)
  result = {
    'title': 'Objects found in scenes of digits',
    'command': shlex.join(['python', 'scripts/discover.py', *sys.argv[1:]]),
    'commit': runtime.commit(),
    'versions': runtime.versions(),
    'method': opened.config.method.name,
    'data': opened.config.data.name,
    'encoder': opened.config.encoder.name,
    'step': opened.step,
    'block': args.block,
    'scenes': {'count': len(images), 'objects': sum(map(len, truth)), **config.to_dict()},
    'iou': 0.5,
    'options': {'k_patches': args.k_patches, 'tau': args.tau, 'min_side': patch},
    'forms': {
      'plain': 'features as they are',
      'centred': 'less their mean over the patches of the image',
    },
    'centre_square_side': side,
    'seconds': time.perf_counter() - begun,
    'discovery': rows,
  }
  args.out.parent.mkdir(parents=True, exist_ok=True)
  workdir.write_json(args.out, result)
  for name, found in rows.items():
    print(f'{name:36}', {key: round(value, 3) for key, value in found.items()})
  print(f'wrote {args.out}')


if __name__ == '__main__':
  cli.run(run)
