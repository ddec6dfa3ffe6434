"""CMD: DINO and, of images as bags of patches, distillation within a level and across levels.

    cls, f_i = encoder(crop);  s = head(cls), s_i = patch head(f_i)
    a_i = softmax over patches of w . tanh(V f_i), how important each is (attention pooling)
    intra = (CE(cls', cls) + sum_i a_i CE(most similar patch', patch i)) / 2, over pairs of crops
    loss = intra + inter_weight KL(sum_i a_i softmax(s_i) | softmax(s)), over the student's crops
    with ' the moving average of the student, of large crops, and CE as in dino;
    see losses.cmd_regions and losses.cmd_bags

Bi et al. 2024, "Cross-level multi-instance distillation for self-supervised fine-grained visual
categorization". The authors' code adds up patches alike and compares numbers that are no
distributions; here the importance of patches is learned, as the paper has it, by attention-based
multi-instance pooling (Ilse et al. 2018). The same divergence inside the teacher trains nothing,
which gets no gradient: it is a metric. The paper's network is a Swin-T, here it is a ViT.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _distill, _features, _pair
from ssljax.models import heads

PAPER = 'Bi et al. 2024, Cross-level multi-instance distillation for fine-grained categorization'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet': the authors' README and main_esvit.py, with ViT-S/16; 'cifar' and 'tiny' are
  ours."""
  common = dict(inter_weight=1.0, center_momentum=0.9, total_steps=config_dict.placeholder(int))
  adamw = dict(learning_rate=5e-4, final_fraction=1e-3, **_distill.ADAMW)
  scales = (0.4, 1.0), (0.05, 0.4)
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='vit_small', drop_path=0.1),
        batch_size=512,
        epochs=300,
        optim=adamw | dict(warmup_fraction=10 / 300),
        method=_distill.COMMON
        | common
        | dict(
          num_prototypes=65536,
          freeze_prototypes_steps=2502,
          importance_hidden=128,
          unit_prototypes=False,
          teacher_temp_warmup=0.1,  # 30 epochs
          views=_distill.multi_crop((224, 96), 8, scales),
        ),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='vit_tiny', patch_size=4),
        batch_size=256,
        epochs=400,
        optim=adamw,
        method=_distill.COMMON
        | common
        | dict(
          num_prototypes=4096,
          importance_hidden=64,
          freeze_prototypes_steps=195,
          views=_distill.multi_crop((32, 16), 6, scales),
        ),
      ),
      'tiny': lambda: dict(
        encoder=dict(name='vit_micro'),
        method=_distill.TINY_METHOD
        | common
        | dict(num_prototypes=256, importance_hidden=32, views=_distill.tiny_crops()),
        **_distill.TINY,
      ),
    }[preset]()
  )


def make(config, nets):
  encoder, schedules = nets['encoder'], _distill.schedules(config)
  views = _pair.make_views(config.views)
  large = config.views['global'].num_views
  if large < 2:
    raise InputError(f'views.global.num_views is {large}, wanted 2 or more')
  head = heads.prototypes(config.projector, config.num_prototypes, unit=config.unit_prototypes)
  small = {
    'head': head,
    'patch_head': head,
    # A bias of the last layer would be the same for all patches.
    'importance': heads.mlp(
      (config.importance_hidden, 1), norm=None, last_bias=False, activation=jnp.tanh
    ),
  }

  def init(rng, batch):
    rngs, x = jax.random.split(rng, 4), batch['image']['global'][:, 0]
    params, _ = encoder.init(rngs[0], x)
    found, _ = encoder.apply(params, {}, x, train=False)
    params = {'encoder': params}
    for key, (name, net) in zip(rngs[1:], small.items(), strict=True):
      params[name], _ = net.init(key, found['features'])
    target = {name: params[name] for name in ('encoder', 'head', 'patch_head')}
    return params, {'target': target, 'centers': jnp.zeros((2, config.num_prototypes))}

  def encode(params, x, **options):
    """Features [B, V, L, D] of patches, logits [B, V, K] of crops and [B, V, L, K] of patches."""
    found, _ = encoder.apply(params['encoder'], {}, x.reshape(-1, *x.shape[2:]), **options)
    found = {name: found[name].reshape(*x.shape[:2], *found[name].shape[1:])
             for name in ('features', 'tokens')}  # fmt: skip
    return {
      'features': found['tokens'],
      'crops': head.apply(params['head'], {}, found['features'], train=True)[0],
      'patches': head.apply(params['patch_head'], {}, found['tokens'], train=True)[0],
    }

  def importance(params, tokens):
    scores, _ = small['importance'].apply(params['importance'], {}, tokens, train=True)
    return jax.nn.softmax(scores[..., 0].astype(jnp.float32))

  def forward(params, state, batch, rng, step):
    rngs, outputs = jax.random.split(rng), {}
    for key, (name, x) in zip(rngs, sorted(batch['image'].items()), strict=False):
      outputs[name] = encode(params, x, train=True, rng=key)
      outputs[name]['importance'] = importance(params, outputs[name]['features'])
    outputs['teacher'] = encode(state['target'], batch['image']['global'], train=False)
    return outputs, state

  def objective(params, state, z, batch, rng, step):
    centers, teacher = state['centers'], z['teacher']
    temps = dict(student_temp=config.student_temp, teacher_temp=schedules['teacher_temp'](step))
    sizes = [name for name in ('global', 'local') if name in z]
    crops = jnp.concatenate([z[name]['crops'] for name in sizes], 1)
    one = losses.dino(crops, teacher['crops'], centers[0], **temps)
    pairs = {'global': large * (large - 1)}
    if 'local' in z:
      pairs['local'] = large * z['local']['crops'].shape[1]
    two, inter = 0.0, 0.0
    for name in sizes:
      found = z[name]
      two += pairs[name] / sum(pairs.values()) * losses.cmd_regions(
        found['patches'], found['features'], found['importance'], teacher['patches'],
        teacher['features'], centers[1], skip_same=name == 'global', **temps,
      )  # fmt: skip
      inter += found['crops'].shape[1] / crops.shape[1] * losses.cmd_bags(
        found['crops'], found['patches'], found['importance'], temp=config.student_temp
      )  # fmt: skip
    metrics = _distill.codes_metrics(teacher['crops'], centers[0], temps['teacher_temp'])
    weights = z['global']['importance']
    metrics |= {
      'crops_loss': one,
      'patches_loss': two,
      'inter_loss': inter,
      # 1 where one patch is all that counts, the number of patches where all do.
      'patches_that_count': jnp.exp(jax.scipy.special.entr(weights).sum(-1)).mean(),
      'inter_of_teacher': losses.cmd_bags(
        teacher['crops'], teacher['patches'], importance(params, teacher['features']),
        temp=config.student_temp,
      ),
    }  # fmt: skip
    centers = jnp.stack(
      [
        losses.update_center(center, teacher[name], momentum=config.center_momentum)
        for center, name in zip(centers, ('crops', 'patches'), strict=True)
      ]
    )
    return (one + two) / 2 + config.inter_weight * inter, ({**state, 'centers': centers}, metrics)

  def update(params, state, step):
    student = {name: params[name] for name in state['target']}
    moved = ops.ema(state['target'], student, schedules['momentum'](step))
    return {**state, 'target': moved}

  def embed(params, state, batch):
    """The teacher's class token, and its patches weighed by importance."""
    x = image.prepare(batch['image'], config.views['global'])
    found, _ = encoder.apply(state['target']['encoder'], {}, x, train=False)
    bag = jnp.einsum('nl,nld->nd', importance(params, found['tokens']), found['tokens'])
    return _features.read(found) | {'bag': bag.astype(jnp.float32)}

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    update=update,
    held=_distill.held_prototypes(config),
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
  )
