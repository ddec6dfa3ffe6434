"""GCC: two random walks around a node give two subgraphs, which find each other in a queue.

    subgraph = the nodes that a walk with restarts comes by, and the edges among them; their names
      are forgotten: features are eigenvectors of the subgraph, degrees, and which node is the start
    q = encoder(first), k = slow encoder(second), at length one
    loss = losses.moco(q, k, queue)

Qiu, Chen, Dong, Zhang, Yang, Ding, Wang, Tang 2020, "GCC: graph contrastive coding for graph neural
network pre-training". Follows the authors' code in the loss and the restarts. What is learned works
on graphs of any features, as none are used. A subgraph has at most `nodes` nodes.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.method import Method
from ssljax.methods.graph import _common

PAPER = 'Qiu et al. 2020, GCC: graph contrastive coding for graph neural network pre-training'
FAMILY = 'contrastive'
LEVEL = ('node',)
PRESETS = ('academic',)
DEGREES = 16  # of one-hot degrees, in powers of 2^(1/2)


def get_config(preset='academic'):
  """'academic': section 4.1; 'tiny' is for a graph of thousands of nodes and minutes."""
  gin = dict(name='gin', mlp_norm=True, pool='sum')
  common = dict(temperature=0.07, restart=0.8, momentum=0.999, eigenvectors=8)
  return ConfigDict(
    {
      'academic': dict(
        encoder=gin | dict(dim=64, depth=5),
        batch_size=1,
        epochs=75000,
        optim=_common.adam(5e-3, 1e-5),
        method=common | dict(roots=32, walk=256, nodes=64, queue_size=16384),
      ),
      'tiny': dict(
        encoder=gin | dict(dim=32, depth=3),
        batch_size=1,
        epochs=400,
        optim=_common.adam(2e-3, 1e-5),
        method=common
        | dict(roots=32, walk=64, nodes=24, queue_size=512, momentum=0.99, eigenvectors=4),
      ),
    }[preset]
  )


def make(config, nets):
  encoder = nets['encoder']

  def subgraphs(rng, batch, roots):
    """Around each of the roots [P, R] a pack of its own, [P R, ...], as the encoder takes it."""
    starts, count = ops.row_starts(batch), config.nodes
    paths = ops.walks(rng, batch, roots, config.walk, config.restart)
    nodes, number = ops.distinct(paths, count)
    first, second = jnp.broadcast_arrays(nodes[..., :, None], nodes[..., None, :])
    joined = _common.flat(ops.are_joined(batch, starts, first, second))
    real = jnp.arange(count) < number.reshape(-1, 1)
    joined &= real[:, :, None] & real[:, None, :]
    x = anonymous(joined, real)
    places = jnp.arange(count)
    ends = jnp.broadcast_arrays(places[:, None], places[None])
    ends = [jnp.broadcast_to(e.reshape(-1), (len(real), count * count)) for e in ends]
    return {
      'x': x,
      'nodes': real,
      'graph': jnp.where(real, 0, 1),
      'senders': ends[1],
      'receivers': ends[0],
      'edges': joined.reshape(len(real), -1),
      'index': jnp.zeros((len(real), 1), jnp.int32),
    }

  def anonymous(joined, real):
    """Eigenvectors of the normalised adjacency, made independent of their signs, degrees, start."""
    weights = joined.astype(jnp.float32)
    degree = weights.sum(-1)
    scale = jnp.where(degree > 0, jnp.maximum(degree, 1) ** -0.5, 0)
    normalized = weights * scale[:, None] * scale[:, :, None]
    leading = jnp.abs(ops.leading_eigenvectors(normalized, config.eigenvectors))
    leading = ops.l2_normalize(leading * real[..., None])
    steps = jnp.minimum(jnp.round(2 * jnp.log2(jnp.maximum(degree, 1))), DEGREES - 1)
    start = jnp.zeros_like(degree).at[:, 0].set(1.0)
    x = jnp.concatenate(
      [leading, jax.nn.one_hot(steps.astype(jnp.int32), DEGREES), start[..., None]], -1
    )
    return jax.lax.stop_gradient(x * real[..., None])

  def views(rng, batch):
    root_rng, *rngs = jax.random.split(rng, 3)
    roots = _common.random_pairs(root_rng, batch, config.roots)[..., 0]
    return {**batch, 'views': tuple(subgraphs(r, batch, roots) for r in rngs)}

  def init(rng, batch):
    first, second = jax.random.split(rng)
    params, stats = encoder.init(first, batch['views'][0])
    width = encoder.apply(params, stats, batch['views'][0], train=False)[0]['pooled'].shape[-1]
    # Uniform and not at length one, as in the authors' code.
    bound = (3 / width) ** 0.5
    queue = jax.random.uniform(second, (config.queue_size, width), minval=-bound, maxval=bound)
    return {'encoder': params}, {
      'stats': {'encoder': stats},
      'teacher': params,
      'queue': queue,
      'pointer': jnp.zeros((), jnp.int32),
    }

  def loss(params, state, batch, rng, step):
    stats = state['stats']['encoder']
    seen, stats = encoder.apply(params['encoder'], stats, batch['views'][0], train=True, rng=rng)
    kept, stats = encoder.apply(state['teacher'], stats, batch['views'][1], train=True, rng=rng)
    q, k = (x['pooled'][:, 0].astype(jnp.float32) for x in (seen, kept))
    value = losses.moco(q, k, state['queue'], temperature=config.temperature)
    k = ops.l2_normalize(jax.lax.stop_gradient(k))
    queue, pointer = ops.enqueue(state['queue'], state['pointer'], k)
    made = {**state, 'stats': {'encoder': stats}, 'queue': queue, 'pointer': pointer}
    return value, (made, {'chance_loss': jnp.log(1.0 + config.queue_size)})

  def update(params, state, step):
    return {**state, 'teacher': ops.ema(state['teacher'], params['encoder'], config.momentum)}

  def embed(params, state, batch):
    """Of every node the subgraph that one walk, always the same, finds around it."""
    packs, count = batch['nodes'].shape
    size = min(64, count)
    roots = jnp.arange(-(-count // size) * size).reshape(-1, size) % count

    def some(roots):
      made = subgraphs(jax.random.key(0), batch, jnp.broadcast_to(roots, (packs, size)))
      outputs, _ = encoder.apply(params['encoder'], state['stats']['encoder'], made, train=False)
      return outputs['pooled'].reshape(packs, size, -1).astype(jnp.float32)

    found = jax.lax.map(some, roots).swapaxes(0, 1)  # [P, parts, size, D]
    found = _common.flat(found.reshape(packs, -1, found.shape[-1])[:, :count])
    return {'features': ops.l2_normalize(found)}

  return Method(init=init, views=views, loss=loss, update=update, embed=embed)
