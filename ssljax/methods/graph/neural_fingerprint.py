"""Neural fingerprint: circular fingerprints of graphs, learned with what they are to predict.

    fingerprint = encoder 'fingerprint' of the graph, logits = an MLP of it
    loss = cross-entropy of the graph's class

Duvenaud, Maclaurin, Iparraguirre, Bombarell, Hirzel, Aspuru-Guzik, Adams 2015, "Convolutional
networks on graphs for learning molecular fingerprints". Supervised: what it is here for is the
encoder, which with large random weights gives fixed fingerprints. Features of bonds, which the
paper adds to those of neighbours, are not here: a batch's edges have none.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict, config_dict

from ssljax.method import two_part
from ssljax.methods.graph import _common
from ssljax.models import heads
from ssljax.net import fork

PAPER = 'Duvenaud et al. 2015, Convolutional networks on graphs for learning molecular fingerprints'
FAMILY = 'supervised'
LEVEL = ('graph',)


def get_config(preset='tiny'):
  """'tiny': sizes of section 5 for a few hundred graphs."""
  return ConfigDict(
    {
      'tiny': dict(
        encoder=dict(name='fingerprint'),
        batch_size=64,
        epochs=40,
        optim=_common.adam(1e-2),
        method=dict(hidden=32, num_classes=config_dict.placeholder(int)),
      )
    }[preset]
  )


def make(config, nets):
  network = fork(
    {'classifier': lambda outputs: outputs['pooled']},
    encoder=nets['encoder'],
    classifier=heads.mlp((config.hidden, config.num_classes), norm=None),
  )

  def init(rng, batch):
    params, stats = network.init(rng, batch)
    return params, {'stats': stats}

  def forward(params, state, batch, rng, step):
    outputs, stats = network.apply(params, state['stats'], batch, train=True, rng=rng)
    return outputs['classifier'], {**state, 'stats': stats}

  def objective(params, state, logits, batch, rng, step):
    logits, label = _common.flat(logits).astype(jnp.float32), batch['label'].reshape(-1)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    right = jnp.argmax(logits, -1) == label
    return jnp.mean(each), (state, {'train_accuracy': jnp.mean(right)})

  def embed(params, state, batch):
    outputs, _ = network.apply(params, state['stats'], batch, train=False)
    named = {'features': outputs['encoder']['pooled'], 'logits': outputs['classifier']}
    return jax.tree.map(lambda x: _common.flat(x).astype(jnp.float32), named)

  return two_part(init=init, forward=forward, objective=objective, embed=embed, labels=True)
