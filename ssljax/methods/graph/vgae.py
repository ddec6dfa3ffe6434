"""VGAE: a normal code for each node, whose inner products say which nodes are joined.

    mean, log std = graph layers of encoder(graph), z = mean + std * noise
    loss = losses.vgae(z_i . z_j at edges, at other pairs, mean, log std)

Kipf & Welling 2016, "Variational graph auto-encoders". Follows the paper, but that other pairs are
sampled, one for each edge, in place of all N^2. `variational=False` is the plain autoencoder, GAE.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, models, ops
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.net import fork

PAPER = 'Kipf & Welling 2016, Variational graph auto-encoders'
FAMILY = 'generative'
LEVEL = ('node',)
PRESETS = ('cora',)


def get_config(preset='cora'):
  """'cora': section 3, 200 epochs at rate 0.01, 32 units and codes of 16; 'tiny' the same. The
  authors do not normalise features: data.normalize=False."""
  if preset not in ('cora', 'tiny'):
    raise KeyError(preset)
  return ConfigDict(
    dict(
      encoder=dict(name='gcn', dim=32, depth=1),
      batch_size=1,
      epochs=200,
      optim=_common.adam(1e-2),
      method=dict(
        code=dict(name='gcn', dim=16, depth=1, last_activation=False),
        variational=True,
      ),
    )
  )


def make(config, nets):
  code = models.get_config('gcn')
  code.update(config.code)
  code = models.make(code, dtype=jnp.float32)
  of_graph = {name: lambda outputs: outputs['graph'] for name in ('mean', 'log_std')}
  network = fork(of_graph, encoder=_common.with_graph(nets['encoder']), mean=code, log_std=code)

  def views(rng, batch):
    noise_rng, pairs_rng = jax.random.split(rng)
    noise = jax.random.normal(noise_rng, (*batch['nodes'].shape, config.code.dim))
    pairs = _common.random_pairs(pairs_rng, batch, batch['edges'].shape[1])
    return {**batch, 'noise': noise, 'pairs': pairs}

  def init(rng, batch):
    params, stats = network.init(rng, batch)
    return params, {'stats': stats}

  def loss(params, state, batch, rng, step):
    outputs, stats = network.apply(params, state['stats'], batch, train=True, rng=rng)
    mean = outputs['mean']['features']
    log_std = jnp.minimum(outputs['log_std']['features'], 10.0)
    if not config.variational:
      log_std = jnp.zeros_like(log_std)
    z = mean + (jnp.exp(log_std) * batch['noise'] if config.variational else 0)

    def scores(senders, receivers):
      return _common.flat(jnp.sum(ops.at_nodes(z, senders) * ops.at_nodes(z, receivers), -1))

    edges = {
      'positive': scores(batch['senders'], batch['receivers']),
      'negative': scores(batch['pairs'][..., 0], batch['pairs'][..., 1]),
      'where': _common.flat(batch['edges']),
      'where_negative': _common.flat(batch['edges']),
    }
    if config.variational:
      flat = {'mean': _common.flat(mean), 'log_std': _common.flat(log_std)}
      value = losses.vgae(**edges, **flat, nodes=_common.flat(batch['nodes']))
    else:
      value = losses.bandana(**edges)
    return value, ({**state, 'stats': stats}, {})

  def embed(params, state, batch):
    outputs, _ = network.apply(params, state['stats'], batch, train=False)
    named = {'features': outputs['mean']['features'], 'hidden': outputs['encoder']['features']}
    return {name: _common.flat(x).astype(jnp.float32) for name, x in named.items()}

  return Method(init=init, views=views, loss=loss, embed=embed)
