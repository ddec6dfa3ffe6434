"""Evaluates the newest checkpoint of a run by the protocols of its config.

  python -m ssljax.evaluate --workdir=runs/simclr --protocols=knn-v1,linear-v1-100

Prints the table of learned, random and raw features and writes it, with what the protocols are, to
evaluation.json in the workdir.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from ssljax import cli


def main(argv: Sequence[str]) -> None:
  def define(values):
    flags.DEFINE_string('workdir', None, 'Folder of the run', flag_values=values)
    flags.DEFINE_list('protocols', None, "Protocols, instead of the config's", flag_values=values)

  values = cli.parse(argv, define, __doc__)
  cli.required(values, 'workdir')
  from ssljax import outcome, probing, restore, runtime, workdir

  run = restore.open_run(values.workdir)
  config = run.config
  if values.protocols:
    config.eval.protocols = tuple(values.protocols)
  metrics, _ = probing.evaluate(
    run.program, run.train_state, run.sources, config, key=run.key, baselines=True
  )
  outcome.print_table(metrics)
  workdir.write_json(
    pathlib.Path(values.workdir) / 'evaluation.json',
    {
      'step': run.step,
      'metrics': metrics,
      'protocols': outcome.defined(run.sources, config),
      'seed': config.seed,
      'commit': runtime.commit(),
      'versions': runtime.versions(),
    },
  )


if __name__ == '__main__':
  cli.run(main)
