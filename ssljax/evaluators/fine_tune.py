"""Fine-tuning on a graph: an encoder and a linear layer learn from the labels of few nodes."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

SPLITS = 5

DEFINITION = {
  'classifier': "the encoder's layers and a linear one behind it, all trained with the labels",
  'optimizer': 'Adam, rate 1e-3, decay 1e-6, 200 steps on all training nodes',
  'splits': f'{SPLITS} random ones, 1% training with each class at least once, 1% validation, '
  '98% test',
  'step_chosen_by': 'validation accuracy after every 10 steps, ties to the earlier',
  'metric': 'mean accuracy on the test nodes; random: the same from the untrained encoder',
}


def few_labels(y, rng: np.random.Generator, share: float = 0.01):
  """(train, val, test) places of labelled nodes: so large a share each of the first two, and each
  class in the first."""
  order = rng.permutation(np.flatnonzero(y >= 0))
  count = max(1, round(share * len(order)))
  _, firsts = np.unique(y[order], return_index=True)
  rest = np.setdiff1d(np.arange(len(order)), firsts)  # in the order drawn
  order = order[np.concatenate([firsts, rest])]
  cut = max(count, len(firsts))
  return np.split(order, [cut, cut + count])


def fine_tune(
  apply: Callable, params, y, split, *, num_classes: int, steps: int = 200, every: int = 10,
  learning_rate: float = 1e-3, weight_decay: float = 1e-6, seed: int = 0,
) -> float:  # fmt: skip
  """Test accuracy of an encoder trained on with labels, where validation accuracy was highest.

  apply: (params, rng or None) -> features [N, D]; with a key the network is in training.
  y: int [N]. split: (train, val, test) places.

  The protocol of HypeBoy (Kim et al. 2024), appendix, and its code.
  """
  rng = jax.random.key(seed)
  width = jax.eval_shape(apply, params, rng).shape[-1]
  scale = width**-0.5  # as torch's linear layers
  head = {
    'kernel': jax.random.uniform(rng, (width, num_classes), minval=-scale, maxval=scale),
    'bias': jnp.zeros(num_classes),
  }
  tx = optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate))
  params = {'encoder': params, 'head': head}
  train, val, test = (jnp.asarray(places) for places in split)
  y = jnp.asarray(y)

  def logits(params, rng):
    return apply(params['encoder'], rng) @ params['head']['kernel'] + params['head']['bias']

  def loss(params, rng):
    found = logits(params, rng)[train]
    return optax.softmax_cross_entropy_with_integer_labels(found, y[train]).mean()

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def go_on(params, moments, rng):
    def step(carry, rng):
      params, moments = carry
      updates, moments = tx.update(jax.grad(loss)(params, rng), moments, params)
      return (optax.apply_updates(params, updates), moments), None

    (params, moments), _ = jax.lax.scan(step, (params, moments), jax.random.split(rng, every))
    right = jnp.argmax(logits(params, None), 1) == y
    return params, moments, right[val].mean(), right[test].mean()

  params = jax.tree.map(jnp.array, params)  # ours to give away
  moments, best = tx.init(params), (-1.0, 0.0)
  for i in range(steps // every):
    params, moments, on_val, on_test = go_on(params, moments, jax.random.fold_in(rng, i))
    if float(on_val) > best[0]:
      best = float(on_val), float(on_test)
  return best[1]
