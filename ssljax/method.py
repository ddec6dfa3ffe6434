"""The contract every method keeps, and the train step made from it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssljax.errors import InputError


def _unchanged_batch(rng, batch):
  return batch


def _unchanged_state(params, state, step):
  return state


class Method(NamedTuple):
  """A self-supervised method as pure functions of pytrees.

  init:    (rng, batch) -> (params, state). `batch` is what `views` returns.
  loss:    (params, state, batch, rng, step) -> (scalar, (state, metrics)), over the global batch.
  embed:   (params, state, batch) -> {name: [B, D]}; always has 'features'. `batch` is as the data
           gives it.
  views:   (rng, batch) -> batch. Every random choice made for an example happens here.
  update:  (params, state, step) -> state, after the optimizer step: moving-average teachers.
  constrain: (params) -> params, after the optimizer step and before `update`: unit prototypes.
  refresh: (params, state, features, rng) -> state, between epochs: cluster labels, neighbours.
  refresh_every: epochs from one refresh to the next; 0 for one before the first step only.
  refresh_feature: which of the arrays that `embed` gives `refresh` gets, of all examples.
  select:  (state, index, rng) -> {name: int32 [B]} with 'index' and each of `partners`: the
           method's own choice of examples, given the one whose turn it is. The batch then has the
           'image' of 'index', and of a partner 'neighbor' 'neighbor_image'. Needs a set that is
           kept on the devices.
  partners: names of the further examples that `select` chooses.
  labels: whether the batch has 'label' too, for methods that learn from labels.
  forward, objective: the two halves of `loss`, see `two_part`; needed for gradient accumulation.
  step:    (tx) -> ((train_state, batch, rng) -> (train_state, metrics)), for methods that need more
           than one optimizer step a batch; replaces the step made here.
  embed_views: (params, state, batch, rng) -> features [B, V, D] of random views of each example,
           for the metrics that compare views.
  show:    (params, state, batch, rng) -> {title: [n, k, H, W, C] in [0, 1]}, pictures for the
           report.
  frozen:  {regular expression over parameter paths: reason}, parameters no gradient reaches on
           purpose.
  held:    {regular expression over parameter paths: steps}, parameters that do not move in so many
           first steps.

  `params` is what the optimizer trains, `state` everything else the method remembers; both are
  pytrees of arrays of fixed shapes, made inside `jit`.
  """

  init: Callable
  loss: Callable
  embed: Callable
  views: Callable = _unchanged_batch
  update: Callable = _unchanged_state
  constrain: Callable | None = None
  refresh: Callable | None = None
  refresh_every: int = 1
  refresh_feature: str = 'features'
  select: Callable | None = None
  partners: tuple[str, ...] = ()
  labels: bool = False
  forward: Callable | None = None
  objective: Callable | None = None
  step: Callable | None = None
  embed_views: Callable | None = None
  show: Callable | None = None
  frozen: Mapping[str, str] = MappingProxyType({})
  held: Mapping[str, int] = MappingProxyType({})


class TrainState(NamedTuple):
  """All that a run remembers, as one pytree: one set of partition rules, one checkpoint."""

  step: jax.Array
  params: Any
  opt_state: Any
  state: Any


def two_part(*, forward, objective, **fields) -> Method:
  """A method whose loss is `objective` of what `forward` computes for each example.

  forward:   (params, state, batch, rng, step) -> (outputs, state); outputs are floating arrays [B,
             ...], each row a function of that row of the batch (batch norm aside). It is what costs
             memory.
  objective: (params, state, outputs, batch, rng, step) -> (scalar, (state, metrics)); couples the
             batch.

  Split so, the gradient of a large batch can be had from small ones, exactly: see
  `make_train_step`.
  """

  def loss(params, state, batch, rng, step):
    outputs, state = forward(params, state, batch, rng, step)
    return objective(params, state, outputs, batch, rng, step)

  return Method(loss=loss, forward=forward, objective=objective, **fields)


def make_init(method: Method, tx: optax.GradientTransformation) -> Callable:
  """(rng, batch as the data gives it) -> TrainState."""

  def init(rng, batch):
    params, state = method.init(rng, method.views(rng, batch))
    if method.constrain is not None:
      params = method.constrain(params)
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), state)

  return init


def make_gradient(method: Method, micro_batches: int = 1) -> Callable:
  """(params, state, batch, rng, step) -> ((loss, (state, metrics)), gradient).

  With `micro_batches` > 1 only one micro-batch of network activations is alive at a time: the
  outputs of `forward` are computed micro-batch by micro-batch, `objective` sees them all together,
  and its gradient is pulled back through `forward` again micro-batch by micro-batch (Gao et al.
  2021, "Scaling deep contrastive learning batch size under memory limited setup"). The result is
  the gradient of the whole batch, also for losses that compare its examples. Two things are the
  micro-batch's own: the statistics of batch norm, and the draws of dropout.

  Raises InputError if the method has no `forward`.
  """
  if micro_batches == 1:
    return jax.value_and_grad(method.loss, has_aux=True)
  if method.forward is None:
    raise InputError(
      f'micro_batches is {micro_batches}, wanted 1: the loss of this method is not in two parts, '
      'see method.two_part'
    )

  def gradient(params, state, batch, rng, step):
    # Rows are dealt out in strides, [B/n, n], so that every device keeps its share of every
    # micro-batch.
    dealt = jax.tree.map(lambda x: x.reshape(-1, micro_batches, *x.shape[1:]), batch)
    micro_ids = jnp.arange(micro_batches)

    def forward(params, state, i):
      rows = jax.tree.map(lambda x: x[:, i], dealt)
      return method.forward(params, state, rows, jax.random.fold_in(rng, i), step)

    def encode(carried, i):
      outputs, carried = forward(params, carried, i)
      return carried, outputs

    new_state, outputs = jax.lax.scan(encode, state, micro_ids)
    outputs = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), outputs)
    value, (grads, pullback) = jax.value_and_grad(method.objective, argnums=(0, 2), has_aux=True)(
      params, new_state, outputs, batch, rng, step
    )
    pullback = jax.tree.map(lambda x: x.reshape(-1, micro_batches, *x.shape[1:]), pullback)

    def pull(grads, i):
      _, vjp = jax.vjp(lambda p: forward(p, state, i)[0], params)
      (micro,) = vjp(jax.tree.map(lambda x: x[:, i], pullback))
      return jax.tree.map(jnp.add, grads, micro), None

    grads, _ = jax.lax.scan(pull, grads, micro_ids)
    return value, grads

  return gradient


def make_train_step(
  method: Method, tx: optax.GradientTransformation, *, micro_batches: int = 1
) -> Callable:
  """(train_state, batch, rng) -> (train_state, metrics); `rng` is the run's key at every step."""
  if method.step is not None:
    return method.step(tx)
  gradient = make_gradient(method, micro_batches)

  def step(train_state, batch, rng):
    view_rng, loss_rng = jax.random.split(jax.random.fold_in(rng, train_state.step))
    batch = method.views(view_rng, batch)
    (loss, (state, metrics)), grads = gradient(
      train_state.params, train_state.state, batch, loss_rng, train_state.step
    )
    updates, opt_state = tx.update(grads, train_state.opt_state, train_state.params)
    params = optax.apply_updates(train_state.params, updates)
    if method.constrain is not None:
      params = method.constrain(params)
    state = method.update(params, state, train_state.step)
    metrics = {**metrics, 'loss': loss, 'grad_norm': optax.tree.norm(grads)}
    return TrainState(train_state.step + 1, params, opt_state, state), metrics

  return step
