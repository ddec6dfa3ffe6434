"""What methods on graphs have in common: functions to build from, not a base class."""

import jax
import jax.numpy as jnp

from ssljax.method import Method
from ssljax.net import Net, chain

# Adam at a constant rate, decay added to the gradient, as nearly all papers on graphs have it.
ADAM = {'name': 'adam', 'schedule': 'constant', 'warmup_fraction': 0.0, 'weight_decay': 0.0}


def adam(learning_rate, weight_decay=0.0):
  return {**ADAM, 'learning_rate': learning_rate, 'weight_decay': weight_decay}


def flat(x):
  """[P, N, ...] -> [P N, ...]: all nodes, or all graphs, one after another."""
  return x.reshape(-1, *x.shape[2:])


def make_embed(network, level='node'):
  """(params, state, batch) -> {'features': of nodes or graphs by the encoder}."""
  name = 'features' if level == 'node' else 'pooled'

  def embed(params, state, batch):
    outputs, _ = network.apply({'encoder': params['encoder']}, state['stats'], batch, train=False)
    return {'features': flat(outputs['encoder'][name]).astype(jnp.float32)}

  return embed


def two_views(config, network, views, loss, *, level='node'):
  """A method whose network sees two views of the nodes: `loss(z1, z2, where) -> scalar`.

  views: (rng, graph) -> two graphs.
  """

  def make(rng, batch):
    first, second = views(rng, batch)
    return {**batch, 'views': (first, second)}

  def init(rng, batch):
    params, stats = network.init(rng, batch['views'][0])
    return params, {'stats': stats}

  def whole(params, state, batch, rng, step):
    z, stats = [], state['stats']
    for i, view in enumerate(batch['views']):
      outputs, stats = network.apply(
        params, stats, view, train=True, rng=jax.random.fold_in(rng, i)
      )
      z.append(flat(outputs['projector']))
    return loss(*z, flat(batch['nodes'])), ({**state, 'stats': stats}, {})

  return Method(init=init, views=make, loss=whole, embed=make_embed(network, level))


def random_pairs(rng, graph, count):
  """Pairs of random real nodes of each pack: int [P, count, 2]. Few are edges, if N is large."""
  number = jnp.sum(graph['nodes'], 1)[:, None, None]
  rngs = jax.random.split(rng, len(graph['x']))
  draws = jax.vmap(lambda rng: jax.random.uniform(rng, (count, 2)))(rngs)
  return jnp.floor(draws * number).astype(jnp.int32)


def with_graph(encoder: Net) -> Net:
  """The encoder, whose outputs hold the 'graph' too, with its features for x: for graph layers
  behind it, see `net.fork`."""

  def apply(params, state, graph, **options):
    outputs, state = encoder.apply(params, state, graph, **options)
    return outputs | {'graph': {**graph, 'x': outputs['features']}}, state

  return Net(encoder.init, apply)


def encoder_only(encoder):
  """The encoder as a chain of itself, for `make_embed`."""
  return chain(encoder=encoder)
