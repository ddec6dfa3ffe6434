"""A run that begins with parts of another."""

import functools

import jax
import numpy as np
import pytest
import small
from PIL import Image

from ssljax import checkpoint, config, program, restore, sharding, train, workdir
from ssljax.errors import InputError
from ssljax.models import positions


@functools.cache
def make(name, **encoder):
  config = small.small_config(name)
  config.encoder.update(encoder)
  # Other devices than those that saved: 4 in two groups, then one.
  mesh = sharding.make_mesh(2, 2, jax.devices()[:4]) if name == 'simclr' else sharding.make_mesh(1)
  return config, program.make_program(config, mesh, small.SOURCE, steps=8)


@pytest.fixture
def finished(tmp_path):
  """The folder of a SimCLR run of two steps, and its train state on the host."""
  config, simclr = make('simclr')
  state, _ = small.run(simclr, simclr.init(small.key(7)), 0, 2)
  fields = workdir.to_fields(config)
  workdir.write_json(tmp_path / 'config.json', fields)
  with checkpoint.open_folder(tmp_path / 'checkpoints', fields, versions={}) as checkpoints:
    checkpoints.save(2, state)
  return tmp_path, jax.device_get(state)


def start(folder, parts, name='byol', **encoder):
  _, other = make(name, **encoder)
  fresh = other.init(small.key())
  said = []
  return fresh, restore.start_from(folder, parts, fresh, said.append), said


def test_parts_go_to_student_and_teacher_and_nothing_else_moves(finished):
  folder, saved = finished
  fresh, begun, said = start(folder, ('encoder',))
  encoder, stats = saved.params['encoder'], saved.state['stats']['encoder']
  target = begun.state['target']
  for seen in (begun.params['encoder'], target['params']['encoder']):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(seen), encoder)
  for seen in (begun.state['stats']['encoder'], target['stats']['encoder']):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(seen), stats)
  for name in ('projector', 'predictor'):
    jax.tree.map(np.testing.assert_array_equal, begun.params[name], fresh.params[name])
  assert jax.tree.map(lambda x: x.sharding, begun) == jax.tree.map(lambda x: x.sharding, fresh)
  assert 'encoder' in said[0] and 'step 2' in said[0]
  # And it trains on.
  _, other = make('byol')
  small.run(other, begun, 0, 1)


@pytest.mark.parametrize(
  ('parts', 'encoder', 'sentence'),
  [
    (('encoder', 'decoder'), {}, "init_parts has 'decoder'"),
    (('predictor',), {}, 'has no params/predictor'),
    (('encoder',), {'width': 4}, r'bn_0/bias has shape \[8\], wanted \[4\]'),
  ],
)
def test_what_does_not_fit_is_named(finished, parts, encoder, sentence):
  with pytest.raises(InputError, match=sentence):
    start(finished[0], parts, **encoder)


def test_a_run_without_what_it_could_not_read_opens_again(tmp_path):
  (tmp_path / 'images').mkdir()
  rng = np.random.default_rng(0)
  for i in range(9):
    image = Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8))
    image.save(tmp_path / 'images' / f'{i}.png')
  damaged = tmp_path / 'images' / '4.png'
  damaged.write_bytes(damaged.read_bytes()[:200])
  c = config.get_config('instdisc,folder,preset=tiny,encoder=convnet_small')
  c.update(batch_size=8, steps=1)
  c.data.update(path=str(tmp_path / 'images'), image_size=16)
  mesh = sharding.make_mesh()
  sources, _ = train.open_data(c, mesh, print)
  trained = program.make_program(c, mesh, sources['train'], steps=1)
  fields = workdir.to_fields(c)
  workdir.write_json(tmp_path / 'config.json', fields)
  state, options = trained.init(small.key()), {'versions': {}, 'num_examples': 8}
  with checkpoint.open_folder(tmp_path / 'checkpoints', fields, **options) as checkpoints:
    checkpoints.save(1, state)
  run = restore.open_run(tmp_path)  # its bank has a row for each of 8 images, of 9 files
  jax.tree.map(np.testing.assert_array_equal, run.train_state, state)


def test_a_folder_without_a_run(tmp_path):
  with pytest.raises(InputError, match='holds no run'):
    start(tmp_path, ('encoder',))


def test_a_run_of_before_an_option_has_its_default():
  made = config.get_config('mae,digits,preset=tiny')
  fields = workdir.to_fields(made)
  del fields['optim']['layer_decay'], fields['encoder']['registers'], fields['data']['workers']
  fields['optim']['learning_rate'] = 0.5
  read = config.from_json(fields)
  assert read.data.workers == made.data.workers
  assert (read.optim.layer_decay, read.encoder.registers, read.optim.learning_rate) == (1.0, 0, 0.5)
  assert config.from_json(workdir.to_fields(made)).to_dict() == made.to_dict()
  fields['optim']['learning_rate'] = made.optim.learning_rate
  workdir.refuse_other_config('runs/old', fields, workdir.to_fields(made))
  workdir.refuse_other_config('runs/old', workdir.to_fields(made), fields)
  made.optim.layer_decay = 0.5
  with pytest.raises(InputError, match='optim.layer_decay was 1.0 and is now 0.5'):
    workdir.refuse_other_config('runs/old', fields, workdir.to_fields(made))


def test_data_may_be_moved_and_is_found_from_anywhere(tmp_path, monkeypatch):
  made = config.get_config('simclr,npz')
  made.data.path = 'images.npz'
  monkeypatch.chdir(tmp_path)
  fields = workdir.to_fields(made)
  assert fields['data']['path'] == str(tmp_path / 'images.npz')
  made.data.path = '/elsewhere/images.npz'
  workdir.refuse_other_config('runs/one', fields, workdir.to_fields(made))


def test_positions_are_resized_with_the_first_token_as_it_was():
  table = np.concatenate([np.full((1, 2), 9.0), np.indices((4, 4)).reshape(2, -1).T]).astype('f')
  seen = np.asarray(positions.resize_table(table, 1 + 8 * 8))
  np.testing.assert_array_equal(seen[0], 9)
  grid = seen[1:].reshape(8, 8, 2)
  # It rises all the way, and the two rows in the middle lie around the middle of the old ones.
  assert (np.diff(grid[..., 0], axis=0) > 0).all()
  np.testing.assert_allclose(grid[3:5, :, 0].mean(0), 1.5, rtol=1e-5)
  np.testing.assert_allclose(grid[..., 0], grid[..., 1].T, atol=1e-6)
  np.testing.assert_array_equal(positions.resize_table(table, 17), table)
  with pytest.raises(
    InputError, match='positions has 17 rows, 1 and a grid of 4 x 4: wanted 20, but 19 beside the 1'
  ):
    positions.resize_table(table, 20)
