"""Checkpoints by Orbax: train state, position in the data, config and versions as one composite."""

import contextlib
import logging
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from ssljax import sharding, workdir
from ssljax.errors import InputError


class Checkpoints(NamedTuple):
  """save:    (step, train_state, metrics) -> None, asynchronous.
  restore: (target) -> (train_state, step) of the newest readable checkpoint, or None if there is
           none; `target` is the state as ShapeDtypeStructs with the shardings of this run's mesh,
           or None for nested dicts of whatever was saved, whole on every device.
  steps:   () -> saved steps.
  examples: () -> how many training examples the run has, or None where no checkpoint says so.
  wait:    () -> None, until everything is on disk.
  """

  save: Callable
  restore: Callable
  steps: Callable
  examples: Callable
  wait: Callable


def as_saved(metadata):
  """A target for what a checkpoint holds, on the devices that there are now."""
  whole = sharding.replicated(sharding.make_mesh())
  return jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=whole), metadata)


def _set_aside(manager, folder, steps):
  """Renames checkpoints that could not be read, so that the run can save at their steps again."""
  if not steps:
    return
  if jax.process_index() == 0:
    for step in steps:
      taken = len(list(folder.glob(f'{step}.unreadable*')))
      (folder / str(step)).rename(folder / f'{step}.unreadable{f"-{taken + 1}" if taken else ""}')
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('unreadable checkpoints set aside')
  manager.reload()


@contextlib.contextmanager
def open_folder(
  folder: pathlib.Path,
  fields: dict,
  *,
  versions: dict[str, str],
  num_examples: int | None = None,
  keep_last: int = 2,
  keep_best: str = '',
  read_only: bool = False,
  say: Callable[[str], None] = logging.warning,
):
  """Yields `Checkpoints` in `folder`; leaving the context waits for what is being written.

  num_examples: of training, those that can be read; the order of the data and what a method
    remembers of each depend on it.
  keep_last: how many of the newest are kept.
  keep_best: a metric such as 'knn-v1/learned'; the checkpoint with the highest is kept too.
  read_only: only look; nothing is deleted, renamed or written.
  say: called with a sentence about a checkpoint that cannot be read.

  Raises InputError if checkpoints are there and none can be read, or if the newest was saved under
  a config that learns something else, or with another number of examples than `num_examples`.
  """
  policies = [checkpoint_managers.LatestN(max(keep_last, 1))]
  if keep_best:
    policies.append(
      checkpoint_managers.BestN(
        get_metric_fn=lambda metrics: metrics[keep_best],
        n=1,
        keep_checkpoints_without_metrics=False,
      )
    )
  options = ocp.CheckpointManagerOptions(
    preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
    cleanup_tmp_directories=not read_only,
    create=not read_only,
    enable_async_checkpointing=True,
  )
  handlers = {'state': ocp.StandardCheckpointHandler(), 'about': ocp.JsonCheckpointHandler()}
  with ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=handlers) as manager:

    def save(step, train_state, metrics=None):
      metrics = metrics if keep_best and metrics and keep_best in metrics else None
      items = ocp.args.Composite(
        state=ocp.args.StandardSave(train_state),
        about=ocp.args.JsonSave(
          {
            'config': fields,
            'versions': versions,
            # The order of the data is a function of (num_examples, seed, step): this is all there
            # is to a position.
            'data': {
              'next_step': step,
              'process_count': jax.process_count(),
              'num_examples': num_examples,
            },
          }
        ),
      )
      manager.save(step, args=items, metrics=metrics, force=True)

    def read_about(step):
      return manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))['about']

    def examples():
      for step in sorted(manager.all_steps(), reverse=True):
        with contextlib.suppress(Exception):  # a damaged one: `restore` says so
          return read_about(step)['data'].get('num_examples')
      return None

    def restore(target):
      steps = sorted(manager.all_steps(), reverse=True)
      for i, step in enumerate(steps):
        try:
          about = read_about(step)
          workdir.refuse_other_config(folder.parent, about['config'], fields)
          saved = about['data'].get('num_examples') or num_examples
          if num_examples not in (None, saved):
            raise InputError(
              f'{folder.parent} holds a run on {saved} training examples, and the data now has '
              f'{num_examples} that can be read: wanted the same data, or another --workdir'
            )
          wanted = target or as_saved(manager.item_metadata(step)['state'])
          items = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
          state = manager.restore(step, args=items)['state']
        except InputError:
          raise
        except Exception as error:  # whatever Orbax or the disk says of a damaged checkpoint
          reason = next(iter(str(error).splitlines()), '') or type(error).__name__
          older = (
            f'using step {steps[i + 1]}' if i + 1 < len(steps) else 'and there is no older one'
          )
          say(f'checkpoint {folder / str(step)} cannot be read ({reason[:200]}), {older}')
          continue
        if not read_only:
          _set_aside(manager, folder, steps[:i])
        return state, int(about['data']['next_step'])
      if steps:
        raise InputError(
          f'{folder}: none of the checkpoints ({", ".join(map(str, sorted(steps)))}) can be read'
        )
      return None

    yield Checkpoints(save, restore, manager.all_steps, examples, manager.wait_until_finished)
    manager.wait_until_finished()
