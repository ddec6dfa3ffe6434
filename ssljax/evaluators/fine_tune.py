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
  apply: Callable, params, inputs, y, splits, *, num_classes: int, steps: int = 200,
  every: int = 10, learning_rate: float = 1e-3, weight_decay: float = 1e-6,
) -> list[float]:  # fmt: skip
  """Of each split the test accuracy of an encoder trained on with labels, where validation accuracy
  was highest.

  apply: (params, inputs, rng or None) -> features [N, D]; with a key the network is in training.
  y: int [N]. splits: of (train, val, test) places each; each begins from params and its own draws.

  The protocol of HypeBoy (Kim et al. 2024), appendix, and its code.
  """
  tx = optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate))
  width = jax.eval_shape(apply, params, inputs, jax.random.key(0)).shape[-1]
  y = jnp.asarray(y)

  def begin(rng):
    scale = width**-0.5  # as torch's linear layers
    head = {
      'kernel': jax.random.uniform(rng, (width, num_classes), minval=-scale, maxval=scale),
      'bias': jnp.zeros(num_classes),
    }
    return {'encoder': jax.tree.map(jnp.array, params), 'head': head}  # ours to give away

  def logits(params, inputs, rng):
    features = apply(params['encoder'], inputs, rng)
    return features @ params['head']['kernel'] + params['head']['bias']

  def loss(params, inputs, train, rng):
    found = logits(params, inputs, rng)[train]
    return optax.softmax_cross_entropy_with_integer_labels(found, y[train]).mean()

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def go_on(params, moments, inputs, split, rng):
    train, val, test = split

    def step(carry, rng):
      params, moments = carry
      updates, moments = tx.update(jax.grad(loss)(params, inputs, train, rng), moments, params)
      return (optax.apply_updates(params, updates), moments), None

    (params, moments), _ = jax.lax.scan(step, (params, moments), jax.random.split(rng, every))
    right = jnp.argmax(logits(params, inputs, None), 1) == y
    return params, moments, right[val].mean(), right[test].mean()

  def score(split, rng):
    params, best = begin(rng), (-1.0, 0.0)
    moments = tx.init(params)
    for i in range(steps // every):
      params, moments, on_val, on_test = go_on(
        params, moments, inputs, split, jax.random.fold_in(rng, i)
      )
      if float(on_val) > best[0]:
        best = float(on_val), float(on_test)
    return best[1]

  return [
    score(jax.tree.map(jnp.asarray, tuple(split)), jax.random.key(i))
    for i, split in enumerate(splits)
  ]
