"""Checkpoints: exact round trip, other meshes, what is kept, and what is done about damage."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssljax import checkpoint, config, sharding, workdir
from ssljax.errors import InputError
from ssljax.method import TrainState


def fields_of(**optim):
  fields = workdir.to_fields(config.get_config('simclr,digits,preset=tiny'))
  return {**fields, 'steps': 10, 'optim': {**fields['optim'], 'learning_rate': 0.1, **optim}}


FIELDS = fields_of(schedule='cosine')


def toy_state(mesh, scale=1.0):
  def init():
    params = {'dense': {'kernel': scale * jnp.arange(32.0).reshape(8, 4), 'bias': jnp.ones(4)}}
    tx = optax.chain(
      optax.clip_by_global_norm(1.0),
      optax.adamw(1e-3, mask={'dense': {'kernel': True, 'bias': False}}),
    )
    state = {'stats': {}, 'queue': jnp.ones((4, 2)), 'count': jnp.int32(3)}
    return TrainState(jnp.int32(0), params, tx.init(params), state)

  shapes = jax.eval_shape(init)
  shardings = sharding.state_shardings(shapes, mesh, min_size=1)
  state = jax.jit(init, out_shardings=shardings)()
  target = jax.tree.map(
    lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings
  )
  return state, target


def open_folder(path, fields=FIELDS, **options):
  return checkpoint.open_folder(
    path / 'checkpoints', fields, versions={'jax': jax.__version__}, **options
  )


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_round_trip_to_another_mesh(tmp_path):
  state, _ = toy_state(sharding.make_mesh(4, 2))
  with open_folder(tmp_path) as checkpoints:
    assert checkpoints.restore(None) is None
    checkpoints.save(3, state)
  _, target = toy_state(sharding.make_mesh(1, 2))
  with open_folder(tmp_path) as checkpoints:
    restored, step = checkpoints.restore(target)
  assert step == 3
  assert_equal(restored, state)
  assert type(restored) is TrainState
  kernel = restored.params['dense']['kernel']
  assert kernel.sharding.shard_shape(kernel.shape) == (4, 4)


def test_keeps_the_last_and_the_best(tmp_path):
  state, _ = toy_state(sharding.make_mesh(1))
  with open_folder(tmp_path, keep_last=2, keep_best='knn') as checkpoints:
    for step, accuracy in ((1, 0.1), (2, 0.9), (3, 0.5), (4, 0.3), (5, 0.2)):
      checkpoints.save(step, state, {'knn': accuracy, 'rankme': 3.0})
    checkpoints.save(6, state)
    checkpoints.wait()
    assert sorted(checkpoints.steps()) == [2, 5, 6]


def damage(folder):
  files = [p for p in folder.rglob('*') if p.is_file() and 'state' in p.parts]
  for path in files:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_newest_is_reported_and_the_one_before_used(tmp_path):
  mesh = sharding.make_mesh(1)
  with open_folder(tmp_path) as checkpoints:
    for step in (1, 2):
      state, target = toy_state(mesh, scale=step)
      checkpoints.save(step, state)
  damage(tmp_path / 'checkpoints' / '2')
  said = []
  with open_folder(tmp_path, say=said.append) as checkpoints:
    restored, step = checkpoints.restore(target)
    assert step == 1
    np.testing.assert_array_equal(restored.params['dense']['kernel'][0], np.arange(4.0))
    checkpoints.save(2, restored)  # its step is free again
  assert 'cannot be read' in said[0] and 'using step 1' in said[0]
  assert (tmp_path / 'checkpoints' / '2.unreadable').is_dir()
  damage(tmp_path / 'checkpoints' / '2')  # once more
  with open_folder(tmp_path, say=said.append) as checkpoints:
    checkpoints.save(2, checkpoints.restore(target)[0])
  assert (tmp_path / 'checkpoints' / '2.unreadable-2').is_dir()
  for step in (1, 2):
    damage(tmp_path / 'checkpoints' / str(step))
  with (
    open_folder(tmp_path, say=said.append) as checkpoints,
    pytest.raises(InputError, match='none of'),
  ):
    checkpoints.restore(target)


def test_changed_config_is_refused_by_field(tmp_path):
  state, target = toy_state(sharding.make_mesh(1))
  with open_folder(tmp_path, num_examples=40) as checkpoints:
    checkpoints.save(1, state)
  changed = {**fields_of(schedule='cosine', learning_rate=0.2), 'eval_every': 3}
  said = pytest.raises(InputError, match=r'optim.learning_rate was 0.1 and is now 0.2;')
  with open_folder(tmp_path, changed) as checkpoints, said as error:
    checkpoints.restore(target)
  assert 'eval_every' not in str(error.value)
  said = pytest.raises(
    InputError, match='on 40 training examples, and the data now has 39 that can'
  )
  with open_folder(tmp_path, num_examples=39) as checkpoints, said:
    checkpoints.restore(target)
  constant = fields_of(schedule='constant')
  other = tmp_path / 'constant'
  with open_folder(other, constant) as checkpoints:
    checkpoints.save(1, state)
  with open_folder(other, {**constant, 'steps': 20}) as checkpoints:
    assert checkpoints.restore(target)[1] == 1


@pytest.mark.parametrize(
  ('method', 'optim', 'goes'),
  [
    ('simclr', {'schedule': 'cosine'}, 'optim.schedule'),
    ('simclr', {'schedule': 'infinite', 'weight_decay_final': 0.4}, 'optim.weight_decay_final'),
    ('byol', {'schedule': 'constant'}, 'method.total_steps'),  # of its teacher's momentum
  ],
)
def test_what_goes_by_the_steps_cannot_be_prolonged(method, optim, goes):
  c = config.get_config(f'{method},digits,preset=tiny')
  c.optim.update(optim)
  c.steps = 10
  saved = workdir.to_fields(c)
  with pytest.raises(
    InputError, match=rf'steps was 10 and is now 20 \(the number of steps decides {goes}\)'
  ):
    workdir.refuse_other_config('runs/one', saved, {**saved, 'steps': 20})
