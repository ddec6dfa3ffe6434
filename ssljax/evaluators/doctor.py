"""Reads a run's metrics and says in plain words what is wrong with it, if anything is."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

# Of 1/sqrt(D). Below it two inputs have a mean cosine above 0.997; untrained encoders, whose
# features share a large mean, stay above.
COLLAPSED_STD = 0.05
# Of one line plus rounding; the mean direction of healthy uncentred features still leaves 2 and up.
COLLAPSED_RANKME = 1.5
# Before this share of the steps, warm-up included, nothing but rising numbers is judged.
TOO_EARLY = 0.1
# A contrastive loss that learns at all falls several per cent below guessing in its first epochs.
STUCK_AT_CHANCE = 0.99
STUCK_AFTER = 0.2
# Two orders of magnitude over its own past: no schedule or temperature does that.
EXPLODING = 100.0
# Above it a faster input pipeline is worth more than any other speed-up.
DATA_BOUND = 0.2
# One point of accuracy, about the sampling error of a thousand test rows.
NOT_ABOVE_RANDOM = 0.01
JUDGE_PROBES_AFTER = 0.5
# Medians over a twentieth of the lines stand for a moment of the run: single spikes do not count.
_MOMENTS = 20


def diagnose(history: Sequence[Mapping], *, total_steps: int) -> list[str]:
  """Warnings for the person who runs this, worst first; empty when nothing looks wrong.

  Args:
    history: lines of the metric log in order, each with `step`. Training lines have `loss` and may
      have `chance_loss` (what guessing gives, such as ln(2B - 1)), `grad_norm`,
      `data_wait_fraction`; any line may have `feature_std` with `embedding_dim`, `rankme`, and
      probe accuracies such as 'knn-v1/learned' with 'knn-v1/random'.
    total_steps: length of the whole run; decides what is too early to judge.

  Returns:
    Sentences: what was seen, what it means, what to try.
  """
  broken = _not_finite(history) or _exploding(history)
  checks = (_collapsed, _data_bound, _no_better_than_random)
  checks = checks if broken else (_stuck, *checks)
  warnings = [check(history, total_steps) for check in checks]
  return [w for w in [broken, *warnings] if w]


def _series(history, key):
  """[(step, value)] of the lines that have a finite value."""
  return [
    (int(line['step']), float(line[key]))
    for line in history
    if line.get(key) is not None and math.isfinite(line[key])
  ]


def _moments(series):
  """The series as at most 20 medians of (step, value), in order."""
  size = max(1, math.ceil(len(series) / _MOMENTS))
  parts = [series[i : i + size] for i in range(0, len(series), size)]
  return [(part[-1][0], median(value for _, value in part)) for part in parts]


def _not_finite(history):
  for line in history:
    for key in ('loss', 'grad_norm'):
      value = line.get(key)
      if value is None or math.isfinite(value):
        continue
      before = [v for step, v in _series(history, key) if step < line['step']]
      was = f' (it was {before[-1]:.4g} just before)' if before else ''
      return (
        f'Not a number: {key} became {value} at step {line["step"]}{was}, so nothing after it '
        'counts. Go back to the last good checkpoint with a lower learning rate, gradient '
        'clipping or a longer warm-up; if it happens at step 1, look for bad values in the data.'
      )
  return None


def _exploding(history):
  for key in ('loss', 'grad_norm'):
    moments = _moments(_series(history, key))
    if len(moments) < 3:
      continue
    earlier, (step, last) = moments[:-1], moments[-1]
    low_step, low = min(earlier, key=lambda moment: abs(moment[1]))
    # A loss may fall by orders of magnitude and gradients may start near 0: the measure is the
    # start for one and the usual size in the first half for the other.
    usual = [abs(v) for _, v in moments[: math.ceil(len(moments) / 2)]]
    scale = usual[0] if key == 'loss' else median(usual)
    if last > EXPLODING * max(scale, abs(low), 1e-6):
      return (
        f'Exploding: {key} rose from {low:.4g} at step {low_step} to {last:.4g} at step {step}. '
        'The updates are too large: lower the learning rate, lengthen the warm-up or clip '
        'gradients.'
      )
  return None


def _collapsed(history, total_steps):
  lines = [line for line in history if line['step'] >= TOO_EARLY * total_steps]
  dims = _series(history, 'embedding_dim')
  spread, rank = _series(lines, 'feature_std'), _series(lines, 'rankme')
  if spread and dims:
    (step, std), dim = spread[-1], dims[-1][1]
    if std < COLLAPSED_STD / math.sqrt(dim):
      return (
        f'Collapsed: at step {step} the features vary by {std:.2g} where an even spread over '
        f'{dim:.0f} dimensions gives {1 / math.sqrt(dim):.2g}, so all inputs look alike to the '
        'encoder. ' + _COLLAPSE_CURE
      )
  if rank and rank[-1][1] < COLLAPSED_RANKME:
    step, value = rank[-1]
    return (
      f'Collapsed: at step {step} the effective rank of the features is {value:.2f}, so they lie '
      'on one line. ' + _COLLAPSE_CURE
    )
  return None


_COLLAPSE_CURE = (
  'Check what prevents it in this method (stop-gradient, predictor, teacher momentum, centring, '
  'variance term, batch norm in the heads), then try a lower learning rate.'
)


def _stuck(history, total_steps):
  losses, chance = _moments(_series(history, 'loss')), _series(history, 'chance_loss')
  if not losses or not chance or losses[-1][0] < STUCK_AFTER * total_steps:
    return None
  (step, loss), guess = losses[-1], chance[-1][1]
  if loss < STUCK_AT_CHANCE * guess:
    return None
  return (
    f'Stuck: at step {step} of {total_steps} the loss is {loss:.4g}, and guessing gives '
    f'{guess:.4g}, so nothing is being learned. Try another learning rate (ten times up and down), '
    'and check the views and the temperature.'
  )


def _data_bound(history, total_steps):
  # The first batches also wait for workers to start and programs to compile.
  waits = _series(history, 'data_wait_fraction')
  waits = [value for step, value in waits if step >= TOO_EARLY * total_steps]
  if not waits or median(waits) <= DATA_BOUND:
    return None
  return (
    f'Data-bound: {median(waits):.0%} of the time goes into waiting for data, so the device idles. '
    'Try more workers, a larger prefetch, smaller stored images, or a data set kept on the device.'
  )


def _no_better_than_random(history, total_steps):
  worse, last = [], 0
  for key in sorted({key for line in history for key in line if key.endswith('/learned')}):
    name = key.removesuffix('/learned')
    learned, random = _series(history, key), _series(history, f'{name}/random')
    if not learned or not random or learned[-1][0] < JUDGE_PROBES_AFTER * total_steps:
      continue
    if learned[-1][1] < random[-1][1] + NOT_ABOVE_RANDOM:
      last = max(last, learned[-1][0])
      worse.append(f'{name} {learned[-1][1]:.1%} against {random[-1][1]:.1%}')
  if not worse:
    return None
  return (
    f'No better than random: at step {last} the learned features score {", ".join(worse)} of an '
    'untrained encoder, so training has not helped these classes. Train longer, and check that '
    'the views keep what tells the classes apart.'
  )
