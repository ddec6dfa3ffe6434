"""Draws a picture for the README from a run: its views, and maps of raw, random and learned
features; or of a run with a ViT, what it sees.

python scripts/readme_picture.py --workdir=runs/quickstart --out=docs/quickstart.png
python scripts/readme_picture.py --workdir=runs/dino --out=docs/dino.png
"""

import argparse
import pathlib

import jax
import numpy as np
from matplotlib.figure import Figure

from ssljax import cli, looking, probing, restore
from ssljax.augment import image
from ssljax.report import embed2d

EXAMPLES = 1000


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--workdir', required=True, type=pathlib.Path)
  parser.add_argument('--out', required=True, type=pathlib.Path)
  args = parser.parse_args()
  run = restore.open_run(args.workdir)
  figure = patches(run) if looking.has_patches(run.config) else maps(run)
  figure.savefig(args.out, dpi=110, facecolor='white')
  print(f'wrote {args.out}')


def patches(run):
  """Images side by side: each, what its class token attends to by head, and PCA of its patches."""
  found = probing.extract(
    run.program, run.train_state, run.sources['test'], limit=EXAMPLES, batch_size=256
  )
  shown, _ = looking.look(
    run.config, run.train_state, run.program.mesh, found.image[:EXAMPLES], found.x
  )
  attention, colours = list(shown.values())[:2]
  heads = attention.shape[1] - 1
  titles = ['image', *(f'head {i + 1}' for i in range(heads)), 'PCA', 'its foreground']
  tiles = np.concatenate([attention, colours[:, 1:]], axis=1)[:6]
  figure = Figure(figsize=(2 * len(titles) * 0.9, 3.1), layout='constrained')
  data = pathlib.Path(run.config.data.get('path') or run.config.data.name).stem
  figure.suptitle(
    f'{run.config.method.name}, {run.step} steps on {data}: what the class token '
    'attends to in the last block, and principal components of the patches'
  )
  halves = figure.subfigures(1, 2)
  for half, rows in zip(halves, (tiles[:3], tiles[3:]), strict=True):
    for i, (axes, row) in enumerate(zip(half.subplots(3, len(titles)), rows, strict=True)):
      for axis, title, picture in zip(axes, titles, row, strict=True):
        axis.imshow(picture)
        axis.axis('off')
        if i == 0:
          axis.set_title(title, fontsize=7)
  return figure


def maps(run):
  """Images and their views, and maps of what three encoders make of test images."""
  source = run.sources['test']

  def embed(state):
    return probing.extract(run.program, state, source, limit=EXAMPLES, batch_size=256)

  learned = embed(run.train_state)
  panels = {
    'raw pixels': probing.raw(source, limit=EXAMPLES).x,
    'random encoder': embed(run.program.init(run.key)).x,
    f'{run.config.method.name}, {run.step} steps': learned.x,
  }
  batch = {'image': learned.image[:6], 'index': np.arange(6, dtype=np.int32)}
  views = run.program.method.views(jax.random.key(0), batch)['image']
  shown = np.asarray(image.to_display(views, run.config.method.views))

  figure = Figure(figsize=(12, 3.4), layout='constrained')
  columns = figure.subfigures(1, 2, width_ratios=(1, 3))
  columns[0].suptitle('images and two views')
  axes = columns[0].subplots(6, 3)
  for row, (whole, pair) in enumerate(zip(learned.image, shown, strict=False)):
    for axis, picture in zip(axes[row], (whole, *pair), strict=True):
      axis.imshow(picture, cmap='gray' if picture.shape[-1] == 1 else None)
      axis.axis('off')
  columns[1].suptitle('t-SNE of test images, coloured by class')
  for axis, (title, x) in zip(columns[1].subplots(1, 3), panels.items(), strict=True):
    place = embed2d.maps(x)['t-SNE']
    axis.scatter(*place.T, c=learned.label, cmap='tab10', s=5, linewidths=0)
    axis.set(title=title, xticks=[], yticks=[])
  return figure


if __name__ == '__main__':
  cli.run(lambda argv: main())
