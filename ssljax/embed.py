"""Features of a data set by the newest checkpoint of a run, as one .npz.

  python -m ssljax.embed --workdir=runs/simclr --data=photos/ --out=features.npz

--data is a folder of images, an .npz or .npy file, or the name of a source; without it, the run's
own data. The file holds `features` [N, D], `index` [N] and, if there are labels, `label` [N]; of
images in files also `name` [N], from which each was read. An image that cannot be read has no row.
"""

import os
import pathlib
from collections.abc import Sequence

from absl import flags

from ssljax import cli
from ssljax.errors import InputError


def data_config(run, name: str):
  """The run's data config with another source in the same image size and channels."""
  from ssljax import data

  path = pathlib.Path(name)
  if path.is_dir():
    config = data.get_config('folder')
  elif path.suffix in ('.npz', '.npy'):
    config = data.get_config('npz')
  else:
    config = data.get_config(name)
  if 'path' in config and (path.exists() or path.suffix in ('.npz', '.npy')):
    config.path = str(path)
  for field in ('image_size', 'channels', 'mean', 'std'):
    config[field] = run.config.data[field]
  if not config.channels and 'image' in (example := run.sources['train'][0]):
    config.channels = example['image'].shape[-1]  # as stored, and another source may store others
  return config


def main(argv: Sequence[str]) -> None:
  def define(values):
    flags.DEFINE_string('workdir', None, 'Folder of the run', flag_values=values)
    flags.DEFINE_string('data', None, 'Folder, file or name of a source', flag_values=values)
    flags.DEFINE_string('split', 'train', 'train or test', flag_values=values)
    flags.DEFINE_string('out', None, 'The .npz to write', flag_values=values)
    flags.DEFINE_string('feature', 'features', "Which of the method's embeddings", values)

  values = cli.parse(argv, define, __doc__)
  cli.required(values, 'workdir', 'out')
  import numpy as np

  from ssljax import data, probing, restore

  out = pathlib.Path(values.out)
  if out.suffix != '.npz':
    raise InputError(f'--out is {values.out!r}, wanted the name of an .npz')
  if out.exists():
    raise InputError(f'--out {out} exists already: wanted a new file')
  if not out.parent.is_dir():
    raise InputError(f'--out {out}: there is no folder {out.parent}')
  run = restore.open_run(values.workdir)
  if values.data:
    source = data.load(data_config(run, values.data), values.split)
  else:
    source = run.sources.get(values.split)
  if source is None:
    raise InputError(f'--split is {values.split!r}, and the data has no such split')
  found = probing.extract(
    run.program,
    run.train_state,
    source,
    limit=len(source),
    batch_size=run.config.eval.batch_size,
    feature=values.feature,
  )
  arrays = {'features': found.x, 'index': found.index}
  if found.label is not None:
    arrays['label'] = found.label
  if names := getattr(source, 'names', None):
    arrays['name'] = np.array([names[i] for i in found.index])
  partial = out.with_name(out.name + '.partial')
  with partial.open('wb') as file:
    np.savez(file, **arrays)
  os.replace(partial, out)  # in one move: no kill leaves half of it
  print(f'{out}: features {found.x.shape} of step {run.step}')


if __name__ == '__main__':
  cli.run(main)
