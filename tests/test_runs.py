"""Whole runs from the command line: killed, stopped, moved, looked at."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
import zlib

import numpy as np
import pytest
import small
from conftest import QUICK_TO_COMPILE
from PIL import Image

from ssljax import config, data, embed, evaluate, main
from ssljax import list as listing
from ssljax.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = 80
NETWORK = {
  'simclr': ('encoder.width=4', 'method.projector=(8,8)'),
  'byol': ('encoder.width=4', 'method.projector=(8,8)', 'method.predictor=(8,8)'),
  'mae': ('encoder.dim=16', 'encoder.depth=1', 'encoder.heads=2', 'method.decoder.dim=8',
          'method.decoder.depth=1', 'method.decoder.heads=2'),
}  # fmt: skip


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  path = tmp_path_factory.mktemp('data') / 'images.npz'
  source = small.Images(96)
  label = np.arange(96) % 3
  x = source.arrays['image']
  np.savez(path, train_x=x[:64], train_y=label[:64], test_x=x[64:], test_y=label[64:])
  return path


def flags(name, images, folder, *more):
  fields = (
    f'steps={STEPS}', 'batch_size=16', 'log_every=1', 'checkpoint_every=4', 'report=False',
    'eval.protocols=()', f'data.path={images}', 'method.views.size=16', *NETWORK[name], *more,
  )  # fmt: skip
  return [
    f'--config={ROOT}/configs/default.py:{name},npz,preset=tiny',
    f'--workdir={folder}',
    *(f'--config.{field}' for field in fields),
  ]


def start(argv, devices=2):
  env = os.environ | {
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}' + QUICK_TO_COMPILE
  }
  return subprocess.Popen(
    [sys.executable, '-m', 'ssljax.main', *argv],
    cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip


def finish(process):
  said, _ = process.communicate(timeout=300)
  assert process.returncode == 0, said
  return said


def last_step(folder):
  path = folder / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  try:
    return json.loads(lines[-1])['step']
  except (IndexError, ValueError):
    return 0


def signal_at(process, folder, step, number):
  """Sends the signal once the run has logged the step; says what the process printed."""
  end = time.monotonic() + 120
  while last_step(folder) < step and process.poll() is None and time.monotonic() < end:
    time.sleep(0.001)
  process.send_signal(number)
  said, _ = process.communicate(timeout=120)
  return said


def summary(folder):
  return json.loads((folder / 'summary.json').read_text())


@pytest.mark.parametrize('name', NETWORK)
def test_killed_five_times_is_the_same_to_the_bit(name, images, tmp_path):
  whole, torn = tmp_path / 'whole', tmp_path / 'torn'
  finish(start(flags(name, images, whole)))
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  for kill in range(5):
    process = start(flags(name, images, torn))
    said = signal_at(process, torn, 12 * kill + int(rng.integers(3, 12)), signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, said
  assert 'continuing at step' in finish(start(flags(name, images, torn)))
  assert summary(torn)['params_sha256'] == summary(whole)['params_sha256']
  lines = [json.loads(line) for line in (torn / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in lines if 'loss' in line] == list(range(1, STEPS + 1))


def test_told_to_stop_it_saves_and_goes_on_with_other_devices(images, tmp_path):
  whole, moved = tmp_path / 'whole', tmp_path / 'moved'
  finish(start(flags('byol', images, whole, 'mesh.fsdp=2'), devices=8))
  process = start(flags('byol', images, moved, 'mesh.fsdp=2', 'checkpoint_every=1000'), devices=8)
  said = signal_at(process, moved, 20, signal.SIGTERM)
  assert process.returncode == 0 and 'stopped and saved at step' in said, said
  assert not (moved / 'summary.json').exists()
  said = finish(start(flags('byol', images, moved, 'checkpoint_every=1000'), devices=2))
  assert 'continuing at step' in said
  wanted, seen = losses(whole), losses(moved)
  assert set(seen) == set(wanted)
  step = int(said.split('continuing at step ')[1].split()[0])
  for near in range(step, step + 10):
    np.testing.assert_allclose(seen[near], wanted[near], rtol=1e-3)


def losses(folder):
  lines = map(json.loads, (folder / 'metrics.jsonl').read_text().splitlines())
  return {line['step']: line['loss'] for line in lines if 'loss' in line}


def test_two_processes_are_one_run(images, tmp_path):
  one, two = tmp_path / 'one', tmp_path / 'two'
  more = ('steps=8', 'mesh.fsdp=2', "eval.protocols=('knn-v1',)", 'report=True')
  finish(start(flags('simclr', images, one, *more), devices=4))
  launcher = [sys.executable, ROOT / 'scripts' / 'launch_local.py', '--processes=2', '--']
  env = os.environ | {'XLA_FLAGS': '--xla_force_host_platform_device_count=2' + QUICK_TO_COMPILE}
  done = subprocess.run(
    [*launcher, sys.executable, '-m', 'ssljax.main', *flags('simclr', images, two, *more)],
    cwd=ROOT, env=env, capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert summary(two)['process_count'] == 2 and summary(two)['device_count'] == 4
  assert (two / 'report.html').is_file() and done.stdout.count('scores, %') == 1
  seen, wanted = losses(two), losses(one)
  assert set(seen) == set(wanted) == set(range(1, 9))
  for step in range(1, 4):
    np.testing.assert_allclose(seen[step], wanted[step], rtol=1e-3)


def call(module, *argv, capsys):
  module.main(['ssljax', *map(str, argv)])
  return capsys.readouterr().out


def test_the_commands_on_one_run(images, tmp_path, capsys):
  folder = tmp_path / 'run'
  more = ("eval.protocols=('knn-v1','linear-v1')", 'report=True', 'steps=4', 'eval_every=2')
  argv = flags('mae', images, folder, *more)
  assert 'GFLOP' in call(main, *argv, '--dry_run', capsys=capsys) and not folder.exists()
  printed = call(main, *argv, capsys=capsys)
  assert 'learned' in printed and 'knn-v1' in printed
  found = summary(folder)
  assert found['protocols']['knn-v1']['k'] == 20 and len(found['protocols']) == 2
  metrics = found['metrics']
  for protocol in ('knn-v1', 'linear-v1'):
    assert all(0 <= metrics[f'{protocol}/{which}'] <= 1 for which in ('learned', 'random', 'raw'))
  assert {'rankme', 'lidar', 'alpha_req', 'alignment', 'uniformity', 'feature_std'} <= set(metrics)
  fields = {'method', 'dataset', 'steps', 'seed', 'commit', 'jax_version', 'device', 'seconds'}
  fields |= {'device_count', 'images_per_second', 'peak_memory_bytes', 'params_sha256', 'metrics'}
  assert fields <= set(found)
  lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in lines if 'knn-v1/learned' in line] == [2, 4]
  page = (folder / 'report.html').read_text()
  assert 'reconstruction' in page and 'http' not in page.split('<body')[1].split('<pre')[0]

  printed = call(evaluate, f'--workdir={folder}', '--protocols=knn-v1', capsys=capsys)
  again = json.loads((folder / 'evaluation.json').read_text())
  assert again['step'] == 4 and set(again['protocols']) == {'knn-v1'} and again['seed'] == 0
  assert again['metrics']['knn-v1/learned'] == metrics['knn-v1/learned']
  out = tmp_path / 'features.npz'
  call(embed, f'--workdir={folder}', f'--data={images}', '--split=test', f'--out={out}',
       capsys=capsys)  # fmt: skip
  assert not list(tmp_path.glob('*.partial'))
  with np.load(out) as file:
    assert file['features'].shape == (32, 16)
    np.testing.assert_array_equal(file['label'], np.arange(64, 96) % 3)
    assert 'name' not in file
  files = tmp_path / 'files'
  files.mkdir()
  for name, value in {'b': 200, 'a': 10, 'c': 90}.items():
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(files / f'{name}.png')
  (files / 'b.png').write_bytes(b'no image')
  call(embed, f'--workdir={folder}', f'--data={files}', f'--out={tmp_path}/files.npz',
       capsys=capsys)  # fmt: skip
  with np.load(tmp_path / 'files.npz') as file:
    assert file['name'].tolist() == [str(files / 'a.png'), str(files / 'c.png')]
    assert len(file['features']) == 2
  np.save(tmp_path / 'vectors.npy', np.zeros((40, 8)))
  with pytest.raises(InputError, match='the data has x, wanted image'):
    call(embed, f'--workdir={folder}', f'--data={tmp_path}/vectors.npy', f'--out={tmp_path}/v.npz',
         capsys=capsys)  # fmt: skip


def test_other_data_gets_the_channels_of_the_run(images, tmp_path):
  grey = tmp_path / 'grey.npz'
  np.savez(grey, x=np.zeros((4, 16, 16), np.uint8))
  c = config.get_config('mae,npz,preset=tiny')  # it leaves the channels as they are stored
  for path, others, channels in ((images, grey, 3), (grey, images, 1)):
    c.data.path = str(path)
    run = types.SimpleNamespace(config=c, sources={'train': data.load(c.data, 'train')})
    source = data.load(embed.data_config(run, str(others)), 'train')
    assert source[0]['image'].shape[-1] == channels


def test_list_names_every_method(capsys):
  rows = json.loads(call(listing, '--json', capsys=capsys))
  functions = {'cl_vs_mim', 'lost', 'most_localization', 'token_cut'}  # that train nothing
  functions |= {'clusterfug', 'fastrp', 'fisher_info_embedding', 'kcore_embedding', 'node2vec'}
  assert {row['name'] for row in rows} == set(small.NAMES) | functions
  assert all(row['modality'] and row['family'] and row['paper'] for row in rows)
  assert 'simclr' in call(listing, capsys=capsys)
