"""Optimizers and schedules by config, all from optax."""

import re
from collections.abc import Mapping

import jax
import optax
from ml_collections import ConfigDict

from ssljax.errors import InputError
from ssljax.sharding import path_name

SCHEDULES = ('cosine', 'constant', 'infinite')
OPTIMIZERS = ('sgd', 'lars', 'adamw')
SCALINGS = ('none', 'linear', 'sqrt')


def get_config(**overrides) -> ConfigDict:
  """Every field with its default; a method gives its paper's values as overrides.

  name: 'sgd', 'lars' (You et al. 2017) or 'adamw'.
  learning_rate: the base rate; `batch_scaling` multiplies it by batch_size/256 ('linear', Goyal et
    al. 2017), by sqrt(batch_size) ('sqrt', SimCLR appendix B.1) or not at all ('none').
  schedule: 'cosine' falls to `final_fraction` of the peak; 'constant' stays there; 'infinite' stays
    until the last `anneal_fraction` of the steps and then falls linearly, so that a run can be
    prolonged from any checkpoint before the fall (Zhai et al. 2022, section 3.5).
  warmup_fraction: share of the steps in which the rate rises linearly from 0.
  weight_decay: decoupled for adamw, added to the gradient for sgd and lars; biases, norm scales and
    other vectors are skipped (and not adapted by lars) unless `decay_all`.
  clip_norm: largest norm of the whole gradient; 0 does not clip.
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
      'decay_all': False,
      'momentum': 0.9,
      'b1': 0.9,
      'b2': 0.999,
      'trust_coefficient': 0.001,
      'clip_norm': 0.0,
    }
  )
  config.update(overrides)
  return config


def _choice(field, seen, wanted):
  if seen not in wanted:
    raise InputError(f'optim.{field} is {seen!r}, wanted one of {", ".join(wanted)}')


def make_schedule(config: ConfigDict, *, total_steps: int, batch_size: int) -> optax.Schedule:
  """step -> learning rate."""
  _choice('schedule', config.schedule, SCHEDULES)
  _choice('batch_scaling', config.batch_scaling, SCALINGS)
  factor = {'none': 1.0, 'linear': batch_size / 256, 'sqrt': batch_size**0.5}
  peak = config.learning_rate * factor[config.batch_scaling]
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


def is_matrix(params):
  """True for the parameters that weight decay and LARS act on: not biases, norms or vectors."""

  def keep(path, x):
    return x.ndim > 1 and path_name(path).rsplit('/', 1)[-1] not in ('bias', 'scale')

  return jax.tree_util.tree_map_with_path(keep, params)


def make(
  config: ConfigDict,
  *,
  total_steps: int,
  batch_size: int,
  frozen: Mapping[str, str] | None = None,
) -> optax.GradientTransformation:
  """The gradient transformation; parameters whose path matches a key of `frozen` never move."""
  _choice('name', config.name, OPTIMIZERS)
  rate = make_schedule(config, total_steps=total_steps, batch_size=batch_size)
  mask = (lambda params: jax.tree.map(lambda _: True, params)) if config.decay_all else is_matrix
  if config.name == 'adamw':
    tx = optax.adamw(rate, config.b1, config.b2, weight_decay=config.weight_decay, mask=mask)
  elif config.name == 'lars':
    tx = optax.lars(
      rate,
      weight_decay=config.weight_decay,
      weight_decay_mask=mask,
      trust_coefficient=config.trust_coefficient,
      trust_ratio_mask=mask,
      momentum=config.momentum,
    )
  else:
    tx = optax.chain(
      optax.add_decayed_weights(config.weight_decay, mask),
      optax.sgd(rate, momentum=config.momentum),
    )
  if config.clip_norm:
    tx = optax.chain(optax.clip_by_global_norm(config.clip_norm), tx)
  if frozen:
    tx = optax.chain(tx, optax.masked(optax.set_to_zero(), lambda p: matches(frozen, p)))
  return tx


def matches(patterns, params):
  """True for the parameters whose path matches one of the regular expressions."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: any(re.search(pattern, path_name(path)) for pattern in patterns), params
  )
