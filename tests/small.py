"""Every method in a size that compiles in seconds."""

import functools

import jax
import numpy as np
import optax

from ssljax import config, methods, probing, program, sharding
from ssljax.data import communities, motifs, pipeline
from ssljax.method import make_gradient
from ssljax.program import with_own_partners

ROWS, SIZE = 16, 16
COLOURS = ('jitter_prob', 'grayscale_prob', 'blur_prob', 'solarize_prob')
SHRUNK = {
  # Positions whose box is jittered are draws of each micro-batch, as dropout is; so are groups.
  'encoder': {
    'width': 8,
    'dim': 32,
    'depth': 2,
    'heads': 2,
    'rounds': 1,
    'rope_rescale': 1.0,
    'sample_groups': False,
    # The gradient of PReLU's slope is a sum of many terms that cancel but for rounding.
    'activation': 'elu',
  },
  'method': {
    'projector': (32, 16),
    'predictor': (32, 16),
    # So few rows do not determine a covariance: much of the identity is mixed in.
    'w_size': ROWS,
    'w_eps': 0.5,
    'num_slices': 8,
    'freeze_prototypes_steps': 0,
    'num_clusters': 12,
    'num_windows': 2,
    'anchors': 32,
    'window_size': 3,
    'gram_anchor': 0,
    'gram_start': 0,
    # Random ViTs hardly tell images apart: a batch norm behind them multiplies rounding.
    'hidden_norm': '',
  },
  # Behind the last batch norm of plain convolutions another one hides the scale of the first.
  'decoder': {'dim': 16, 'depth': 1, 'heads': 2, 'densify_norm': ''},
  # What the colours cost to compile is spent once, in test_augment.
  'views': {'size': SIZE} | dict.fromkeys(COLOURS, (0.0,)),
}


class Images:
  """A few images that look like something: soft blobs, so that views of one are alike."""

  classes = None

  def __init__(self, count=64, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, SIZE)] * 2, indexing='ij'), -1)
    centre = rng.uniform(-0.6, 0.6, (count, 1, 1, 2))
    blob = np.exp(-8 * ((grid - centre) ** 2).sum(-1))[..., None]
    image = blob * rng.uniform(0.3, 1, (count, 1, 1, channels))
    image += 0.05 * rng.random(image.shape)
    image = np.clip(255 * image, 0, 255).astype(np.uint8)
    self.arrays = {'image': image, 'label': np.arange(count, dtype=np.int32) % 4}

  def __len__(self):
    return len(self.arrays['label'])

  def __getitem__(self, i):
    return {name: array[i] for name, array in self.arrays.items()}


class Vectors(Images):
  """A few vectors around four points."""

  def __init__(self, count=64, width=24, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(count, dtype=np.int32) % 4
    x = rng.normal(size=(4, width))[label] + 0.5 * rng.normal(size=(count, width))
    self.arrays = {'x': x.astype(np.float32), 'label': label}


SOURCE = Images()
SOURCES = {'image': SOURCE, 'vector': Vectors()}


def graph_source(level):
  """A graph of 90 nodes in three communities, or 32 graphs of four kinds in packs of two."""
  if level == 'node':
    c = communities.get_config()
    c.update(num_nodes=90, num_classes=3, width=30)
    return communities.load(c, 'train').fitted([np.arange(1)], 1)
  c = motifs.get_config()
  c.update(num_graphs=64)
  source = motifs.load(c, 'train')
  return source.fitted([np.arange(64)[i : i + ROWS] for i in range(0, 64, ROWS)], 8)


def source_for(name):
  """The examples that a method is tried on."""
  if methods.available()[name] != 'graph':
    return SOURCES[methods.available()[name]]
  return _graphs(methods.load(name).LEVEL[0])


_graphs = functools.cache(graph_source)


def small_config(name, **fields):
  """The method's tiny preset, smaller still; `fields` may change any top-level field.

  A few plain convolutions stand for a residual network: they compile in a third of the time.
  """
  data = {'graph': 'communities'}.get(methods.available()[name], 'digits')
  c = config.get_config(f'{name},{data},preset=tiny')
  if c.encoder.name.startswith('resnet'):
    c = config.get_config(f'{name},digits,preset=tiny,encoder=convnet_small')
  with c.unlocked():
    c.update(batch_size=ROWS, steps=8, **fields)
    c.mesh.fsdp_min_size = 64
    # Plain steps: Adam divides rounding by itself where a gradient is next to nothing.
    c.optim.update(name='sgd', learning_rate=1e-4, weight_decay=0.0, warmup_fraction=0.0)
    c.optim.batch_scaling = 'none'
    views = c.method.get('views', {})
    parts = [('encoder', c.encoder), ('method', c.method), ('decoder', c.method.get('decoder', {}))]
    parts += [('views', view) for view in ([views] if 'size' in views else views.values())]
    for part, fields in parts:
      for field, value in SHRUNK[part].items():
        if field in fields:
          fields[field] = value
  return c


NAMES = tuple(methods.available())


class Made(program.Program):
  """A program that knows the data it was made for."""

  source = SOURCE


def make(name, data=1, fsdp=1, dtype='float32', micro_batches=1):
  """The compiled program of a method, one for all tests that ask for the same."""
  return _make(name, data, fsdp, dtype, micro_batches)


@functools.cache
def _make(name, data, fsdp, dtype, micro_batches):
  c = small_config(name, compute_dtype=dtype, micro_batches=micro_batches)
  mesh = sharding.make_mesh(data, fsdp, jax.devices()[: data * fsdp])
  source = source_for(name)
  if getattr(source, 'whole', False):
    c.batch_size = 1
  made = Made(*program.make_program(c, mesh, source, steps=8))
  made.source = source
  return made


def source_of(program):
  return getattr(program, 'source', SOURCE)


def rows(method, step=0, count=ROWS, repeat=1, source=SOURCE):
  """A host batch as the data gives it; `repeat` gives every row that many times in a row."""
  if hasattr(source, 'collate'):
    count = len(source) if source.whole else count
    index = (np.arange(count) + step * count) % len(source)
    return pipeline.inputs(source.collate(index), method.labels)
  index = (np.arange(count // repeat) + step * count) % len(source)
  index = np.repeat(index, repeat).astype(np.int32)
  arrays = pipeline.inputs(source.arrays, method.labels)
  return {name: array[index] for name, array in arrays.items()} | {'index': index}


def key(seed=0):
  return jax.random.key(seed)


def first_step(program, batch):
  """(loss, gradient, new state) of a run's first step."""
  train_state, metrics = program.step(program.init(key()), batch, resident(program), key())
  # Without decay and before anything else, momentum is the gradient.
  gradient = optax.tree.get(train_state.opt_state, 'trace')
  return metrics['loss'], gradient, train_state.state


def placed(program, **options):
  """`rows` on the program's mesh, this process's share of them."""
  batch = rows(program.method, source=source_of(program), **options)
  if program.method.select is not None:
    batch = {'index': batch['index']}
  return put(program, batch)


def put(program, batch):
  """A host batch on the program's mesh as a run has it there."""
  return probing.place(batch, source_of(program), program)


def seen(program, **options):
  """A placed batch for other functions than the step: each example is its own partner."""
  batch = rows(program.method, source=source_of(program), **options)
  batch = with_own_partners(program.method, batch)
  return put(program, batch)


def resident(program):
  """What of the data is kept on the devices: all of it for methods that choose from it."""
  if program.method.select is None:
    return {}
  return sharding.put_replicated(source_of(program).arrays, program.mesh)


def run(program, train_state, start, stop):
  """The state after steps `start` to `stop`, and their losses."""
  losses = []
  for step in range(start, stop):
    train_state, metrics = program.step(
      train_state, placed(program, step=step), resident(program), key()
    )
    losses.append(float(metrics['loss']))
  return train_state, losses


@functools.cache
def gradient(name, micro_batches):
  """The compiled value and gradient of a method's loss: see `method.make_gradient`."""
  return jax.jit(make_gradient(make(name).method, micro_batches))


@functools.cache
def value(name):
  """The compiled loss of a method: see `Method.loss`."""
  return jax.jit(make(name).method.loss)


@functools.cache
def viewed(name):
  """A batch as the loss gets it, of NumPy arrays."""
  program = make(name)
  return jax.device_get(jax.jit(program.method.views)(key(), seen(program)))


BATCHES = 3


@functools.cache
def trace(name, data, fsdp, *, steps, micro_batches=1):
  """Losses of `steps` steps, and loss, gradient and new state of BATCHES first steps, by path."""
  program = make(name, data, fsdp, micro_batches=micro_batches)
  _, losses = run(program, program.init(key()), 0, steps)
  found = {'losses': np.array(losses)}
  for i in range(BATCHES):
    first = sharding.to_host(first_step(program, placed(program, step=i)))
    for path, array in jax.tree_util.tree_leaves_with_path(first):
      found[f'{i}/{sharding.path_name(path)}'] = np.asarray(array)
  return found


def assert_same(seen, wanted, tolerance=1e-5):
  """Two traces agree: losses to 1e-3, every first loss, gradient and state to its norm's 1e-5.

  In one batch all must agree: a wrong sum is wrong in every batch, while a unit that rounding
  pushes across a ReLU's kink changes gradients in that batch alone.
  """
  assert set(seen) == set(wanted)
  np.testing.assert_allclose(seen['losses'], wanted['losses'], rtol=1e-3)

  def error(name):
    a, b = seen[name].astype(np.float64), wanted[name].astype(np.float64)
    least = 1e-6
    if 'batch_stats/' in name and name.endswith('/mean'):
      # Behind a batch norm a mean may be 0 but for rounding: that is little of the deviation.
      least = 0.01 * np.sqrt(wanted[name.removesuffix('mean') + 'var'].sum())
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), least)

  worst = []
  for i in range(BATCHES):
    names = [name for name in wanted if name.startswith(f'{i}/')]
    worst.append(max((error(name), name) for name in names))
  assert min(worst)[0] < tolerance, f'off by this part of its norm: {worst}'
