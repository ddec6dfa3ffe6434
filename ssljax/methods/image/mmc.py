"""MMC: masked image modelling, momentum self-distillation of patches and global contrast at once.

    two views, each corrupted as in GMML; student on them, teacher on the clean ones
    h = one head for class and patch tokens alike: what the class token knows reaches the patches
    L_rec = mean over corrupted pixels of |decoder(patch tokens) - clean pixel|, see losses.simmim
    L_pat = cross-entropy of the student's h(patch) with the teacher's, centred and sharpened, of
      the same patch, corrupted or not, see losses.ibot_patch
    L_cls = the student's h(class) finds the teacher's of the other view, see losses.moco_v3
    loss = the weighted sum; center <- m center + (1 - m) mean of the teacher's h(patch)

Wu et al. 2023, "Masked momentum contrastive learning for zero-shot semantic understanding". We
found no public code to follow; that these are the three parts is the paper's, of which we had the
summary only. Ours are: equal weights, the head, that distillation has DINO's form and temperatures,
and the settings, which are SiT's, by the same group.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _paint, _pair
from ssljax.models import heads

PAPER = 'Wu et al. 2023, Masked momentum contrastive learning for zero-shot semantic understanding'
FAMILY = 'masked-modelling'


def get_config(preset='imagenet'):
  """All ours; 'imagenet' after SiT's code."""
  adamw = dict(name='adamw', learning_rate=5e-4, weight_decay=0.04, clip_norm=3.0)
  adamw |= dict(warmup_fraction=10 / 800, batch_scaling='linear')
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  blur = dict(blur_prob=(1.0, 0.1), solarize_prob=(0.0, 0.2))
  method = dict(
    weights=dict(reconstruction=1.0, patches=1.0, contrast=1.0),
    temperature=0.2,  # of the contrast
    patch_temperature=0.1,
    teacher_temperature=0.04,
    center_momentum=0.9,
    tau_base=0.996,
    corruption=dict(fill='noise', ratio=0.7, foreign_prob=0.5, foreign_ratio=0.3, max_side=0.3),
    view_stats='shared',
    patch_size=config_dict.placeholder(int),
    total_steps=config_dict.placeholder(int),
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_small', patch_size=16),
        batch_size=256,
        epochs=800,
        optim=adamw | dict(final_fraction=0.002),
        method=method
        | dict(
          projector=(2048, 2048, 1024),
          decoder=dict(dim=384, depth=3),
          views=image.get_config(224, scale=(0.2, 1.0), **colour, **blur),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=4),
        batch_size=256,
        epochs=800,
        optim=adamw,
        method=method
        | dict(
          projector=(512, 512, 256),
          decoder=dict(dim=192, depth=3),
          views=image.get_config(32, scale=(0.2, 1.0), **colour),
        ),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=4),
        batch_size=256,
        epochs=20,
        optim=adamw | dict(learning_rate=1e-3, warmup_fraction=0.1),
        method=method
        | dict(
          tau_base=0.97,
          projector=(256, 64),
          decoder=dict(dim=64, depth=2),
          views=image.get_config(32, **_pair.TINY_VIEWS),
        ),
      ),
    }[preset]
  )


def make(config, nets):
  def all_tokens(outputs):
    return jnp.concatenate([outputs['cls'][:, None], outputs['tokens']], axis=1)

  def objective(params, state, outputs, batch, rng, step):
    z, teacher = outputs['z'], outputs['target']['head']
    (q, k), (s, t) = ([y[:, :, part] for y in (z['head'], teacher)] for part in (0, slice(1, None)))
    s, t = (y.reshape(-1, *y.shape[2:]) for y in (s, t))
    terms = {
      'reconstruction': _paint.reconstruction(z['decoder'], batch, config),
      'patches': losses.ibot_patch(
        s,
        t,
        jnp.ones(s.shape[:2], bool),
        state['center'],
        student_temp=config.patch_temperature,
        teacher_temp=config.teacher_temperature,
      ),
      'contrast': losses.moco_v3(*_pair.two(q), *_pair.two(k), temperature=config.temperature),
    }
    loss = sum(config.weights[name] * term for name, term in terms.items())
    center = losses.update_center(state['center'], t, momentum=config.center_momentum)
    return loss, ({**state, 'center': center}, terms)

  method = _pair.with_teacher(
    config,
    objective,
    lambda step: ops.cosine_ramp(step, config.total_steps, config.tau_base),
    student_views=slice(2, 4),
    teacher_views=slice(2),
    memory=lambda rng: {'center': jnp.zeros(config.projector[-1])},
    join=_paint.fork_and_paint(config, {'head': all_tokens}),
    outputs=_paint.heads_of,
    encoder=nets['encoder'],
    head=heads.mlp(config.projector, norm=None, activation=ops.gelu),
  )

  def views(rng, batch):
    view_rng, rng = jax.random.split(rng)
    batch = method.views(view_rng, batch)
    return {**batch, **_paint.clean_and_corrupt(rng, batch['image'], config)}

  return method._replace(views=views, show=_paint.make_show(config, views, method.forward))
