"""Trains a method on a data set, evaluates it, and leaves a report.

  python -m ssljax.main --config=configs/default.py:simclr,digits --workdir=runs/simclr

Any field of the config can be changed: --config.steps=200 --config.optim.learning_rate=0.01. The
same command continues a run that was stopped. --dry_run trains nothing and says what it would take.
"""

from collections.abc import Sequence

from absl import flags

from ssljax import cli
from ssljax.errors import InputError


def main(argv: Sequence[str]) -> None:
  def define(values):
    cli.define_config(values, argv)
    flags.DEFINE_string('workdir', None, 'Folder of the run', flag_values=values)
    flags.DEFINE_bool(
      'dry_run', False, 'Show parameters, FLOPs and memory of a step; train nothing', values
    )
    flags.DEFINE_integer(
      'devices', 0, 'With --dry_run: as if there were so many, made on CPU', flag_values=values
    )
    flags.DEFINE_float(
      'device_gib', 80.0, 'With --dry_run: the memory of a device', flag_values=values
    )

  values = cli.parse(argv, define, __doc__)
  cli.required(values, 'config')
  if values.devices < 0 or (values.devices and not values.dry_run):
    raise InputError(f'--devices is {values.devices}: wanted 1 or more, with --dry_run')
  if values.dry_run:
    from ssljax import dry_run

    dry_run.show(values.config, values.device_gib, devices=values.devices)
    return
  cli.required(values, 'workdir')
  from ssljax import train

  train.train(values.config, values.workdir)


if __name__ == '__main__':
  cli.run(main)
