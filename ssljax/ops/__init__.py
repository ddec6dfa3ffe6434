"""Small pure functions that losses, augmentations and methods share."""

from ssljax.ops._attention import attend
from ssljax.ops._blocks import block_mask
from ssljax.ops._check import as_float, check_shape
from ssljax.ops._dots import dots
from ssljax.ops._eigen import leading_eigenvectors
from ssljax.ops._fourier import dft2, idft2
from ssljax.ops._gelu import gelu
from ssljax.ops._gradient_ratio import gradient_ratio
from ssljax.ops._graph import (
  aggregate,
  at_nodes,
  degrees,
  edge_softmax,
  edge_weights,
  inner,
  masked_mean,
  readout,
  scale,
  shuffle_nodes,
)
from ssljax.ops._hog import hog
from ssljax.ops._kmeans import kmeans
from ssljax.ops._layout import layout_mask, objects
from ssljax.ops._masking import random_mask, restore_tokens, take_tokens
from ssljax.ops._masks import group_mask, mask_pixels, unit_mask
from ssljax.ops._memory import enqueue, remember
from ssljax.ops._moving import cosine_ramp, ema, linear_ramp
from ssljax.ops._multiblock import block_size, lay_blocks, multiblock_count, multiblock_mask
from ssljax.ops._nearest import nearest
from ssljax.ops._normalize import l2_normalize
from ssljax.ops._outliers import outliers
from ssljax.ops._patches import patchify, unpatchify
from ssljax.ops._permute import permutations, random_partner
from ssljax.ops._places import image_places, place_weights, stratified_places
from ssljax.ops._placing import map_rows, split_rows
from ssljax.ops._project import project
from ssljax.ops._sinkhorn import sinkhorn
from ssljax.ops._walks import are_joined, distinct, neighbour, row_starts, walks
from ssljax.ops._whitening import whiten

__all__ = [
  'aggregate',
  'are_joined',
  'as_float',
  'attend',
  'at_nodes',
  'block_mask',
  'block_size',
  'check_shape',
  'cosine_ramp',
  'degrees',
  'dft2',
  'distinct',
  'dots',
  'edge_softmax',
  'edge_weights',
  'ema',
  'enqueue',
  'gelu',
  'gradient_ratio',
  'group_mask',
  'hog',
  'idft2',
  'image_places',
  'inner',
  'kmeans',
  'l2_normalize',
  'lay_blocks',
  'layout_mask',
  'leading_eigenvectors',
  'linear_ramp',
  'map_rows',
  'mask_pixels',
  'masked_mean',
  'multiblock_count',
  'multiblock_mask',
  'nearest',
  'neighbour',
  'objects',
  'outliers',
  'patchify',
  'permutations',
  'place_weights',
  'project',
  'random_mask',
  'random_partner',
  'readout',
  'remember',
  'restore_tokens',
  'row_starts',
  'scale',
  'shuffle_nodes',
  'sinkhorn',
  'split_rows',
  'stratified_places',
  'take_tokens',
  'unit_mask',
  'unpatchify',
  'walks',
  'whiten',
]
