"""BYOL: predict a slowly moving teacher's projection of the other view; no negatives.

    online: p = predictor(projector(encoder(view)));  target: z' = projector'(encoder'(view))
    loss = ||p1/|p1| - z2'/|z2'|||^2 + ||p2/|p2| - z1'/|z1'|||^2, see losses.byol
    after each step  target <- tau target + (1 - tau) online,
    tau = 1 - (1 - tau_base) (cos(pi step / steps) + 1) / 2

Grill et al. 2020, "Bootstrap your own latent". Follows the authors' JAX code: both networks run
with batch statistics of each view by itself, and the target keeps running statistics of its own.
"""

from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads

PAPER = 'Grill et al. 2020, Bootstrap your own latent'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet': section 3.3 and appendix B, 1000 epochs; 'cifar' and 'tiny' are ours."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  sizes = dict(view_stats='separate', total_steps=config_dict.placeholder(int))
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=4096,
        epochs=1000,
        optim=dict(
          name='lars',
          learning_rate=0.2,
          batch_scaling='linear',
          warmup_fraction=0.01,
          weight_decay=1.5e-6,
        ),
        method=dict(
          tau_base=0.996,
          projector=(4096, 256),
          predictor=(4096, 256),
          views=image.get_config(224, blur_prob=(1.0, 0.1), solarize_prob=(0.0, 0.2), **colour),
          **sizes,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=1000,
        optim=dict(
          name='lars',
          learning_rate=1.0,
          batch_scaling='linear',
          warmup_fraction=0.01,
          weight_decay=1.5e-6,
        ),
        method=dict(
          tau_base=0.99,
          projector=(2048, 256),
          predictor=(2048, 256),
          views=image.get_config(32, solarize_prob=(0.0, 0.2), **colour),
          **sizes,
        ),
      ),
      'tiny': dict(
        encoder=_pair.TINY_ENCODER,
        batch_size=128,
        epochs=12,
        # With Adam the features soon get worse than an untrained encoder's.
        optim=dict(name='sgd', learning_rate=0.1, weight_decay=5e-4),
        method=dict(
          tau_base=0.99,
          projector=(256, 64),
          predictor=(256, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **sizes,
        ),
      ),
    }[preset]
  )


def make(config, nets):
  def head(sizes):
    # The authors' hidden layer has a bias; the batch norm after it takes it out again.
    return heads.mlp(sizes, hidden_bias=False, last_bias=False)

  def objective(params, state, outputs, batch, rng, step):
    p, z = outputs['p'], outputs['target']
    return losses.byol(*_pair.two(p), *_pair.two(z)), (state, {})

  return _pair.with_teacher(
    config,
    objective,
    lambda step: ops.cosine_ramp(step, config.total_steps, config.tau_base),
    encoder=nets['encoder'],
    projector=head(config.projector),
    predictor=head(config.predictor),
  )
