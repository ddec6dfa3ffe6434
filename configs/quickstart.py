"""SimCLR on the embedded digits: a few minutes on two cores, nothing to download.

python -m ssljax.main --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ssljax import config


def get_config():
  c = config.get_config('simclr,digits')
  c.steps = 300
  return c
