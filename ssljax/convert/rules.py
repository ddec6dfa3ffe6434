"""One line of a table of names, read in both directions.

A rule says that our array `ours` is their tensors `theirs`, one after the other along their first
axis, in another arrangement; `{}` stands for the number of a block in both.
"""

from typing import NamedTuple

import numpy as np


class Rule(NamedTuple):
  """ours: our path. theirs: their names. kind: how arrays of the two differ, one of KINDS."""

  ours: str
  theirs: tuple[str, ...]
  kind: str = 'same'


# kind: (theirs, concatenated -> ours; ours, patch size -> theirs before they are split)
KINDS = {
  'same': (lambda x: x, lambda x, p: x),
  'linear': (lambda x: x.T, lambda x, p: x.T),
  'conv': (lambda x: x.transpose(2, 3, 1, 0), lambda x, p: x.transpose(3, 2, 0, 1)),
  'patch': (
    lambda x: x.transpose(2, 3, 1, 0).reshape(-1, len(x)),
    lambda x, p: x.reshape(p, p, -1, x.shape[-1]).transpose(3, 2, 0, 1),
  ),
  # [1, ...] and [1, 1, D]
  'row': (lambda x: x[0], lambda x, p: x[None]),
  'token': (lambda x: x[0, 0], lambda x, p: x[None, None]),
}
RANK = {'linear': 2, 'conv': 4, 'patch': 4, 'token': 3}


def norm(ours, theirs):
  """A scale and a bias, of layer norm or batch norm."""
  return [Rule(f'{ours}/scale', (f'{theirs}.weight',)), Rule(f'{ours}/bias', (f'{theirs}.bias',))]


def linear(ours, *theirs, kind='linear'):
  """A kernel and a bias; of several layers of theirs where ours is fused."""
  return [
    Rule(f'{ours}/kernel', tuple(f'{name}.weight' for name in theirs), kind),
    Rule(f'{ours}/bias', tuple(f'{name}.bias' for name in theirs)),
  ]


def at(part, rules):
  """The rules with our paths under `part`."""
  return [rule._replace(ours=f'{part}/{rule.ours}') for rule in rules]


def expand(rules, has):
  """Rules of the blocks there are: `has(rule)` for block 0, 1, ... until it is false."""
  for rule in rules:
    if '{}' not in rule.ours:
      if has(rule):
        yield rule
      continue
    i = 0
    while True:
      one = Rule(rule.ours.format(i), tuple(t.format(i) for t in rule.theirs), rule.kind)
      if not has(one):
        break
      yield one
      i += 1


def read(rule, tensors):
  """Our array from their arrays, in float32. Raises ValueError where ranks do not fit."""
  for name, x in zip(rule.theirs, tensors, strict=True):
    if x.ndim != RANK.get(rule.kind, x.ndim) or not x.ndim:
      raise ValueError(f'{name} has shape {list(x.shape)}, wanted {RANK.get(rule.kind, 1)} axes')
    if x.dtype.name not in ('float32', 'float16', 'bfloat16'):
      raise ValueError(f'{name} is {x.dtype.name}, wanted float32, float16 or bfloat16')
  x = np.concatenate([x.astype(np.float32) for x in tensors])
  return np.ascontiguousarray(KINDS[rule.kind][0](x))


def write(rule, array, patch_size):
  """Their arrays by name, from our array."""
  x = KINDS[rule.kind][1](np.asarray(array), patch_size)
  return dict(zip(rule.theirs, np.split(x, len(rule.theirs)), strict=True))
