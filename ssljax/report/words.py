"""Numbers, times and metrics as people say them."""

import math
import re

# name -> (how it is written, what it says). Names are those of metrics.jsonl.
METRICS = {
  'loss': ('loss', 'What training minimises.'),
  'rankme': ('RankMe', 'Dimensions the features really use: 1 is collapse, the width is the most.'),
  'lidar': ('LiDAR', 'Dimensions that tell images apart whatever the view; higher is better.'),
  'alpha_req': ('α-ReQ', 'How steeply the spectrum decays: near 1 is best, far above is collapse.'),
  'alignment': ('alignment', 'Squared distance between views of an image; lower is closer.'),
  'uniformity': ('uniformity', 'Crowding on the sphere: 0 is collapse, −4 is well spread.'),
  'feature_std': ('feature std', 'Mean spread of a dimension of the features: 0 is collapse.'),
  'grad_norm': ('gradient norm', 'Length of the gradient.'),
  'learning_rate': ('learning rate', 'The step size.'),
  'images_per_second': ('images/s', 'Training speed.'),
  'data_wait_fraction': ('data wait', 'Share of the time spent waiting for data.'),
}
PROTOCOLS = {
  'kmeans': 'k-means',
  'kmeans-ari': 'k-means ARI',
  'kmeans-nmi': 'k-means NMI',
  'knn': 'kNN',
  'linear': 'linear probe',
}
FRACTIONS = ('data_wait_fraction',)


def metric(name: str) -> str:
  return METRICS.get(name, (name.replace('_', ' '),))[0]


def protocol(name: str) -> str:
  """'knn-v1' -> 'kNN', 'kmeans-v1-nmi' -> 'k-means NMI'; a name not known stays as it is."""
  return PROTOCOLS.get(re.sub(r'-v\d+(?=$|-[a-z]+$)', '', name), name)


def number(value: float) -> str:
  """Four significant digits, thousands apart."""
  if not math.isfinite(value):
    return str(value)
  if abs(value) >= 1000:
    return f'{value:,.0f}'
  return f'{value:.4g}'.replace('-', '−', 1)


def score(value: float) -> str:
  """A probe's result: per cent if it is a fraction."""
  return f'{100 * value:.1f}%' if 0 <= value <= 1 else number(value)


def gain(value: float, over: float) -> str:
  """'+24.0 points', '−1.2 points' of fractions; the difference of anything else."""
  fractions = min(value, over) >= 0 and max(value, over) <= 1
  said = f'{100 * (value - over):+.1f} points' if fractions else f'{value - over:+.4g}'
  return said.replace('-', '−', 1)


def duration(seconds: float) -> str:
  """'42 s', '3 min 20 s', '5 h 12 min', '3 d 4 h'."""
  if not math.isfinite(seconds):
    return '--'
  left, parts = round(seconds), []
  for unit, size in (('d', 86400), ('h', 3600), ('min', 60), ('s', 1)):
    count, left = divmod(left, size)
    if count or (unit == 's' and not parts):
      parts.append(f'{count} {unit}')
    elif parts:
      break
  return ' '.join(parts[:2])


def size(number_of_bytes: float) -> str:
  """'512 MiB', '3.2 GiB'."""
  unit, scale = ('GiB', 2**30) if number_of_bytes >= 2**30 else ('MiB', 2**20)
  value = number_of_bytes / scale
  return f'{value:.0f} {unit}' if value >= 10 else f'{value:.1f} {unit}'
