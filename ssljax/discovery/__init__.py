"""Finding objects in patch features that nobody labelled: nothing here trains.

A method is a module with a function `discover`: features of the patches of one image in, boxes out,

    discovery.lost.discover(keys, (14, 14), patch_size=16).boxes

The features that the papers take are the keys of the last block of a ViT, without its class token
(`ssljax.looking` gives them). How good boxes are is measured by the functions below.
"""

from ssljax.discovery import cl_vs_mim, lost, most_localization, token_cut
from ssljax.discovery._metrics import box_iou, box_recall, corloc, mask_iou

__all__ = [
  'box_iou',
  'box_recall',
  'cl_vs_mim',
  'corloc',
  'lost',
  'mask_iou',
  'most_localization',
  'token_cut',
]
