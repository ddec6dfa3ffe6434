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

from ssljax.losses._contrastive import info_nce, moco, nt_xent
from ssljax.losses._distillation import byol, cosine_regression
from ssljax.losses._masked import mae
from ssljax.losses._redundancy import barlow_twins

__all__ = ['barlow_twins', 'byol', 'cosine_regression', 'info_nce', 'mae', 'moco', 'nt_xent']
