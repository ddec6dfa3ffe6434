"""SuperGAT: a graph attention network whose attention also learns to tell edges from other pairs.

    logits of classes = classifier(GAT(graph)), both of attention 'MX' or 'SD' (encoder.attention)
    loss = cross-entropy at labelled nodes + weight * sum over layers of losses.edge_bce of pairs

Kim & Oh 2021, "How to find your friendly neighborhood: graph attention design with
self-supervision". The logits of a pair are averaged over heads; edges are drawn with chance
`edge_ratio`, and `negative_ratio` times as many random pairs: the authors' settings. It learns from
the labels of training nodes, which 'logits' are the classes of.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, models
from ssljax.augment import graph
from ssljax.method import Method
from ssljax.methods.graph import _common, _labelled

PAPER = 'Kim & Oh 2021, How to find your friendly neighborhood: graph attention design'
FAMILY = 'semi-supervised'
LEVEL = ('node',)
PRESETS = ('cora', 'cora_sd', 'cora_binary')


def get_config(preset='cora'):
  """'cora', 'cora_sd': Cora with MX and SD, in the settings of PyTorch Geometric's example;
  'cora_binary': MX in those of the authors' `args.yaml`, found by random search, for features of 0
  and 1 (data.normalize=False); with rows that are divided by their sums its decay leaves nothing.
  'tiny' is 'cora', shorter."""
  edge_ratio = 0.5 if preset == 'cora_sd' else 0.8
  searched = preset == 'cora_binary'
  kind = dict(attention='SD' if preset == 'cora_sd' else 'MX', drop=0.6, attention_drop=0.6)
  return ConfigDict(
    dict(
      encoder=kind
      | dict(name='supergat', dim=64, depth=1, last_heads=8, last_concat=True, activation='elu'),
      batch_size=1,
      epochs={'tiny': 100, 'cora_binary': 490}.get(preset, 500),
      optim=_common.adam(5e-3, 0.0082288 if searched else 5e-4),
      method=dict(
        edge_weight=11.3466 if searched else 4.0,
        edge_ratio=edge_ratio,
        negative_ratio=0.5,
        classifier=kind | dict(name='supergat', depth=1, last_heads=8, last_activation=False),
        num_classes=config_dict.placeholder(int),
      ),
    )
  )


def make(config, nets):
  last = models.get_config('supergat')
  last.update(config.classifier)
  last.dim = config.num_classes
  network = _labelled.classified(nets['encoder'], models.make(last, dtype=jnp.float32))

  def views(rng, batch):
    keep_rng, pairs_rng = jax.random.split(rng)
    edges = jnp.stack([batch['senders'], batch['receivers']], -1)
    count = edges.shape[1]
    number = round(config.edge_ratio * config.negative_ratio * count)
    others = _common.random_pairs(pairs_rng, batch, max(number, 1))
    kept = graph.pair_uniform(keep_rng, batch) < config.edge_ratio
    # As many of the random pairs count as the real edges ask for, whatever the padding.
    wanted = config.edge_ratio * config.negative_ratio * jnp.sum(batch['edges'], 1, keepdims=True)
    counted = jnp.arange(others.shape[1]) < wanted
    where = jnp.concatenate([batch['edges'] & kept, counted], 1)
    return {**batch, 'pairs': jnp.concatenate([edges, others], 1), 'counted': where}

  def init(rng, batch):
    params, stats = network.init(rng, batch)
    return params, {'stats': stats}

  def loss(params, state, batch, rng, step):
    outputs, stats = network.apply(
      params, state['stats'], batch, train=True, rng=rng, pairs=batch['pairs']
    )
    is_edge = jnp.arange(batch['pairs'].shape[1]) < batch['senders'].shape[1]
    is_edge = _common.flat(jnp.broadcast_to(is_edge, batch['counted'].shape))
    layers = [*outputs['encoder']['pairs'], *outputs['pairs']]
    link = sum(
      losses.edge_bce(_common.flat(logits.mean(-1)), is_edge, where=_common.flat(batch['counted']))
      for logits in layers
    )
    logits = outputs['classifier']
    value = _labelled.cross_entropy(logits, batch['label']) + config.edge_weight * link
    metrics = {'train_accuracy': _labelled.accuracy(logits, batch['label']), 'edge_loss': link}
    return value, ({**state, 'stats': stats}, metrics)

  return Method(init=init, views=views, loss=loss, embed=_labelled.make_embed(network), labels=True)
