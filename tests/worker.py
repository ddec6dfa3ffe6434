"""One of several processes: first gradient and losses of a method on their common mesh.

python worker.py METHOD FSDP STEPS OUT --config.distributed.coordinator=... (see launch_local.py)
"""

import sys

from absl import flags

from ssljax import runtime


def main():
  values = flags.FlagValues()
  flags.DEFINE_string('config.distributed.coordinator', '', '', flag_values=values)
  flags.DEFINE_integer('config.distributed.num_processes', 0, '', flag_values=values)
  flags.DEFINE_integer('config.distributed.process_id', -1, '', flag_values=values)
  _, name, fsdp, steps, out = values(sys.argv)
  runtime.connect(
    **{
      key.rsplit('.', 1)[-1]: value
      for key, value in values.flag_values_dict().items()
      if key.startswith('config.')
    }
  )
  import jax
  import numpy as np
  import small

  found = small.trace(name, jax.device_count() // int(fsdp), int(fsdp), steps=int(steps))
  if jax.process_index() == 0:
    np.savez(out, **found)


if __name__ == '__main__':
  main()
