"""MoCo v3: each view's prediction finds the teacher's projection of the other view in the batch.

    q = predictor(projector(encoder(view))), k = projector'(encoder'(view))
    loss = 2 T ( InfoNCE(q1, k2) + InfoNCE(q2, k1) ), see losses.moco_v3
    then the key network <- m key network + (1 - m) query network, with m rising to 1 as in BYOL

Chen, Xie, He 2021, "An empirical study of training self-supervised vision transformers". Follows
the authors' PyTorch code: the projector ends in batch norm without scale and bias, the predictor
does so for a ViT only; batch statistics are those of each view by itself.

For a ViT use `preset=imagenet_vit`: sine-cosine positions, 12 heads, and a patch projection that
keeps its random weights (section 4.2). With another preset, `encoder=vit_small` needs
`--config.method.freeze_patch_embed --config.encoder.positions=sincos_rows` for the same.
"""

import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.net import freeze

PAPER = 'Chen et al. 2021, An empirical study of training self-supervised vision transformers'
FAMILY = 'contrastive'
PRESETS = ('imagenet_vit',)


def get_config(preset='imagenet'):
  """'imagenet': ResNet-50, 1000 epochs, and 'imagenet_vit': ViT-S/16, as in the authors' CONFIG.md;
  'cifar': solo-learn's, but for the optimizer; 'tiny' is ours."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  blur = dict(blur_prob=(1.0, 0.1), solarize_prob=(0.0, 0.2), interpolation='bilinear')
  resnet = dict(
    predictor_norm='',  # after the predictor's last layer, or 'batch_no_affine'
    freeze_patch_embed=False,
    view_stats='separate',
    chunk_size=0,  # > 0: queries whose products with the batch's keys are held at a time
    total_steps=config_dict.placeholder(int),
  )
  vit = resnet | dict(predictor_norm='batch_no_affine', freeze_patch_embed=True)
  lars = dict(name='lars', batch_scaling='linear', warmup_fraction=0.01)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50', zero_init_residual=True),
        batch_size=4096,
        epochs=1000,
        optim=dict(learning_rate=0.3, weight_decay=1.5e-6, **lars),
        method=dict(
          temperature=1.0,
          tau_base=0.996,
          projector=(4096, 256),
          predictor=(4096, 256),
          views=image.get_config(224, scale=(0.2, 1.0), **blur, **colour),
          **resnet,
        ),
      ),
      'imagenet_vit': dict(
        encoder=dict(name='vit_small', heads=12, positions='sincos_rows'),
        batch_size=4096,
        epochs=300,
        optim=dict(
          name='adamw',
          learning_rate=1.5e-4,
          batch_scaling='linear',
          warmup_fraction=40 / 300,
          weight_decay=0.1,
          decay_all=True,
        ),
        method=dict(
          temperature=0.2,
          tau_base=0.99,
          projector=(4096, 4096, 256),
          predictor=(4096, 256),
          views=image.get_config(224, **blur, **colour),
          **vit,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=1000,
        optim=dict(learning_rate=1.0, weight_decay=1e-6, **lars),
        method=dict(
          temperature=0.2,
          tau_base=0.99,
          projector=(4096, 256),
          predictor=(4096, 256),
          views=image.get_config(32, solarize_prob=(0.0, 0.2), **colour),
          **resnet,
        ),
      ),
      'tiny': dict(
        method=dict(
          temperature=0.2,
          tau_base=0.97,
          projector=(256, 64),
          predictor=(256, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **resnet,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  def head(sizes, last_norm):
    return heads.mlp(sizes, hidden_bias=False, last_bias=False, last_norm=last_norm)

  def objective(params, state, outputs, batch, rng, step):
    q, k = outputs['p'], outputs['target']
    t = config.temperature
    loss = losses.moco_v3(
      *_pair.two(q), *_pair.two(k), temperature=t, chunk_size=config.chunk_size or None
    )
    return loss, (state, {'chance_loss': 4 * t * jnp.log(1.0 * len(q))})

  encoder = nets['encoder']
  method = _pair.with_teacher(
    config,
    objective,
    lambda step: ops.cosine_ramp(step, config.total_steps, config.tau_base),
    encoder=freeze(encoder, 'patch_embed') if config.freeze_patch_embed else encoder,
    projector=head(config.projector, 'batch_no_affine'),
    predictor=head(config.predictor, config.predictor_norm or None),
  )
  reason = 'the patch projection stays random for stable training (section 4.2)'
  return method._replace(
    frozen={'encoder/patch_embed/': reason} if config.freeze_patch_embed else {}
  )
