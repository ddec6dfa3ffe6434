"""A network as a pair of pure functions, so that methods never import a neural-network library."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError


class Net(NamedTuple):
  """Two pure functions of pytrees.

  init:  (rng, *inputs, **options) -> (params, state)
  apply: (params, state, *inputs, train, rng=None, **options) -> (outputs, state)

  `params` is what an optimizer may train, `state` what the network remembers (batch-norm
  statistics; `{}` if nothing). `state` changes only when `train=True`. `rng` feeds dropout and
  stochastic depth, and is needed only by networks that have them.
  """

  init: Callable
  apply: Callable


def from_linen(module: nn.Module) -> Net:
  """Wraps a linen module whose `__call__` takes `train` as a keyword."""

  def init(rng, *inputs, **options):
    variables = module.init(rng, *inputs, train=False, **options)
    return variables['params'], {k: v for k, v in variables.items() if k != 'params'}

  def apply(params, state, *inputs, train, rng=None, **options):
    rngs = None if rng is None else {'dropout': rng}
    variables = {'params': params, **state}
    if not (train and state):
      return module.apply(variables, *inputs, train=train, rngs=rngs, **options), state
    return module.apply(variables, *inputs, train=train, rngs=rngs, mutable=list(state), **options)

  return Net(init, apply)


def features(outputs):
  """What the next network gets: an encoder's 'features', or a head's array itself."""
  return outputs['features'] if isinstance(outputs, dict) else outputs


def chain(**nets: Net) -> Net:
  """Networks one after the other, each fed the `features` of the one before.

  Parameters, state and outputs are dicts with the given names. `apply` runs as far as `params` has
  entries, so a teacher without the last head is the same chain with fewer parameters.
  """

  def init(rng, x, **options):
    params, state = {}, {}
    for i, (name, net) in enumerate(nets.items()):
      params[name], state[name] = net.init(jax.random.fold_in(rng, i), x, **options)
      x = features(net.apply(params[name], state[name], x, train=False, **options)[0])
    return params, state

  def apply(params, state, x, *, train, rng=None, **options):
    outputs, new_state = {}, {}
    for i, (name, net) in enumerate(nets.items()):
      if name not in params:
        break
      net_rng = None if rng is None else jax.random.fold_in(rng, i)
      outputs[name], new_state[name] = net.apply(
        params[name], state[name], x, train=train, rng=net_rng, **options
      )
      x = features(outputs[name])
    return outputs, new_state

  return Net(init, apply)


def freeze(net: Net, name: str) -> Net:
  """`net` whose parameters under `name` get no gradient: they stay as they are drawn.

  Raises InputError where `net` has no such parameters.
  """

  def init(rng, *inputs, **options):
    params, state = net.init(rng, *inputs, **options)
    if name not in params:
      raise InputError(f'the network has no parameters {name!r} to freeze, it has {sorted(params)}')
    return params, state

  def apply(params, state, *inputs, **options):
    return net.apply({**params, name: lax.stop_gradient(params[name])}, state, *inputs, **options)

  return Net(init, apply)


def fork(sources, /, **nets: Net) -> Net:
  """An encoder, the first of the networks, and the others side by side on its outputs.

  sources: {name: encoder's outputs -> what that network gets}, its `features` if not named; as
    {'dense': lambda outputs: outputs['map']}.

  Parameters, state and outputs are dicts with the given names, as of `chain`, and `apply` runs
  those that `params` has.
  """
  first, *others = nets

  def source(name, outputs):
    return sources.get(name, features)(outputs)

  def init(rng, x, **options):
    made = {first: nets[first].init(jax.random.fold_in(rng, 0), x, **options)}
    seen, _ = nets[first].apply(*made[first], x, train=False, **options)
    for i, name in enumerate(others, 1):
      made[name] = nets[name].init(jax.random.fold_in(rng, i), source(name, seen), **options)
    return {n: params for n, (params, _) in made.items()}, {n: s for n, (_, s) in made.items()}

  def apply(params, state, x, *, train, rng=None, **options):
    outputs, new_state = {}, {}
    for i, name in enumerate(nets):
      if name in params:
        inputs = source(name, outputs[first]) if outputs else x
        net_rng = None if rng is None else jax.random.fold_in(rng, i)
        outputs[name], new_state[name] = nets[name].apply(
          params[name], state[name], inputs, train=train, rng=net_rng, **options
        )
    return outputs, new_state

  return Net(init, apply)


def over_views(net: Net, *, view_stats: str) -> Net:
  """`net` on [B, V, ...]: every output gets the two leading axes back.

  view_stats: 'shared' takes batch-norm statistics over all views together, 'separate' over each
  view by itself. The published code of the methods differs in this and it changes results, so every
  method's config names it. Raises InputError for anything else.
  """
  if view_stats not in ('shared', 'separate'):
    raise InputError(f"view_stats is {view_stats!r}, wanted 'shared' or 'separate'")

  def flat(x):
    return x.reshape(-1, *x.shape[2:])

  def init(rng, x, **options):
    return net.init(rng, flat(x), **options)

  def apply(params, state, x, *, train, rng=None, **options):
    groups = x.shape[1] if view_stats == 'separate' else 1
    outputs, state = net.apply(
      params, state, flat(x), train=train, rng=rng, bn_groups=groups, **options
    )
    return jax.tree.map(lambda y: y.reshape(*x.shape[:2], *y.shape[1:]), outputs), state

  return Net(init, apply)


def over_sizes(net: Net, *, view_stats: str) -> Net:
  """`net` on views of several sizes, {'global': [B, V, ...], 'local': [B, W, ...]}: [B, V + W, D].

  The outputs are the net's features, those of 'global' first. Each size passes by itself, with
  batch statistics of its own, as in the published code of multi-crop methods.
  """
  one = over_views(net, view_stats=view_stats)

  def init(rng, x, **options):
    return one.init(rng, x['global'], **options)

  def apply(params, state, x, *, train, rng=None, **options):
    parts = []
    for i, name in enumerate(sorted(x)):
      size_rng = None if rng is None else jax.random.fold_in(rng, i)
      outputs, state = one.apply(params, state, x[name], train=train, rng=size_rng, **options)
      parts.append(features(outputs))
    return jnp.concatenate(parts, axis=1), state

  return Net(init, apply)
