"""Self-supervised losses: pure functions of arrays that import nothing of the trainer.

Arrays first, hyper-parameters as keywords with the paper's values. Everything is computed in
float32 whatever comes in (float64 if an argument is float64) and the result is a scalar of that
type.

The same call works on one device and on many:

- `jit`, with arrays placed on a mesh or not: leave `axis_name=None`; the arrays are the global
  batch and XLA adds the communication. A mesh with Explicit axes needs
  `jax.sharding.auto_axes(loss, out_sharding=PartitionSpec())`.
- `pmap` and `shard_map`: give `axis_name`; each device passes its share of the batch, all shares of
  one size, and every device gets the loss of the global batch. Gradients of replicated parameters
  are those of the global batch
    - under `pmap`, and `shard_map(..., check_vma=False)`, after `lax.pmean(grads, axis_name)`;
    - inside `shard_map`, as `jax.grad` returns them: do not reduce them again;
    - outside `shard_map`, differentiating the mapped function: as they are.
"""

from ssljax.losses._amdim import amdim
from ssljax.losses._clustering import (
  deepcluster_v2,
  deepercluster,
  scan,
  scan_selflabel,
  swav,
  swav_codes,
)
from ssljax.losses._contrastive import directclr, info_nce, moco, nt_xent
from ssljax.losses._copy import koleo, sscd
from ssljax.losses._curl import curl
from ssljax.losses._decoupled import dcl, dclw
from ssljax.losses._dense import densecl
from ssljax.losses._distance import distance_correlation, mv_mr
from ssljax.losses._distillation import byol, cosine_regression, simsiam
from ssljax.losses._dynamics import msbreg
from ssljax.losses._equivariant import care, sie, trajectory
from ssljax.losses._gaussian import lejepa, sigreg
from ssljax.losses._graph import (
  dgi,
  global_global,
  grace,
  graphcl,
  local_global,
  skip_gram,
  weighted_info_nce,
)
from ssljax.losses._graph_masked import bandana, cluster_sharpening, edge_bce, hypeboy, sce, vgae
from ssljax.losses._kernel import kernel_info_nce
from ssljax.losses._layout import focal, selfdocseg
from ssljax.losses._manifold import emp_ssl, mmcr
from ssljax.losses._masked import mae
from ssljax.losses._momentum import moco_v3, ressl
from ssljax.losses._multi_instance import cmd_bags, cmd_regions
from ssljax.losses._multilabel import mls
from ssljax.losses._nce import nce, nce_normalizer, pirl
from ssljax.losses._neighbors import all4one, feature_contrast, nnclr
from ssljax.losses._pixels import cim, simmim, uncertainty_weighted
from ssljax.losses._predictive import data2vec, data2vec_targets, i_jepa, sar_jepa
from ssljax.losses._redundancy import barlow_twins, mixed_barlow_twins, tico, vicreg
from ssljax.losses._self_distillation import (
  dino,
  gram,
  ibot_patch,
  teacher_codes,
  update_center,
)
from ssljax.losses._siamese_masked import msn, msn_targets, udi, udi_target
from ssljax.losses._supervised import supcon
from ssljax.losses._whitening import w_mse

__all__ = [
  'all4one',
  'amdim',
  'bandana',
  'barlow_twins',
  'byol',
  'care',
  'cim',
  'cluster_sharpening',
  'cmd_bags',
  'cmd_regions',
  'cosine_regression',
  'curl',
  'data2vec',
  'data2vec_targets',
  'dcl',
  'dclw',
  'deepcluster_v2',
  'deepercluster',
  'densecl',
  'dgi',
  'dino',
  'directclr',
  'distance_correlation',
  'edge_bce',
  'emp_ssl',
  'feature_contrast',
  'focal',
  'global_global',
  'grace',
  'gram',
  'graphcl',
  'hypeboy',
  'i_jepa',
  'ibot_patch',
  'info_nce',
  'kernel_info_nce',
  'koleo',
  'lejepa',
  'local_global',
  'mae',
  'mixed_barlow_twins',
  'mls',
  'mmcr',
  'moco',
  'moco_v3',
  'msbreg',
  'msn',
  'msn_targets',
  'mv_mr',
  'nce',
  'nce_normalizer',
  'nnclr',
  'nt_xent',
  'pirl',
  'ressl',
  'sar_jepa',
  'scan',
  'scan_selflabel',
  'sce',
  'selfdocseg',
  'sie',
  'sigreg',
  'simmim',
  'simsiam',
  'skip_gram',
  'sscd',
  'supcon',
  'swav',
  'swav_codes',
  'teacher_codes',
  'tico',
  'trajectory',
  'udi',
  'udi_target',
  'uncertainty_weighted',
  'update_center',
  'vgae',
  'vicreg',
  'w_mse',
  'weighted_info_nce',
]
