"""FLOPs of a traced function. XLA's own count takes the body of a loop once, often as it runs."""

import math

from jax.extend import core

# cuDNN's attention: how many products [T, S] its formula has, not those it computes again.
CUDNN = {'dot_product_attention_fwd_wrapper': 2, 'dot_product_attention_bwd_wrapper': 4}


def count(jaxpr: core.Jaxpr) -> float:
  """FLOPs of the matrix products and convolutions of a jaxpr, two for each multiply-add.

  Bodies of `scan` count as often as they run, of `while` once; of the branches of `cond` (and of
  `platform_dependent`) the dearest. All else is left out: it is memory that bounds it.
  """
  total, used = 0.0, {v for v in jaxpr.outvars if isinstance(v, core.Var)}
  for eqn in reversed(jaxpr.eqns):
    if used.intersection(eqn.outvars) or eqn.effects:  # the compiler drops the others
      total += _of(eqn)
      used.update(v for v in eqn.invars if isinstance(v, core.Var))
  return total


def _of(eqn):
  name, params = eqn.primitive.name, eqn.params
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    inner = math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
    return 2.0 * eqn.outvars[0].aval.size * inner
  if name == 'conv_general_dilated':
    numbers = params['dimension_numbers']
    kernel = eqn.invars[1].aval.shape
    taps = math.prod(kernel[i] for i in numbers.rhs_spec[1:])  # of one output, all its inputs
    # Between the rows and columns of an input that is spread out there is nothing to multiply.
    return 2.0 * eqn.outvars[0].aval.size * taps / math.prod(params['lhs_dilation'])
  if name in CUDNN:
    (*_, tokens, heads, width), others = (v.aval.shape for v in eqn.invars[:2])
    return CUDNN[name] * 2.0 * math.prod(others[:-3]) * tokens * others[-3] * heads * width
  inside = [count(j) for j in _jaxprs(params)]
  if name == 'cond':
    return max(inside, default=0.0)
  if name == 'shard_map':  # the body is one device's
    return sum(inside) * params['mesh'].size
  return sum(inside) * (params['length'] if name == 'scan' else 1)


def _jaxprs(params):
  """The jaxprs among the parameters of a primitive."""
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, core.Jaxpr):
        yield item
