"""What DINO and the methods after it have in common: a ViT that learns from its moving average."""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.methods.image import _features, _hide, _pair
from ssljax.models import heads

# DINO's own, appendix B of the paper and main_dino.py; what others change they say.
COMMON = {
  'student_temp': 0.1,
  'warmup_teacher_temp': 0.04,
  'teacher_temp': 0.07,
  'teacher_temp_warmup': 0.3,  # share of the steps in which it rises
  'momentum': 0.996,  # of the teacher, rising along a cosine
  'momentum_final': 1.0,
  'projector': (2048, 2048, 256),
  'unit_prototypes': True,
  'freeze_prototypes_steps': 1251,  # an epoch of ImageNet at 1024
}
ADAMW = {
  'name': 'adamw',
  'batch_scaling': 'linear',
  'warmup_fraction': 0.1,
  'weight_decay': 0.04,
  'weight_decay_final': 0.4,
  'clip_norm': 3.0,
  'clip_by': 'array',
}
TINY = {
  'batch_size': 128,
  'epochs': 12,
  'optim': {'name': 'adamw', 'learning_rate': 1e-3, 'warmup_fraction': 0.1, 'weight_decay': 0.04},
}
TINY_METHOD = COMMON | {
  'momentum': 0.98,
  'teacher_temp': 0.04,
  'teacher_temp_warmup': 0.0,
  'projector': (128, 64),
  'freeze_prototypes_steps': 0,
}


def multi_crop(sizes, local, scales, **more):
  """`local` crops of the second of two sizes beside two of the first, with DINO's colours."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2) | more
  large = dict(scale=scales[0], blur_prob=(1.0, 0.1), solarize_prob=(0.0, 0.2))
  views = {'global': image.get_config(sizes[0], **colour, **large)}
  if local:
    small = dict(num_views=local, scale=scales[1], blur_prob=0.5)
    views['local'] = image.get_config(sizes[1], **colour, **small)
  return views


def tiny_crops(local=2):
  views = {'global': image.get_config(32, **_pair.TINY_VIEWS)}
  if local:
    small = _pair.TINY_VIEWS | {'scale': (0.15, 0.4), 'num_views': local}
    views['local'] = image.get_config(16, **small)
  return views


def schedules(config) -> dict:
  """name -> (step -> value): the teacher's temperature and how much of the teacher stays."""
  steps = config.total_steps
  return {
    'teacher_temp': lambda step: ops.linear_ramp(
      step, config.teacher_temp_warmup * steps, config.warmup_teacher_temp, config.teacher_temp
    ),
    'momentum': lambda step: ops.cosine_ramp(step, steps, config.momentum, config.momentum_final),
  }


def parts(
  config: ConfigDict, encoder, *, memory, patches=False, more=(), augment=None, weight_norm=True
) -> dict:
  """Fields of a Method: a student of all crops, a teacher of the large ones, heads on both.

  memory: () -> what `state` holds besides batch statistics and the teacher.
  patches: whether patches are hidden from the student, see `_hide`, and the two also have a head
    for those: of their own if config.separate_heads.
  more: further outputs, of large crops: 'tokens' [B, V, L, D], the student's patches; 'norms' [B,
    V, L], the lengths of the teacher's before the last norm; 'patch_mean' [B, V, K], the teacher's
    scores of all patches.
  augment: (rng, images) -> what the batch has in their place, 'image' among it, if not the views of
    the config alone.
  weight_norm: of `heads.prototypes`.

  The outputs of `forward` are 'student' [B, V + W, K] and 'teacher' [B, V, K]; 'features' [B, V, D]
  of the student's large crops; with patches also 'student_patch' and 'teacher_patch' [B, V, M, K]
  of the hidden ones, batch['hidden'], of which batch['counted'] says which there are. The teacher
  has neither stochastic depth nor jittered positions; batch norm, if any, is in training mode.
  """
  if config.views['global'].num_views < 2:
    raise InputError(
      f'views.global.num_views is {config.views["global"].num_views}, wanted 2 or more: one is '
      'predicted from the other'
    )
  unit = weight_norm and config.unit_prototypes
  head = functools.partial(heads.prototypes, unit=unit, weight_norm=weight_norm)
  nets = {'head': head(config.projector, config.num_prototypes)}
  if patches and config.separate_heads:
    nets['patch_head'] = head(config.patch_projector, config.num_patch_prototypes)
  size = config.views['global'].size
  decay, crop = schedules(config)['momentum'], image.make(config.views)
  augment = augment or (lambda rng, images: {'image': crop(rng, images)})

  def views(rng, batch):
    view_rng, mask_rng = jax.random.split(rng)
    batch = batch | augment(view_rng, batch['image'])
    return batch | (_hide.hide(mask_rng, batch['image'], config) if patches else {})

  def init(rng, batch):
    rngs = jax.random.split(rng, 4)
    params, stats = encoder.init(rngs[0], _flat(batch['image']['global']))
    found, _ = encoder.apply(params, stats, _flat(batch['image']['global']), train=False)
    params = {'encoder': params}
    for key, (name, net) in zip(rngs[1:], nets.items(), strict=False):
      params[name], _ = net.init(key, found['features'])
    stats = {'encoder': stats}
    return params, {'stats': stats, 'target': {'params': params, 'stats': stats}, **memory()}

  def encode(params, stats, x, **options):
    found, stats = encoder.apply(params['encoder'], stats['encoder'], _flat(x), **options)
    named = {'features': found['features']}
    if patches:
      named['tokens'] = found['tokens']
    if 'norms' in more:
      last = found['layers'][-1][:, -found['tokens'].shape[1] :]
      named['norms'] = jnp.linalg.norm(ops.as_float(last), axis=-1)
    return {name: _views(x_, x.shape[1]) for name, x_ in named.items()}, {'encoder': stats}

  def score(params, name, x):
    scores, _ = nets[name].apply(params[name], {}, x, train=True)
    return scores

  def forward(params, state, batch, rng, step):
    rngs, x, target = jax.random.split(rng), batch['image'], state['target']
    options = {'mask': _flat(batch['mask'])} if patches else {}
    seen, stats = encode(params, state['stats'], x['global'], train=True, rng=rngs[0], **options)
    classes = [seen['features']]
    if 'local' in x:
      small, stats = encode(params, stats, x['local'], train=True, rng=rngs[1])
      classes.append(small['features'])
    normed = bool(jax.tree.leaves(target['stats']))
    aimed, target_stats = encode(target['params'], target['stats'], x['global'], train=normed)
    outputs = {
      'student': score(params, 'head', jnp.concatenate(classes, 1)),
      'teacher': score(target['params'], 'head', aimed['features']),
      'features': seen['features'],
    }
    outputs |= {name: found[name] for name, found in (('tokens', seen), ('norms', aimed))
                if name in more}  # fmt: skip
    if patches:
      name = 'patch_head' if config.separate_heads else 'head'
      index = batch['hidden'][..., None]

      def hidden(x):
        return jnp.take_along_axis(x, index, axis=2)

      outputs['student_patch'] = score(params, name, hidden(seen['tokens']))
      if 'patch_mean' in more:
        scores = score(target['params'], name, aimed['tokens'])
        outputs['patch_mean'] = ops.as_float(scores).mean(2)
        outputs['teacher_patch'] = hidden(scores)
      else:
        outputs['teacher_patch'] = score(target['params'], name, hidden(aimed['tokens']))
    return outputs, {**state, 'stats': stats, 'target': {**target, 'stats': target_stats}}

  def update(params, state, step):
    moved = ops.ema(state['target']['params'], params, decay(step))
    return {**state, 'target': {**state['target'], 'params': moved}}

  def embed(params, state, batch):
    """The teacher's, which the papers evaluate."""
    target, x = state['target'], image.prepare(batch['image'], config.views['global'])
    params, stats = target['params']['encoder'], target['stats']['encoder']
    found, _ = encoder.apply(params, stats, x, train=False)
    return _features.read(found)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    x = batch['image']['global']
    mask = batch['mask'].reshape(-1, batch['mask'].shape[-1])
    hidden = ops.mask_pixels(mask, config.patch_size, size, size).reshape(*x.shape[:-1], 1)
    both = jnp.concatenate([x, jnp.where(hidden, 0.0, x)], axis=1)
    return {
      'views, and what the student sees of them': image.to_display(both, config.views['global'])
    }

  return {
    'init': init,
    'forward': forward,
    'update': update,
    'held': held_prototypes(config),
    'views': views,
    'embed': embed,
    'embed_views': _pair.make_embed_views(views, embed, config.views),
    **({'show': show} if patches else {}),
  }


def codes_metrics(teacher, center, temp, loss=None):
  """Entropy of the teacher's codes of a view, and of their mean over the batch.

  Collapse shows in them: ln K for a view is the uniform answer, 0 over the batch one prototype for
  everything. Given the loss, the mean cross-entropy, 'student_kl' is what of it is not the
  teacher's entropy: 0 where the student says what the teacher does. 'center_norm' is the centre's
  length, if there is one.
  """
  found = entropies(losses.teacher_codes(teacher, center, temp=temp))
  if loss is not None:
    found['student_kl'] = loss - found['teacher_entropy']
  if center is not None:
    found['center_norm'] = jnp.linalg.norm(center)
  return found


def entropies(q):
  """As `codes_metrics`, of the codes [..., K] themselves."""
  mean = q.reshape(-1, q.shape[-1]).mean(0)
  entropy = jax.scipy.special.entr
  return {
    'teacher_entropy': entropy(q).sum(-1).mean(),
    'teacher_batch_entropy': entropy(mean).sum(),
  }


def _flat(x):
  return x.reshape(-1, *x.shape[2:])


def _views(x, count):
  return x.reshape(-1, count, *x.shape[1:])


def held_prototypes(config):
  """`Method.held` of the prototypes of heads, and their lengths.

  As in DINOv2 and DINOv3, Adam's moments are theirs from the first step on. Without a gradient they
  would stay 0 while their correction for a short past runs out, and the first steps after the
  release be several times too large.
  """
  steps = config.freeze_prototypes_steps
  return {'/(prototypes|lengths)$': steps} if steps else {}
