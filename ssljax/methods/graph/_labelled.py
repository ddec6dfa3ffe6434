"""Networks that learn from the labels of some nodes, and from a task of their own besides."""

import jax
import jax.numpy as jnp
import optax

from ssljax import ops
from ssljax.methods.graph import _common
from ssljax.net import Net


def cross_entropy(logits, label):
  """Mean over nodes with a label (not -1) of -log softmax(logits [P, N, C])[label [P, N]]."""
  logits, label = _common.flat(logits).astype(jnp.float32), label.reshape(-1)
  each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label, 0))
  return ops.masked_mean(each, label >= 0)


def accuracy(logits, label):
  """Share of labelled nodes whose largest logit is their label's."""
  right = jnp.argmax(logits, -1) == label
  return ops.masked_mean(right.reshape(-1).astype(jnp.float32), (label >= 0).reshape(-1))


def classified(encoder, classifier):
  """An encoder and a graph network that makes logits of classes of its features, as one.

  Outputs: 'encoder', 'classifier' [P, N, C], and with `pairs` 'pairs' of the classifier.
  """

  def init(rng, batch):
    first, second = jax.random.split(rng)
    params, stats = encoder.init(first, batch)
    x = encoder.apply(params, stats, batch, train=False)[0]['features']
    made, last_stats = classifier.init(second, {**batch, 'x': x})
    return {'encoder': params, 'classifier': made}, {'encoder': stats, 'classifier': last_stats}

  def apply(params, stats, batch, *, train, rng=None, **options):
    rngs = (None, None) if rng is None else jax.random.split(rng)
    outputs, first = encoder.apply(
      params['encoder'], stats['encoder'], batch, train=train, rng=rngs[0], **options
    )
    last, second = classifier.apply(
      params['classifier'],
      stats['classifier'],
      {**batch, 'x': outputs['features']},
      train=train,
      rng=rngs[1],
      **options,
    )
    found = {'encoder': outputs, 'classifier': last['features'], 'pairs': last.get('pairs')}
    return found, {'encoder': first, 'classifier': second}

  return Net(init, apply)


def make_embed(network):
  """(params, state, batch) -> {'features': hidden, 'logits': of classes} of nodes."""

  def embed(params, state, batch):
    outputs, _ = network.apply(params, state['stats'], batch, train=False)
    found = {'features': outputs['encoder']['features'], 'logits': outputs['classifier']}
    return jax.tree.map(lambda x: _common.flat(x).astype(jnp.float32), found)

  return embed
