"""Neural graph fingerprints: circular fingerprints of molecules whose parts are differentiable."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import ops
from ssljax.net import from_linen

VARIANTS = {'fingerprint': {}}


def get_config(name):
  """dim: of nodes. length: of the fingerprint. depth: its radius. max_degree: nodes with more
  neighbours share the weights of that many."""
  return ConfigDict({'name': name, 'dim': 20, 'length': 50, 'depth': 3, 'max_degree': 5})


def make(config, *, dtype):
  """Encoder of packs of graphs: {'pooled' [P, G, length], 'features' [P, N, dim]}."""
  fields = {k: v for k, v in config.to_dict().items() if k != 'name'}
  return from_linen(Fingerprint(**fields, dtype=dtype))


class Fingerprint(nn.Module):
  """r_a = h_a + sum of neighbours, h_a = relu(r_a H^deg(a)), f += sum_a softmax(h_a W), per layer.

  Duvenaud et al. 2015, algorithm 2, without their features of bonds; the layer 0 writes into the
  fingerprint too.
  """

  dim: int
  length: int
  depth: int
  max_degree: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, graph, *, train: bool):
    h, count = graph['x'].astype(self.dtype), graph['x'].shape[1]
    real = graph['nodes'][..., None]
    degree = jnp.clip(ops.degrees(graph), 0, self.max_degree).astype(jnp.int32)
    own = jax.nn.one_hot(degree, self.max_degree + 1, dtype=h.dtype)
    f = self.write(h, graph, real, 0)
    for i in range(self.depth):
      sent = ops.at_nodes(h, graph['senders']) * graph['edges'][..., None]
      r = h + ops.aggregate(sent, graph['receivers'], count)
      shape = self.max_degree + 1, r.shape[-1], self.dim
      init = nn.initializers.lecun_normal(in_axis=1, out_axis=2, batch_axis=0)
      weights = self.param(f'hidden_{i}', init, shape).astype(h.dtype)
      bias = self.param(f'bias_{i}', nn.initializers.zeros, (self.dim,)).astype(h.dtype)
      # The weights of each degree are for the nodes that have it.
      h = nn.relu(jnp.einsum('pnf,kfd,pnk->pnd', r, weights, own) + bias)
      f = f + self.write(h, graph, real, i + 1)
    return {'features': jnp.where(real, h, 0), 'pooled': f}

  def write(self, h, graph, real, i):
    logits = nn.Dense(self.length, dtype=h.dtype, name=f'write_{i}')(h)
    return ops.readout(jnp.where(real, jax.nn.softmax(logits), 0), graph)
