"""Segmentation by frozen patch features: a linear layer and retrieval, in one result file.

  python scripts/dense.py --workdir=runs/mae --data=mosd_rgbd.npz --name=scenes
  python scripts/dense.py --workdir=runs/mae --data=videos112_jpeg.npz --name=video

The data is an .npz with train_rgb, train_label, test_rgb and test_label, of which labels 0 are the
background, 1 to 19 what objects stand on and from 20 on objects, and pixels without a depth
(*_xyz_mm, if there) have none; or one of frames_jpeg with masks of its last clip, of which the
first quarter trains. Beside the features of the run's encoder stand those of the same network
before its first step and the pixels of the patches. Nothing else is trained.
"""

import argparse
import io
import pathlib
import shlex
import sys
import time

import numpy as np
from PIL import Image

from ssljax import cli, looking, ops, restore, runtime, workdir
from ssljax.errors import InputError
from ssljax.evaluators import DENSE, dense, describe

ROOT = pathlib.Path(__file__).resolve().parent.parent


def command_line():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--workdir', required=True, type=pathlib.Path, help='of a run with a ViT')
  parser.add_argument('--data', required=True, type=pathlib.Path)
  parser.add_argument('--name', required=True, help='of the result file, results/dense_NAME.json')
  parser.add_argument('--images', default=0, type=int, help='of each split at most, 0 for all')
  parser.add_argument('--seed', default=0, type=int)
  parser.add_argument('--out', type=pathlib.Path)
  return parser.parse_args()


def load(path):
  """{'train': (images, masks), 'test': ...} and the names of the classes."""
  if not path.is_file():
    raise InputError(f'--data {path}: there is no such file')
  with np.load(path) as file:
    if 'train_rgb' in file:
      return {s: _tabletop(file, s) for s in ('train', 'test')}, ('background', 'table', 'object')
    masks = [name for name in file if name.endswith('_mask')]
    if 'frames_jpeg' in file and masks:
      return _clip(file, masks[0]), ('background', 'object')
  raise InputError(f'--data {path}: neither train_rgb with train_label nor frames with masks in it')


def _tabletop(file, split):
  label = file[f'{split}_label']
  masks = np.where(label >= 20, 2, np.minimum(label, 1)).astype(np.uint8)
  if f'{split}_xyz_mm' in file:
    masks[(file[f'{split}_xyz_mm'][..., 2] == 0) & (label == 0)] = dense.IGNORE
  return file[f'{split}_rgb'], masks


def _clip(file, name):
  pool, offsets, clips = (file[k] for k in ('frames_jpeg', 'frame_offsets', 'clip_offsets'))
  height, width = file[f'{name}_hw']
  masks = np.unpackbits(file[name], axis=1)[:, : height * width].reshape(-1, height, width)
  frames = [
    np.asarray(Image.open(io.BytesIO(pool[offsets[i] : offsets[i + 1]].tobytes())))
    for i in range(clips[-2], clips[-1])
  ]
  cut = len(frames) // 4
  images = np.stack(frames)
  return {'train': (images[:cut], masks[:cut]), 'test': (images[cut:], masks[cut:])}


def whole_patches(x, patch):
  """The middle of arrays [N, H, W, ...], of sides that are multiples of the patch."""
  height, width = (side // patch * patch for side in x.shape[1:3])
  top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
  return x[:, top : top + height, left : left + width]


def features_of(run, train_state, images, grid):
  read = lambda outputs: outputs['tokens']  # noqa: E731
  x = looking.make(run.config, train_state, run.program.mesh, read, batch_size=4)(images)
  return x.reshape(len(x), *grid, -1)


def run(_):
  args = command_line()
  begun = time.perf_counter()
  splits, classes = load(args.data)
  opened = restore.open_run(args.workdir)
  if not looking.has_patches(opened.config):
    raise InputError(f'{args.workdir} has a {opened.config.encoder.name}, wanted a run with a ViT')
  patch = opened.config.encoder.patch_size
  images, masks = {}, {}
  for split, arrays in splits.items():
    count = args.images or len(arrays[0])
    images[split], masks[split] = (whole_patches(x[:count], patch) for x in arrays)
  untrained = opened.program.init(opened.key)

  def raw(x, grid):
    pixels = np.asarray(ops.patchify(x.astype(np.float32) / 255, patch))
    return pixels.reshape(len(x), *grid, -1)

  kinds = {
    'learned': lambda x, grid: features_of(opened, opened.train_state, x, grid),
    'random': lambda x, grid: features_of(opened, untrained, x, grid),
    'raw': raw,
  }
  rows = {}
  for kind, make in kinds.items():
    x = {s: make(images[s], looking.grid_of(opened.config, images[s])) for s in images}
    arrays = x['train'], masks['train'], x['test'], masks['test']
    for name, protocol in DENSE.items():
      found = protocol(*arrays, num_classes=len(classes), seed=args.seed)
      rows[f'{name}/{kind}'] = found
      print(f'{name}/{kind}', {key: round(value, 4) for key, value in found.items()}, flush=True)
  frequent = np.bincount(masks['train'][masks['train'] < len(classes)]).argmax()
  most = dense.scores(np.full_like(masks['test'], frequent), masks['test'], len(classes))
  result = {
    'title': f'{args.name}: segmentation of frozen patches',
    'dense': rows,
    'most frequent class everywhere': most,
    'protocol_definitions': {name: describe(name) for name in DENSE},
    'command': shlex.join(['python', 'scripts/dense.py', *sys.argv[1:]]),
    'commit': runtime.commit(),
    'versions': runtime.versions(),
    'method': opened.config.method.name,
    'data': opened.config.data.name,
    'encoder': opened.config.encoder.name,
    'step': opened.step,
    'seed': args.seed,
    'images': {split: list(x.shape) for split, x in images.items()},
    'classes': classes,
    'seconds': time.perf_counter() - begun,
  }
  out = args.out or ROOT / 'results' / f'dense_{args.name}.json'
  out.parent.mkdir(parents=True, exist_ok=True)
  workdir.write_json(out, result)
  print(f'most frequent class everywhere: {most}\nwrote {out}')


if __name__ == '__main__':
  cli.run(run)
