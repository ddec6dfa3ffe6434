"""The loop on a method that costs nothing: epochs, streams, and what is written."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from ssljax import config, data, dry_run, probing, sharding, train, workdir
from ssljax.data.source import LazySource
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import simclr
from ssljax.report.metrics import read


def linear_method(settings, nets):
  """Predicts the mean colour; remembers the features it was given at each refresh."""

  def init(rng, batch):
    params = {'kernel': 0.1 * jax.random.normal(rng, (small.SIZE**2 * 3, 3))}
    state = {'bank': jnp.zeros((64, 3)), 'refreshed': jnp.int32(0), 'index_sum': jnp.int32(0)}
    return params, state

  def features(params, batch):
    x = batch['image'].reshape(len(batch['image']), -1) / 255
    return x @ params['kernel']

  def forward(params, state, batch, rng, step):
    return features(params, batch), state | {'index_sum': state['index_sum'] + batch['index'].sum()}

  def objective(params, state, z, batch, rng, step):
    return ((z - batch['image'].mean((1, 2)) / 255) ** 2).mean(), (state, {})

  def refresh(params, state, x, rng):
    return state | {'bank': x, 'refreshed': state['refreshed'] + 1}

  def embed(params, state, batch):
    return {'features': features(params, batch)}

  return two_part(init=init, forward=forward, objective=objective, embed=embed, refresh=refresh)


@pytest.fixture
def run(tmp_path, monkeypatch):
  monkeypatch.setattr(simclr, 'make', linear_method)
  path = tmp_path / 'images.npz'
  np.savez(path, train_x=small.SOURCE.arrays['image'])
  ended = []
  monkeypatch.setattr(
    train.outcome, 'finish', lambda *args, **options: ended.append(args[3]) or options
  )

  def run(name, **fields):
    c = config.get_config('simclr,npz,preset=tiny')
    c.data.path = str(path)
    c.update(steps=12, batch_size=16, log_every=1, checkpoint_every=5)
    c.optim.warmup_fraction = 0.0
    c.update_from_flattened_dict(fields)
    summary = train.train(c, tmp_path / name)
    return ended[-1], summary, read(tmp_path / name / 'metrics.jsonl')

  return run


def test_epochs_refresh_and_metrics(run):
  state, options, lines = run('run')
  # 64 examples in batches of 16: epochs begin with the steps 1, 5 and 9.
  assert int(state.state['refreshed']) == 3
  assert np.abs(state.state['bank']).min(axis=1).max() > 0
  assert int(state.state['index_sum']) == 3 * sum(range(64))
  steps = [line for line in lines if 'loss' in line]
  assert [line['step'] for line in steps] == list(range(1, 13))
  assert steps[-1]['loss'] < steps[0]['loss']
  # The first step compiles and is not timed, though a refresh came before it.
  assert 'images_per_second' not in steps[0]
  assert all(0 <= line['data_wait_fraction'] <= 1 for line in steps[1:])
  assert options['test'].label is None and not any('knn' in name for name in options['metrics'])


def test_streamed_or_resident_or_accumulated_is_the_same_run(run):
  kept, _, _ = run('kept', **{'data.resident': 'yes'})
  streamed, _, _ = run('streamed', **{'data.resident': 'no'})
  parts, _, _ = run('parts', micro_batches=2)
  jax.tree.map(np.testing.assert_array_equal, kept, streamed)
  np.testing.assert_allclose(parts.params['kernel'], kept.params['kernel'], rtol=1e-4, atol=1e-6)


def test_a_dry_run_of_made_devices_counts_their_convolutions(monkeypatch):
  """Gradients of kernels as a CPU has them bring the images of all devices together, and a CPU's
  order holds more than one for memory."""
  c = config.get_config('simclr,digits,preset=tiny')
  here, there = (dry_run.figures(c, made=made) for made in (False, True))
  assert there['step_temporary_bytes'] < 0.5 * here['step_temporary_bytes']
  monkeypatch.setattr(dry_run, 'AS_ACCELERATORS', {})
  fast = dry_run.figures(c, made=True)
  assert there['step_temporary_bytes'] < fast['step_temporary_bytes']
  same = set(here) - {'step_temporary_bytes', 'total_bytes'}
  assert {k: here[k] for k in same} == {k: there[k] for k in same}


def test_a_dry_run_names_the_parameters_that_fsdp_cannot_split(monkeypatch, capsys):
  mesh = sharding.make_mesh(1, 8)
  shapes = {'odd': (7, 9), 'split': (9, 16), 'few': (3,)}
  arrays = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
  places = sharding.state_shardings(arrays, mesh, min_size=4)
  params = jax.tree.map(lambda x, at: x.update(sharding=at), arrays, places)
  c = config.get_config('simclr,digits')
  c.mesh.update(fsdp=8, fsdp_min_size=4)
  assert [x.shape for x in dry_run.unsplit(params, c.mesh)] == [(7, 9)]
  sizes = {'parameter_bytes': 2**23, 'unsplit_parameter_bytes': 2**22, 'total_bytes': 2**30}
  monkeypatch.setattr(dry_run, 'figures', lambda config, made: sizes)
  dry_run.show(c, 80)
  printed = capsys.readouterr().out
  assert '4.0 MiB of the parameters are whole on each device: mesh.fsdp is 8' in printed
  c.mesh.fsdp = 1
  assert dry_run.unsplit(params, c.mesh) == []


def test_a_dry_run_counts_the_examples_without_reading_them(monkeypatch):
  source = LazySource(lambda i: {'image': small.SOURCE[0]['image']} if i == 0 else None, 2**24)
  monkeypatch.setattr(data, 'load', lambda config, split: source)
  c = small.small_config('simclr')
  c.data.resident = 'yes'
  found = dry_run.figures(c)
  assert found['data_bytes'] == 2**24 * small.SOURCE[0]['image'].size > 2**31
  assert found['total_bytes'] > found['data_bytes'] and found['parameters'] > 0
  with pytest.raises(InputError, match='supcon learns from labels, and data digits has none'):
    dry_run.figures(small.small_config('supcon'))


def test_metrics_are_those_of_the_step_that_has_them(run, tmp_path, monkeypatch):
  evaluate, scores = train.probing.evaluate, {4: 9.0, 8: 1.0, 12: 2.0}

  def scored(program, train_state, *args, baselines, **options):
    _, test = evaluate(program, train_state, *args, baselines=baselines, **options)
    return {'rankme': scores[int(train_state.step)], 'baselines': baselines}, test

  monkeypatch.setattr(train.probing, 'evaluate', scored)
  told = contextlib.nullcontext(lambda step: step == 12)  # to stop, in the last step of all
  monkeypatch.setattr(train, 'stop_signal', lambda: told)
  fields = {'checkpoint.keep_best': 'rankme', 'eval_every': 4, 'checkpoint_every': 3}
  _, options, _ = run('run', **fields)
  assert options['metrics'] == {'rankme': 2.0, 'baselines': True}
  # Of steps 3, 6, 9 and 12 only the last was evaluated: the one before it is kept for being new.
  assert sorted(p.name for p in (tmp_path / 'run' / 'checkpoints').iterdir()) == ['12', '9']


def test_a_prolonged_run_has_its_own_config_and_summary(run, tmp_path):
  fields = {'optim.schedule': 'infinite', 'report': False}
  run('run', steps=6, **fields)
  workdir.write_json(tmp_path / 'run' / 'summary.json', {'steps': 6})
  fields['eval.test_examples'] = 32
  run('run', steps=12, **fields)
  config = workdir.read_config(tmp_path / 'run')
  assert (config['steps'], config['eval']['test_examples']) == (12, 32)
  # Killed before it could write another summary, it does so when it is called again.
  assert run('run', steps=12, **fields)[1]['steps'] == 12


@pytest.mark.parametrize(
  ('field', 'value', 'sentence'),
  [
    ('eval.protocols', ('knn-v9',), "'knn-v9' seen, one of .*knn-v1"),
    ('eval.feature', 'cls', "eval.feature is 'cls', wanted one of features"),
    ('eval.train_examples', 0, 'eval.train_examples is 0, wanted at least 1'),
    ('eval.batch_size', 0, 'eval.batch_size is 0, wanted at least 1'),
    ('eval.baselines', ('rando',), "eval.baselines has 'rando', wanted only random and raw"),
    ('checkpoint.keep_best', 'knn-v1/learnt', "'knn-v1/learnt', wanted one of knn-v1/learned, "),
  ],
)
def test_settings_of_the_evaluation_are_checked_before(field, value, sentence):
  c, sources = small.small_config('simclr'), {'train': small.SOURCE, 'test': small.SOURCE}
  check = functools.partial(probing.check, small.make('simclr'))
  c.eval.protocols, c.checkpoint.keep_best = ('knn-v1', 'kmeans-v1'), 'kmeans-v1-nmi/learned'
  check(sources, c)
  c.update_from_flattened_dict({field: value})
  with pytest.raises(InputError, match=sentence):
    check(sources, c)


def test_without_labels_no_score_can_be_the_best():
  c = small.small_config('simclr')
  c.checkpoint.keep_best = 'knn-v1/learned'
  with pytest.raises(InputError, match="'knn-v1/learned', wanted one of rankme, alpha_req"):
    probing.check(small.make('simclr'), {'train': small.SOURCE, 'test': None}, c)


@pytest.mark.parametrize(
  ('field', 'value', 'sentence'),
  [
    ('seed', -1, 'seed is -1, wanted at least 0'),
    ('epochs', float('inf'), 'epochs is inf, wanted a finite number'),
  ],
)
def test_numbers_that_make_no_run(field, value, sentence):
  c = config.get_config('simclr,digits')
  c[field] = value
  with pytest.raises(InputError, match=sentence):
    config.total_steps(c, 1000)
