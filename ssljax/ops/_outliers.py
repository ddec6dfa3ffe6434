"""Tokens that stand out by their length."""

import jax.numpy as jnp

from ssljax.errors import InputError
from ssljax.ops._check import as_float


def outliers(lengths, *, cutoff=None, factor=4.0):
  """Which share of an image's patch tokens is far longer than the others, and how long they get.

  Large ViTs keep what they know of the whole image in patches of little content, whose tokens are
  long then and useless where patches matter; registers take that over.

  Args:
    lengths: [..., L], of the patch tokens of an image, after the last block and before its norm.
    cutoff: from which length on a token counts: 150 in the paper, read off DINOv2's ViT-g. None for
      `factor` times the median of the image, which fits networks of any scale.

  Returns:
    (share [...], ratio [...]): the share of those tokens, and the longest over the median.

  Raises:
    InputError: factor is not above 1.

  Reference: Darcet et al. 2024 (https://arxiv.org/abs/2309.16588), Section 2.1 and figure 3.
  """
  if factor <= 1:
    raise InputError(
      f'factor is {factor}, wanted more than 1: half of the tokens are at the median'
    )
  lengths = as_float(lengths)
  median = jnp.median(lengths, axis=-1, keepdims=True)
  found = lengths > (factor * median if cutoff is None else cutoff)
  longest = lengths.max(-1) / jnp.maximum(median[..., 0], jnp.finfo(lengths.dtype).tiny)
  return found.mean(-1, dtype=lengths.dtype), longest
