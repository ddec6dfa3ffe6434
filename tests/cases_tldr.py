"""TLDR minimises the loss of Barlow Twins with numbers of its own."""

import functools

from losscheck import Golden

from ssljax import losses

CASES = {}  # those of barlow_twins are in cases_redundancy.py


def golden_tldr(case):
  z, hp, grad = case['in'], case['hp'], case['grad']
  loss = functools.partial(
    losses.barlow_twins,
    lambd=float(hp['lambd']),
    scale_loss=float(hp['scale_loss']),
    eps=float(hp['bn_eps']),
  )
  return Golden(loss, [z['z1'], z['z2']], case['out']['loss'], [grad['z1'], grad['z2']])


GOLDENS = {'tldr': golden_tldr}
