"""Optimizers and schedules by config, all from optax."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict, config_dict

from ssljax import ops
from ssljax.errors import InputError
from ssljax.sharding import path_name

SCHEDULES = ('cosine', 'constant', 'infinite')
OPTIMIZERS = ('sgd', 'lars', 'adam', 'adamw', 'lamb')
SCALINGS = ('none', 'linear', 'sqrt')
CLIPPED = ('whole', 'module', 'array')


def get_config(**overrides) -> ConfigDict:
  """Every field with its default; a method gives its paper's values as overrides.

  name: 'sgd', 'lars' (You et al. 2017), 'adam', 'adamw' or 'lamb' (You et al. 2020).
  learning_rate: the base rate; `batch_scaling` multiplies it by batch_size/256 ('linear', Goyal et
    al. 2017), by sqrt(batch_size) ('sqrt', SimCLR appendix B.1) or not at all ('none').
  schedule: 'cosine' falls to `final_fraction` of the peak; 'constant' stays there; 'infinite' stays
    until the last `anneal_fraction` of the steps and then falls linearly, so that a run can be
    prolonged from any checkpoint before the fall (Zhai et al. 2022, section 3.5).
  warmup_fraction: share of the steps in which the rate rises linearly from 0.
  weight_decay: decoupled for adamw and lamb, added to the gradient for sgd, lars and adam; biases,
    norm scales and other vectors are skipped (and not adapted by lars and lamb) unless `decay_all`.
    With `weight_decay_final` it moves there along a cosine over the run (DINO).
  undecayed: regular expressions of further parameters' paths that weight decay skips.
  layer_decay: what the rate of each block of a ViT under encoder/ is multiplied by for every block
    between it and the heads; patch embedding, positions and first tokens come before the first
    block (Clark et al. 2020; DINOv2). `patch_embed_multiplier` is of the patch embedding besides.
  vector_multiplier: what the rate of biases, norm scales and other vectors is multiplied by (Barlow
    Twins).
  clip_norm: largest norm of the gradient; 0 does not clip. `clip_by` says of what: 'whole', of each
    'module' (encoder, head, ...: DINOv2) or of each 'array' (DINO).
  constant: regular expressions of parameters' paths whose rate stays at the peak, warmup and fall
    aside (SimSiam's predictor).
  """
  config = ConfigDict(
    {
      'name': 'adamw',
      'learning_rate': 1e-3,
      'batch_scaling': 'none',
      'schedule': 'cosine',
      'warmup_fraction': 0.05,
      'final_fraction': 0.0,
      'anneal_fraction': 0.1,
      'weight_decay': 0.05,
      'weight_decay_final': config_dict.placeholder(float),
      'decay_all': False,
      'undecayed': (),
      'layer_decay': 1.0,
      'patch_embed_multiplier': 1.0,
      'vector_multiplier': 1.0,
      'momentum': 0.9,
      'b1': 0.9,
      'b2': 0.999,
      'trust_coefficient': 0.001,
      'clip_norm': 0.0,
      'clip_by': 'whole',
      'constant': (),
    }
  )
  config.update(overrides)
  return config


def _choice(field, seen, wanted):
  if seen not in wanted:
    raise InputError(f'optim.{field} is {seen!r}, wanted one of {", ".join(wanted)}')


def peak_rate(config: ConfigDict, *, batch_size: int) -> float:
  """The highest learning rate of the run."""
  _choice('batch_scaling', config.batch_scaling, SCALINGS)
  factor = {'none': 1.0, 'linear': batch_size / 256, 'sqrt': batch_size**0.5}
  return config.learning_rate * factor[config.batch_scaling]


def make_schedule(config: ConfigDict, *, total_steps: int, batch_size: int) -> optax.Schedule:
  """step -> learning rate."""
  _choice('schedule', config.schedule, SCHEDULES)
  peak = peak_rate(config, batch_size=batch_size)
  warmup = round(config.warmup_fraction * total_steps)
  pieces = [(optax.linear_schedule(0.0, peak, max(warmup, 1)), warmup)] if warmup else []
  rest = max(total_steps - warmup, 1)
  if config.schedule == 'cosine':
    pieces.append((optax.cosine_decay_schedule(peak, rest, config.final_fraction), rest))
  elif config.schedule == 'constant':
    pieces.append((optax.constant_schedule(peak), rest))
  else:
    anneal = min(round(config.anneal_fraction * total_steps), rest)
    pieces.append((optax.constant_schedule(peak), rest - anneal))
    pieces.append(
      (optax.linear_schedule(peak, peak * config.final_fraction, max(anneal, 1)), anneal)
    )
  ends, end = [], 0
  for _, length in pieces[:-1]:
    end += length
    ends.append(end)
  return optax.join_schedules([schedule for schedule, _ in pieces], ends)


def make_decay(config: ConfigDict, *, total_steps: int):
  """The weight decay: a number, or step -> number where it moves."""
  if config.weight_decay_final is None:
    return config.weight_decay
  return lambda step: ops.cosine_ramp(
    step, total_steps, config.weight_decay, config.weight_decay_final
  )


def layer_multipliers(params, layer_decay: float, patch_embed: float = 1.0):
  """What each parameter's rate is multiplied by, a tree like `params` (see `get_config`)."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  paths = [path_name(path) for path, _ in leaves]
  own = [int(m[1]) + 1 for path in paths if (m := re.search(r'^encoder/blocks_(\d+)/', path))]
  stacked = [len(x) for path, x in leaves if _stacked(path)]
  depth = max([0, *own, *stacked])
  first = r'^encoder/(patch_embed/|pos_embed|cls_token|register_tokens|mask_token)'

  def multiplier(path, x):
    name = path_name(path)
    if re.search(first, name):
      embeds = name.startswith('encoder/patch_embed/')
      return layer_decay ** (depth + 1) * (patch_embed if embeds else 1.0)
    if found := re.search(r'^encoder/blocks_(\d+)/', name):
      return layer_decay ** (depth - int(found[1]))
    if _stacked(path):
      rates = layer_decay ** (depth - jnp.arange(depth, dtype=jnp.float32))
      return rates.reshape(-1, *(1,) * (x.ndim - 1))
    return 1.0

  return jax.tree_util.tree_map_with_path(multiplier, params)


def _stacked(path):
  """Whether the arrays of all blocks lie in one, with an axis in front (`scan` of a ViT)."""
  return path_name(path).startswith('encoder/blocks/')


def _clip(norm, by):
  """Scales each module or array, or all of the gradient, whose norm is above `norm` down to it."""
  if by == 'whole':
    return optax.clip_by_global_norm(norm)

  def clip(updates, params):
    def group(path):
      return path_name(path[:1] if by == 'module' else path)

    squares = {}
    for path, x in jax.tree_util.tree_leaves_with_path(updates):
      each = by == 'array' and _stacked(path)
      square = jnp.sum(jnp.square(ops.as_float(x)), tuple(range(each, x.ndim)), keepdims=each)
      squares[group(path)] = squares.get(group(path), 0.0) + square
    shares = {
      name: jnp.minimum(norm / jnp.sqrt(jnp.maximum(s, 1e-12)), 1) for name, s in squares.items()
    }
    return jax.tree_util.tree_map_with_path(
      lambda path, x: (x * shares[group(path)]).astype(x.dtype), updates
    )

  return optax.stateless(clip)


def _by_layer(layer_decay, patch_embed):
  def scale(updates, params):
    rates = layer_multipliers(updates, layer_decay, patch_embed)
    return jax.tree.map(lambda u, rate: u * jnp.asarray(rate, u.dtype), updates, rates)

  return optax.stateless(scale)


def _scale_by_trust_ratio(coefficient=1.0):
  """optax's, of each block's own array where they are stacked."""
  trust = optax.scale_by_trust_ratio(trust_coefficient=coefficient)

  def scale(update, param):
    return trust.update(update, trust.init(param), param)[0]

  return optax.stateless(
    lambda updates, params: jax.tree_util.tree_map_with_path(
      lambda path, u, p: (jax.vmap(scale) if _stacked(path) else scale)(u, p), updates, params
    )
  )


def is_matrix(params):
  """True for the parameters that weight decay and LARS act on: not biases, norms or vectors."""

  def keep(path, x):
    named = path_name(path).rsplit('/', 1)[-1]
    return x.ndim - _stacked(path) > 1 and named not in ('bias', 'scale')

  return jax.tree_util.tree_map_with_path(keep, params)


def _is_vector(params):
  return jax.tree.map(lambda matrix: not matrix, is_matrix(params))


def make(
  config: ConfigDict,
  *,
  total_steps: int,
  batch_size: int,
  frozen: Iterable[str] = (),
  held: Mapping[str, int] = MappingProxyType({}),
) -> optax.GradientTransformation:
  """The gradient transformation.

  Parameters whose path matches one of `frozen` never move; those that match a key of `held` do not
  in so many first steps, weight decay included, while their moments are taken as of all others.
  """
  _choice('name', config.name, OPTIMIZERS)
  rate = make_schedule(config, total_steps=total_steps, batch_size=batch_size)
  mask = (lambda params: jax.tree.map(lambda _: True, params)) if config.decay_all else is_matrix
  decay = optax.add_decayed_weights(
    make_decay(config, total_steps=total_steps), lambda params: _decayed(config, mask(params))
  )
  scale = optax.scale_by_learning_rate(rate)
  if config.constant:
    scale = _scale_but(config.constant, rate, peak_rate(config, batch_size=batch_size))
  if config.name == 'adamw':
    tx = optax.chain(optax.scale_by_adam(config.b1, config.b2), decay, scale)
  elif config.name == 'adam':
    tx = optax.chain(decay, optax.scale_by_adam(config.b1, config.b2), scale)
  elif config.name == 'lamb':
    trust = optax.masked(_scale_by_trust_ratio(), mask)
    tx = optax.chain(optax.scale_by_adam(config.b1, config.b2, eps=1e-6), decay, trust, scale)
  elif config.name == 'lars':
    trust = optax.masked(_scale_by_trust_ratio(config.trust_coefficient), mask)
    tx = optax.chain(decay, trust, scale, optax.trace(config.momentum))
  else:
    tx = optax.chain(decay, optax.trace(config.momentum), scale)
  if (config.layer_decay, config.patch_embed_multiplier) != (1.0, 1.0):
    # The decoupled decay is slowed with the rest, as in torch, where it is part of the rate.
    tx = optax.chain(tx, _by_layer(config.layer_decay, config.patch_embed_multiplier))
  if config.vector_multiplier != 1.0:
    tx = optax.chain(tx, optax.masked(optax.scale(config.vector_multiplier), _is_vector))
  _choice('clip_by', config.clip_by, CLIPPED)
  if config.clip_norm:
    tx = optax.chain(_clip(config.clip_norm, config.clip_by), tx)
  if frozen:
    tx = optax.chain(tx, optax.masked(optax.set_to_zero(), lambda p: matches(frozen, p)))
  for pattern, steps in held.items():
    tx = optax.chain(tx, _hold(pattern, steps))
  return tx


def _hold(pattern, steps):
  """No updates in the first `steps` to the parameters that match."""
  wait = optax.scale_by_schedule(lambda count: count >= steps)
  return optax.masked(wait, lambda params: matches((pattern,), params))


def _decayed(config, kept):
  """The mask `kept` without the parameters that the config leaves undecayed."""
  left_out = matches(config.undecayed, kept)
  return jax.tree.map(lambda keep, out: keep and not out, kept, left_out)


def _scale_but(constant, rate, peak):
  """`scale_by_learning_rate(rate)`, with the rate `peak` for parameters that match `constant`."""

  def others(params):
    return jax.tree.map(lambda matched: not matched, matches(constant, params))

  return optax.chain(
    optax.masked(optax.scale_by_learning_rate(rate), others),
    optax.masked(optax.scale_by_learning_rate(peak), lambda params: matches(constant, params)),
  )


def matches(patterns, params):
  """True for the parameters whose path matches one of the regular expressions."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: any(re.search(pattern, path_name(path)) for pattern in patterns), params
  )
