"""Bad input: one clear sentence that names what is wrong, exit code 2, nothing written over."""

import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from ssljax import cli, embed, evaluate, main

TINY = (
  '--config.steps=2', '--config.batch_size=16', '--config.encoder.width=4',
  '--config.method.projector=(8,8)', '--config.eval.train_examples=64',
  '--config.eval.test_examples=64', '--config.report=False',
)  # fmt: skip


def call(capsys, monkeypatch, module, *argv):
  """Exit code and standard error of a command."""
  monkeypatch.setattr(sys, 'argv', ['ssljax', *map(str, argv)])
  try:
    cli.run(module.main)
    code = 0
  except SystemExit as stop:
    code = stop.code
  return code, capsys.readouterr().err


def on(arg, *flags):
  """A training command on a config argument."""
  return lambda tmp: (f'--config=configs/default.py:{arg}', f'--workdir={tmp}/run', *flags)


def on_npz(**arrays):
  def argv(tmp):
    np.savez(tmp / 'set.npz', **arrays)
    return on('simclr,npz', f'--config.data.path={tmp}/set.npz', *TINY)(tmp)

  return argv


def on_vectors(method, *flags):
  def argv(tmp):
    np.save(tmp / 'set.npy', np.zeros((40, 8)))
    return on(f'{method},npz', f'--config.data.path={tmp}/set.npy', *flags)(tmp)

  return argv


def on_folder(fill):
  def argv(tmp):
    (tmp / 'images').mkdir()
    fill(tmp / 'images')
    return on('simclr,folder', f'--config.data.path={tmp}/images', *TINY)(tmp)

  return argv


def picture(path, cut=None):
  Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(path)
  if cut:
    path.write_bytes(path.read_bytes()[:cut])


def text_as_npz(tmp):
  (tmp / 'set.npz').write_text('this is no archive')
  return on('simclr,npz', f'--config.data.path={tmp}/set.npz')(tmp)


def workdir_is_a_file(tmp):
  (tmp / 'run').write_text('a letter')
  return on('simclr,digits')(tmp)


def workdir_cannot_be_made(tmp):
  (tmp / 'file').write_text('')
  return ('--config=configs/default.py:simclr,digits', f'--workdir={tmp}/file/run')


def workdir_of_something_else(tmp):
  (tmp / 'run').mkdir()
  for name in ('.writable', 'thesis.tex'):  # as if it were the file that was once probed with
    (tmp / 'run' / name).write_text('years of work')
  return on('simclr,digits')(tmp)


def workdir_of_another_config(tmp):
  from ssljax import config, workdir

  folder = tmp / 'run'
  folder.mkdir()
  fields = workdir.to_fields(config.get_config('simclr,digits'))
  (folder / 'config.json').write_text(json.dumps(fields))
  return on('simclr,digits', '--config.method.temperature=0.7')(tmp)


def no_get_config(tmp):
  sys.modules.pop('config_config', None)  # config_flags loads a file over the one before
  (tmp / 'nothing.py').write_text('')
  return (f'--config={tmp}/nothing.py', f'--workdir={tmp}/run')


IMAGES = np.zeros((40, 16, 16), np.uint8)
NAN = np.where(np.arange(40)[:, None, None] == 7, np.nan, 0.5) * np.ones((40, 16, 16), np.float32)

CASES = {
  'unknown method': (on('simclrr,digits'), r"no method 'simclrr', did you mean simclr\?"),
  'unknown data set': (on('simclr,diggits'), r"'diggits'.*did you mean digits"),
  'unknown field': (on('simclr,digits', '--config.stpes=3'), r"'stpes', did you mean steps\?"),
  'unknown nested field': (
    on('simclr,digits', '--config.optim.learning_rat=3'),
    r"'learning_rat', did you mean learning_rate",
  ),
  'unknown flag': (
    on('simclr,digits', '--wrokdir=x'),
    r'no flag --wrokdir, did you mean --workdir',
  ),
  'wrong type': (on('simclr,digits', '--config.steps=many'), r'config.steps=many'),
  'stray word': (on('simclr,digits', 'now'), r"'now' is no flag"),
  'an argument to a config file without': (
    lambda tmp: ('--config=configs/quickstart.py:digits', f'--workdir={tmp}/run'),
    r'--config: get_config\(\) takes 0 positional arguments but 1 was given',
  ),
  'no config in the file': (no_get_config, 'the file has no function get_config'),
  'no config file': (lambda tmp: ('--config=nowhere.py', f'--workdir={tmp}/run'), r'nowhere\.py'),
  'no config': (lambda tmp: (f'--workdir={tmp}/run',), r'--config is missing'),
  'no workdir': (
    lambda tmp: ('--config=configs/default.py:simclr,digits',),
    r'--workdir is missing',
  ),
  'half an argument': (on('simclr'), r"'simclr': wanted method,dataset"),
  'unknown preset': (on('simclr,digits,preset=huge'), r"preset is 'huge', wanted one of"),
  'unknown encoder': (
    on('simclr,digits,encoder=resnet19'),
    r"'resnet19', wanted .*nearest: resnet18",
  ),
  'name of an encoder alone': (
    on('simclr,digits', '--config.encoder.name=resnet50'),
    r"encoder.name is 'resnet50'.*default.py:method,data,encoder=resnet50$",
  ),
  'name of a method alone': (on('simclr,digits', '--config.method.name=byol'), r':byol,data$'),
  'name of data alone': (on('simclr,digits', '--config.data.name=npz'), r':method,npz$'),
  'encoder without patches': (on('mae,digits,encoder=resnet18'), r'mae hides patches'),
  'vectors for a method on images': (
    on_vectors('simclr', *TINY),
    'data npz has vectors, and method simclr wants images',
  ),
  'images for a method on vectors': (
    on('tldr,digits'),
    'data digits has images, and method tldr wants vectors',
  ),
  'a choice of examples that are streamed': (
    on_vectors('tldr', '--config.batch_size=16', '--config.data.resident=no', '--dry_run'),
    'method tldr chooses its examples.* wanted data.resident=yes',
  ),
  'encoder of images for a method on graphs': (
    on('grace,communities,encoder=resnet10', '--config.mesh.data=1'),
    'encoder resnet10 is for images, and method grace wants one for graphs',
  ),
  'encoder of graphs for a method on images': (
    on('simclr,digits,encoder=gcn'),
    'encoder gcn is for graphs, and method simclr wants one for images',
  ),
  'zero steps': (on('simclr,digits', '--config.steps=0'), r'steps is 0, wanted at least 1'),
  'zero epochs': (on('simclr,digits', '--config.epochs=0'), r'epochs is 0.0.*at least 1 step'),
  'no path to a field': (
    on('simclr,digits', '--config.method..views=1'),
    r"--config: Could not parse 'method..views'.*wanted --config.field=value",
  ),
  'field behind a word of Python': (
    on('dino,digits', '--config.method.views.global.siz=8'),
    r"the config has no field 'siz', did you mean size\?",
  ),
  'devices to train on that are not there': (
    on('simclr,digits', '--devices=4'),
    'devices is 4: wanted 1 or more, with --dry_run',
  ),
  'batch larger than the set': (
    on('simclr,digits', '--config.batch_size=1000000'),
    r'batch_size is 1000000, wanted 1 to \d+',
  ),
  'batch not divisible by devices': (
    on('simclr,digits', '--config.batch_size=12'),
    r'batch_size is 12, wanted a multiple of 8 devices',
  ),
  'mesh too large': (
    on('simclr,digits', '--config.mesh.data=16'),
    r'mesh.data x mesh.fsdp is 16 x 1, but there are 8 devices',
  ),
  'unknown number format': (
    on('simclr,digits', '--config.compute_dtype=float8'),
    r"compute_dtype is 'float8', wanted one of float32, bfloat16",
  ),
  'unknown optimizer': (on('simclr,digits', '--config.optim.name=adma'), r"optim.name is 'adma'"),
  'unknown protocol': (
    on('simclr,digits', *TINY, "--config.eval.protocols=('knn-v9',)"),
    r"'knn-v9'.*knn-v1",
  ),
  'data without a path': (on('simclr,npz'), r'data.path'),
  'missing file': (on('simclr,npz', '--config.data.path=nowhere.npz'), r'nowhere\.npz'),
  'unreadable file': (text_as_npz, r'set\.npz'),
  'no images in the file': (on_npz(weights=np.zeros((4, 2)), biases=np.zeros(4)), r'set\.npz'),
  'pickled objects': (on_npz(train_x=np.array([{}, {}], object)), r'set\.npz'),
  'empty split': (on_npz(train_x=IMAGES[:0]), r'set\.npz.*(empty|0 )'),
  'labels of another length': (on_npz(train_x=IMAGES, train_y=np.arange(9)), r'train_y.*9.*40'),
  'NaN in the data': (on_npz(train_x=NAN), r'train_x.* nan in row 7'),
  'empty folder': (on_folder(lambda folder: None), r'images'),
  'missing folder': (on('simclr,folder', '--config.data.path=nowhere'), r'nowhere'),
  'truncated images': (
    on_folder(lambda folder: [picture(folder / f'{i}.png', cut=200) for i in range(3)]),
    r'none of the 3 images of .*\.png cannot be read',
  ),
  'one image': (on_folder(lambda folder: picture(folder / 'a.png')), r'images.*(1|one) '),
  'workdir is a file': (workdir_is_a_file, r'run cannot be written'),
  'workdir cannot be made': (workdir_cannot_be_made, r'cannot be written'),
  'workdir without a name': (
    lambda tmp: ('--config=configs/default.py:simclr,digits', '--workdir='),
    r"--workdir is '', wanted a folder",
  ),
  'workdir at an address': (
    lambda tmp: ('--config=configs/default.py:simclr,digits', '--workdir=gs://bucket/run'),
    r"'gs://bucket/run', wanted a folder on a file system that all processes share",
  ),
  'workdir of something else': (
    workdir_of_something_else,
    r'run holds .writable but no run of ssljax',
  ),
  'changed config': (workdir_of_another_config, r'method.temperature was 0.2 and is now 0.7'),
}


@pytest.mark.parametrize('case', CASES)
def test_bad_input_is_one_sentence(case, tmp_path, capsys, monkeypatch):
  make_argv, wanted = CASES[case]
  argv = make_argv(tmp_path)
  before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
  code, said = call(capsys, monkeypatch, main, *argv)
  assert code == 2, said
  lines = said.strip().splitlines()
  assert len(lines) == 1 and lines[0].startswith('ssljax: '), said
  assert re.search(wanted, lines[0]), said
  assert {p: p.read_bytes() for p in before} == before
  assert not (tmp_path / 'run' / 'checkpoints').exists()  # found out before the first step


def test_help_lists_the_flags_of_the_command_and_those_it_shares(capsys, monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['ssljax', '--help'])
  with pytest.raises(SystemExit) as stop:
    cli.run(main.main)
  said = capsys.readouterr().out
  assert stop.value.code == 0 and '--config:' in said and '--workdir:' in said
  assert '--undefok' not in said


def test_divergence_stops_names_the_step_and_saves_nothing_of_it(tmp_path, capsys, monkeypatch):
  flags = ('--config.optim.name=sgd', '--config.optim.learning_rate=1e38', '--config.steps=6')
  argv = on('simclr,digits', *TINY, *flags, '--config.checkpoint_every=1')(tmp_path)
  code, said = call(capsys, monkeypatch, main, *argv)
  assert code == 2 and 'at step ' in said and 'learning_rate' in said
  step = int(said.split('at step ')[1].split(':')[0])
  saved = [int(p.name) for p in (tmp_path / 'run' / 'checkpoints').iterdir() if p.name.isdigit()]
  assert saved and max(saved) < step


def test_damaged_checkpoints_and_runs_that_are_none(tmp_path, capsys, monkeypatch):
  argv = on('simclr,digits', *TINY, '--config.eval.protocols=()')(tmp_path)
  assert call(capsys, monkeypatch, main, *argv)[0] == 0
  assert call(capsys, monkeypatch, main, *argv)[0] == 0  # done: says so, and does nothing
  (tmp_path / 'run' / 'summary.json').unlink()
  for path in (tmp_path / 'run' / 'checkpoints').rglob('*'):
    if path.is_file() and 'state' in path.parts:
      path.write_bytes(b'')
  code, said = call(capsys, monkeypatch, main, *argv)
  assert code == 2 and 'none of the checkpoints (2) can be read' in said.splitlines()[-1]
  code, said = call(capsys, monkeypatch, evaluate, f'--workdir={tmp_path}/nothing')
  assert code == 2 and 'holds no run' in said
  (tmp_path / 'f.npz').write_bytes(b'')
  code, said = call(
    capsys, monkeypatch, embed, f'--workdir={tmp_path}/run', f'--out={tmp_path}/f.npz'
  )
  assert code == 2 and 'exists already' in said
  code, said = call(capsys, monkeypatch, embed, f'--workdir={tmp_path}/run', f'--out={tmp_path}/f')
  assert code == 2 and "/f', wanted the name of an .npz" in said  # NumPy would write over f.npz
