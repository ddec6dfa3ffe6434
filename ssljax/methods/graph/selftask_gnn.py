"""SelfTask: a network that classifies nodes also solves a task that needs no labels.

    loss = cross-entropy at labelled nodes + weight * the task's, of one encoder with two heads
    tasks: degrees, hidden edges, distances between nodes, to clusters, hidden features, similarity
      of features; and with the labels, distances to labelled nodes and the labels around a node

Jin, Derr, Liu, Wang, Wang, Liu, Tang 2020, "Self-supervised learning on graphs: deep insights and
new direction". Joint training as in the paper; what a task asks is in `_pretexts`, where it also
says what stands for METIS and ICA. 'logits' are of the classes.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import models, ops
from ssljax.errors import InputError
from ssljax.method import Method
from ssljax.methods.graph import _common, _labelled, _pretexts
from ssljax.models import heads

PAPER = 'Jin et al. 2020, Self-supervised learning on graphs: deep insights and new direction'
FAMILY = 'pretext'
LEVEL = ('node',)
PRESETS = ('cora',)


def get_config(preset='cora'):
  """'cora': a GCN of 16 units as in the paper, appendix; 'tiny' is the same, shorter."""
  return ConfigDict(
    dict(
      encoder=dict(name='gcn', dim=16, depth=1, drop=0.5),
      batch_size=1,
      epochs=100 if preset == 'tiny' else 200,
      optim=_common.adam(1e-2, 5e-4),
      method=dict(
        task='distance_to_labelled',
        task_weight=1.0,
        classifier=dict(name='gcn', depth=1, drop=0.5, last_activation=False),
        num_classes=config_dict.placeholder(int),
      ),
    )
  )


def make(config, nets):
  tasks = _pretexts.TASKS | _pretexts.LABELLED_TASKS
  if config.task not in tasks:
    raise InputError(f'method.task is {config.task!r}, wanted one of {", ".join(tasks)}')
  last = models.get_config('gcn')
  last.update(config.classifier)
  last.dim = config.num_classes
  network = _labelled.classified(nets['encoder'], models.make(last, dtype=jnp.float32))
  extra = (config.num_classes,) if config.task in _pretexts.LABELLED_TASKS else ()

  def head(batch):
    width = _pretexts.width(config.task, batch['x'].shape[-1], config.num_classes)
    return heads.mlp((width,), norm=None)

  def views(rng, batch):
    seen, targets = tasks[config.task](rng, batch, *extra)
    return {**batch, 'seen': seen, 'targets': targets}

  def asked(features, targets):
    """What the head is given: nodes, or for a pair how far apart its two are."""
    if 'pairs' not in targets:
      return features
    ends = [ops.at_nodes(features, targets['pairs'][..., i]) for i in (0, 1)]
    return jnp.abs(ends[0] - ends[1])

  def init(rng, batch):
    first, second = jax.random.split(rng)
    params, stats = network.init(first, batch['seen'])
    x = network.apply(params, stats, batch['seen'], train=False)[0]['encoder']['features']
    made, _ = head(batch).init(second, asked(x, batch['targets']))
    return {**params, 'task': made}, {'stats': stats}

  def loss(params, state, batch, rng, step):
    outputs, stats = network.apply(params, state['stats'], batch['seen'], train=True, rng=rng)
    x = asked(outputs['encoder']['features'], batch['targets'])
    answers, _ = head(batch).apply(params['task'], {}, x, train=True)
    task = _pretexts.loss_of(answers.astype(jnp.float32), batch['targets'], batch)
    known = _labelled.cross_entropy(outputs['classifier'], batch['label'])
    metrics = {
      'task_loss': task,
      'train_accuracy': _labelled.accuracy(outputs['classifier'], batch['label']),
    }
    return known + config.task_weight * task, ({**state, 'stats': stats}, metrics)

  return Method(init=init, views=views, loss=loss, embed=_labelled.make_embed(network), labels=True)
