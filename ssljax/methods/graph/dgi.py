"""DGI: a discriminator tells nodes of the graph, with its summary, from nodes of a corrupted graph.

    s = sigmoid(mean of encoder(graph)), logit of a node h = h . W s
    loss = losses.dgi(nodes of the graph, nodes of the graph with features shuffled over nodes)

Velickovic, Fedus, Hamilton, Lio, Bengio, Hjelm 2019, "Deep graph infomax". Follows the authors'
code; its early stopping on the loss is left to the number of epochs.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.method import Method
from ssljax.methods.graph import _common
from ssljax.models import graph_heads

PAPER = 'Velickovic et al. 2019, Deep graph infomax'
FAMILY = 'contrastive'
LEVEL = ('node',)
PRESETS = ('cora',)


def get_config(preset='cora'):
  """'cora': section 4.2 and the authors' code, for Citeseer too; 'tiny' for a thousand nodes."""
  return ConfigDict(
    {
      'cora': dict(
        encoder=dict(name='gcn', dim=512, depth=1, activation='prelu'),
        batch_size=1,
        epochs=300,
        optim=_common.adam(1e-3),
        method=dict(),
      ),
      'tiny': dict(
        encoder=dict(name='gcn', dim=128, depth=1, activation='prelu'),
        batch_size=1,
        epochs=150,
        optim=_common.adam(1e-3),
        method=dict(),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, discriminator = nets['encoder'], graph_heads.bilinear()

  def views(rng, batch):
    return {**batch, 'corrupted': ops.shuffle_nodes(rng, batch)}

  def init(rng, batch):
    first, second = jax.random.split(rng)
    params, stats = encoder.init(first, batch)
    outputs, _ = encoder.apply(params, stats, batch, train=False)
    head, _ = discriminator.init(second, outputs['features'], outputs['pooled'][:, :1])
    return {'encoder': params, 'discriminator': head}, {'stats': {'encoder': stats}}

  def loss(params, state, batch, rng, step):
    stats = state['stats']['encoder']
    encode = lambda x, i: encoder.apply(  # noqa: E731
      params['encoder'], stats, x, train=True, rng=jax.random.fold_in(rng, i)
    )[0]['features']
    real, corrupted = encode(batch, 0), encode(batch['corrupted'], 1)
    summary = jax.nn.sigmoid(ops.readout(real, batch, 'mean'))[:, :1]
    scores = [
      discriminator.apply(params['discriminator'], {}, h, summary, train=True)[0]
      for h in (real, corrupted)
    ]
    value = losses.dgi(*map(_common.flat, scores), where=_common.flat(batch['nodes']))
    return value, (state, {'chance_loss': jnp.log(2.0)})

  network_embed = _common.make_embed(_common.encoder_only(encoder))
  return Method(init=init, views=views, loss=loss, embed=network_embed)
