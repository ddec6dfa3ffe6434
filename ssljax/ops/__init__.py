"""Small pure functions that losses, augmentations and methods share."""

from ssljax.ops._check import as_float, check_shape
from ssljax.ops._masking import random_mask, restore_tokens, take_tokens
from ssljax.ops._memory import enqueue, remember
from ssljax.ops._moving import cosine_ramp, ema
from ssljax.ops._normalize import l2_normalize
from ssljax.ops._patches import patchify, unpatchify

__all__ = [
  'as_float',
  'check_shape',
  'cosine_ramp',
  'ema',
  'enqueue',
  'l2_normalize',
  'patchify',
  'random_mask',
  'remember',
  'restore_tokens',
  'take_tokens',
  'unpatchify',
]
