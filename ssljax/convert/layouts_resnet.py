"""torchvision's names of a ResNet, which MoCo, SwAV, Barlow Twins, VICReg and others share."""

from ssljax.convert.layouts import COUNT, HEAD, Layout
from ssljax.convert.rules import Rule, at, norm

# Ours and theirs of each convolution, and of the batch norm after it.
PAIRS = [('conv1', 'conv1', 'bn1', 'bn1')]
for stage in range(1, 5):
  ours, theirs = f'layer{stage}_{{}}/', f'layer{stage}.{{}}.'
  PAIRS += [
    (f'{ours}conv{i}', f'{theirs}conv{i}', f'{ours}bn{i}', f'{theirs}bn{i}') for i in (1, 2, 3)
  ]
  down = (f'{ours}downsample_0', f'{theirs}downsample.0', f'{ours}downsample_1')
  PAIRS.append((*down, f'{theirs}downsample.1'))

RULES, STATS = [], []
for conv, their_conv, bn, their_bn in PAIRS:
  RULES += [Rule(f'{conv}/kernel', (f'{their_conv}.weight',), 'conv'), *norm(bn, their_bn)]
  for name in ('mean', 'var'):
    STATS.append(Rule(f'batch_stats/{bn}/{name}', (f'{their_bn}.running_{name}',)))

RESNET = {
  'torchvision': Layout(
    at('encoder', RULES) + at('stats', STATS),
    'ResNet, torchvision and timm',
    'layer1.0.conv1.weight',
    lambda names, model_type: 'conv1.weight' in names,
    unused=(HEAD, COUNT),
  )
}
