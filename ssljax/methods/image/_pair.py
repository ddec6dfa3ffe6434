"""What methods on views of images have in common: functions to build from, not a base class."""

import operator

import jax
import jax.numpy as jnp

from ssljax import ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _features
from ssljax.net import chain, features, over_views

# For presets 'tiny': what two views of a small picture may differ in without losing its subject.
TINY_VIEWS = {
  'scale': (0.4, 1.0),
  'interpolation': 'bilinear',
  'flip': 0.0,
  'jitter': (0.4, 0.4, 0.4, 0.2),
  'jitter_prob': 0.8,
  'grayscale_prob': 0.5,
}
TINY_ENCODER = {'name': 'resnet10', 'stem': 'small', 'width': 16}
TINY = {
  'encoder': TINY_ENCODER,
  'batch_size': 256,
  'epochs': 12,
  'optim': {'name': 'adamw', 'learning_rate': 2e-3, 'weight_decay': 1e-4},
}


def queue_memory(size, width):
  """(rng) -> a queue of random rows at length one, and where its oldest row is."""

  def memory(rng):
    queue = ops.l2_normalize(jax.random.normal(rng, (size, width)))
    return {'queue': queue, 'pointer': jnp.zeros((), jnp.int32)}

  return memory


def enqueued(state, rows):
  """`state` with rows [B, D], at length one, written over the oldest of its queue."""
  if len(rows) > len(state['queue']):
    raise InputError(
      f'method.queue_size is {len(state["queue"])}, wanted at least the {len(rows)} rows of a batch'
    )
  queue, pointer = ops.enqueue(state['queue'], state['pointer'], ops.l2_normalize(rows))
  return {**state, 'queue': queue, 'pointer': pointer}


def make_views(config, *, with_parameters=False):
  """(rng, batch) -> batch with 'image' [B, H, W, C] replaced by its views [B, V, h, w, C].

  `config` of several sizes gives a dict of them. With parameters the batch also has 'views', what
  was drawn for each of them: {name: [B, V, ...]}.
  """
  augment = image.make(config, with_parameters=with_parameters)

  def views(rng, batch):
    if not with_parameters:
      return {**batch, 'image': augment(rng, batch['image'])}
    images, parameters = augment(rng, batch['image'])
    return {**batch, 'image': images, 'views': parameters}

  return views


def make_embed(network, config):
  """(params, state, batch) -> what `_features.read` gives, and the projector's 'projection'.

  With running batch statistics. Of further networks in the chain only those run that `params` has.
  """
  size = image.main(config)

  def embed(params, state, batch):
    x = image.prepare(batch['image'], size)
    outputs, _ = network.apply(params, state['stats'], x, train=False)
    named = _features.read(outputs['encoder'])
    if 'projector' in outputs:
      named['projection'] = features(outputs['projector']).astype(jnp.float32)
    return named

  return embed


def make_embed_views(views, embed, config):
  """(params, state, batch, rng) -> features [B, V, D] of random views of each image."""
  size = image.main(config)

  def embed_views(params, state, batch, rng):
    x = views(rng, batch)['image']
    x = image.to_display(x['global'] if isinstance(x, dict) else x, size)
    x = x if x.ndim == 5 else x[:, None]
    flat = {**batch, 'image': x.reshape(-1, *x.shape[2:])}
    return embed(params, state, flat)['features'].reshape(*x.shape[:2], -1)

  return embed_views


def _looks(network, config, views):
  """The fields of a method that let others look at it."""
  views = make_views(config.views) if views is None else views
  embed = make_embed(network, config.views)
  return {
    'views': views,
    'embed': embed,
    'embed_views': make_embed_views(views, embed, config.views),
  }


def two(z):
  """The two views of z [B, 2, ...]; InputError for more, or for fewer, where JAX would take one
  twice."""
  if z.shape[1] != 2:
    raise InputError(f'method.views.num_views makes {z.shape[1]} views, wanted 2')
  return z[:, 0], z[:, 1]


def feature_maps(outputs):
  """An encoder's maps [N, h, w, D], one after each stage; InputError where it has none."""
  if 'maps' not in outputs:
    raise InputError(
      f'the encoder gives {", ".join(sorted(outputs))}, but this method needs its feature maps: '
      'wanted one that has them, for example encoder=resnet18'
    )
  return outputs['maps']


def _reader(outputs, nets):
  if outputs is None:
    return operator.itemgetter(list(nets)[-1])
  return outputs if callable(outputs) else lambda found: {name: found[name] for name in outputs}


def one_network(config, objective, *, outputs=None, memory=None, views=None, join=chain, **nets):
  """A method whose `nets`, encoder first, see all views of an image.

  objective: (params, state, z, batch, rng, step) -> (loss, (state, metrics)), with z the last
    network's outputs [B, V, ...].
  outputs: what takes the place of z: names of networks, for a dict of their outputs, or a function
    of the outputs of all of them by name.
  memory: (rng) -> what `state` holds besides the batch statistics.
  views: as `make_views` makes them, if not from config.views alone.
  join: makes one network of `nets`, as `chain` and `fork` do.
  """
  network = join(**nets)
  paired = over_views(network, view_stats=config.view_stats)
  read = _reader(outputs, nets)

  def init(rng, batch):
    memory_rng, rng = jax.random.split(rng)
    params, stats = paired.init(rng, batch['image'])
    return params, {'stats': stats, **(memory(memory_rng) if memory else {})}

  def forward(params, state, batch, rng, step):
    found, stats = paired.apply(params, state['stats'], batch['image'], train=True, rng=rng)
    return read(found), {**state, 'stats': stats}

  looks = _looks(network, config, views)
  return two_part(init=init, forward=forward, objective=objective, **looks)


def with_teacher(
  config, objective, decay, *, predictor=None, student_views=slice(None),
  teacher_views=slice(None), bn_splits=1, memory=None, views=None, join=chain, outputs=None, **nets,
):  # fmt: skip
  """A method whose `nets`, encoder first, have a moving average that nothing trains.

  objective: (params, state, outputs, batch, rng, step) -> (loss, (state, metrics)), with outputs a
    dict of [B, V, ...]: 'z' of the student's last network, 'p' of its predictor, if there is one,
    and 'target' of the teacher's last network, without a gradient.
  decay: step -> how much of the teacher stays after that step.
  student_views, teacher_views: which of the V views each of them sees.
  bn_splits: into how many groups the images of a view are dealt for batch statistics, the teacher's
    in another order than the student's, as on as many devices with shuffled keys (MoCo, section
    3.3). It goes with view_stats 'separate' and one view each.
  memory, views, join: as in `one_network`; outputs too, which gives 'z' and 'target'.

  Both networks run in training mode; the teacher keeps batch statistics of its own.
  """
  network = join(**nets, **({'predictor': predictor} if predictor else {}))
  paired = over_views(network, view_stats=config.view_stats)
  read = _reader(outputs, nets)

  def in_splits(params, stats, x, rng):
    if len(x) % bn_splits:
      raise InputError(f'method.bn_splits is {bn_splits}, wanted a divisor of the {len(x)} images')
    # Groups stand where views do: [B, 1, ...] -> [B / n, n, ...].
    x = x.reshape(-1, bn_splits, *x.shape[2:])
    outputs, stats = paired.apply(params, stats, x, train=True, rng=rng)
    return jax.tree.map(lambda y: y.reshape(-1, 1, *y.shape[2:]), outputs), stats

  def shuffled(params, stats, x, rng):
    order = jax.random.permutation(rng, len(x))
    outputs, stats = in_splits(params, stats, x[order], rng)
    return jax.tree.map(lambda y: y[jnp.argsort(order)], outputs), stats

  def together(params, stats, x, rng):
    return paired.apply(params, stats, x, train=True, rng=rng)

  run, run_teacher = (in_splits, shuffled) if bn_splits > 1 else (together, together)

  def teacher(tree):
    return {name: tree[name] for name in nets}

  def init(rng, batch):
    memory_rng, rng = jax.random.split(rng)
    params, stats = paired.init(rng, batch['image'])
    target = {'params': teacher(params), 'stats': teacher(stats)}
    return params, {'stats': stats, 'target': target, **(memory(memory_rng) if memory else {})}

  def forward(params, state, batch, rng, step):
    x, target = batch['image'], state['target']
    if not x[:, teacher_views].shape[1]:
      raise InputError(f'method.views.num_views makes {x.shape[1]} view, wanted 2')
    seen, stats = run(params, state['stats'], x[:, student_views], rng)
    aimed, target_stats = run_teacher(target['params'], target['stats'], x[:, teacher_views], rng)
    found = {'z': read(seen), 'target': jax.lax.stop_gradient(read(aimed))}
    if predictor:
      found['p'] = seen['predictor']
    return found, {**state, 'stats': stats, 'target': {**target, 'stats': target_stats}}

  def update(params, state, step):
    target = state['target']
    moved = ops.ema(target['params'], teacher(params), decay(step))
    return {**state, 'target': {**target, 'params': moved}}

  looks = _looks(network, config, views)
  return two_part(init=init, forward=forward, objective=objective, update=update, **looks)
