"""UDI: DINO whose second class token says what the class token and the patches say together.

    cls, cls+, patches = encoder(crop);  z_i = attention of patches, read at sampled places i
    loss = mean of CE(cls', cls), CE(alpha mean_i z'_i + (1 - alpha) cls', cls+), CE(z'_i, z_i)
    with ' the moving average of the student, of another crop, read at the same places of the image,
    and CE of logits as in dino, each kind with its centre, see losses.udi

A place is sampled in every window of a crop's patches; it counts if the other crop has it too.
cls+ is the encoder's register. One head serves all three; patches of small crops only take part in
what cls+ is to say.

Su and Ji 2024, "Unsqueeze [CLS] bottleneck to learn rich representations". Follows the authors'
PyTorch code, but for its crops, which it moves until two of an image overlap by a quarter: here
they lie and are coloured as DINO's, and pairs that do not overlap have no places in common.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _distill, _features, _pair
from ssljax.models import heads, sampling

PAPER = 'Su and Ji 2024, Unsqueeze [CLS] bottleneck to learn rich representations'
FAMILY = 'self-distillation'


def get_config(preset='imagenet'):
  """'imagenet': ViT-S/16, 300 epochs, 10 local crops, the authors' README and main_udi.py; 'cifar'
  and 'tiny' are ours."""
  common = dict(
    alpha=0.5,
    center_momentum=0.9,
    windows=(3, 2),  # sides in patches, of large and small crops
    patch_size=config_dict.placeholder(int),
    total_steps=config_dict.placeholder(int),
  )
  adamw = _distill.ADAMW | dict(learning_rate=5e-4, final_fraction=5e-3, weight_decay_final=0.1)
  scales = (0.25, 1.0), (0.05, 0.25)
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='vit_small', drop_path=0.1, registers=1),
        batch_size=1024,
        epochs=300,
        optim=adamw | dict(warmup_fraction=10 / 300),
        method=_distill.COMMON
        | common
        | dict(
          sampler_heads=6,
          num_prototypes=65536,
          unit_prototypes=False,
          teacher_temp_warmup=0.1,  # 30 epochs
          views=_distill.multi_crop((224, 96), 10, scales),
        ),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='vit_tiny', patch_size=4, registers=1),
        batch_size=256,
        epochs=400,
        optim=adamw,
        method=_distill.COMMON
        | common
        | dict(
          windows=(2, 2),
          sampler_heads=3,
          num_prototypes=4096,
          freeze_prototypes_steps=195,
          views=_distill.multi_crop((32, 16), 6, scales),
        ),
      ),
      'tiny': lambda: dict(
        encoder=dict(name='vit_micro', registers=1),
        method=_distill.TINY_METHOD
        | common
        | dict(windows=(2, 2), sampler_heads=4, num_prototypes=256, views=_distill.tiny_crops()),
        **_distill.TINY,
      ),
    }[preset]()
  )


def make(config, nets):
  encoder, schedules = nets['encoder'], _distill.schedules(config)
  head = heads.prototypes(config.projector, config.num_prototypes, unit=config.unit_prototypes)
  sampler = sampling.sampled_attention(config.sampler_heads)
  seen = config.views['global'].num_views
  if seen != 2:
    raise InputError(f'views.global.num_views is {seen}, wanted 2: each is read in the other')
  grids = {name: (view.size // config.patch_size,) * 2 for name, view in config.views.items()}
  small = config.views['local'].num_views if 'local' in config.views else 0
  augment = image.make(config.views, with_parameters=True)

  def places(rng, box, flip):
    """Of one image: how each crop is read at the places sampled, in itself and in the others.

    box, flip: by size, [V, 4] and [V]. Gives 'own' [2, S, L] of large crops, zero where the other
    has not the place, and 'other' [2, S + small S', L], how the teacher's crops are read.
    """
    rngs = jax.random.split(rng)
    sampled = ops.stratified_places(rngs[0], grids['global'], config.windows[0])
    target = [(grids['global'], box['global'][a], flip['global'][a]) for a in range(2)]
    read, own = [], []
    for a in range(2):
      points = ops.image_places(sampled, *target[1 - a])
      weights, inside = ops.place_weights(points, *target[a])
      read.append([weights])
      own.append(jax.nn.one_hot(sampled, weights.shape[1]) * inside[:, None])
    if small:
      sampled = ops.stratified_places(rngs[1], grids['local'], config.windows[1])
      at = jax.vmap(lambda b, f: ops.image_places(sampled, grids['local'], b, f))
      points = at(box['local'], flip['local']).reshape(-1, 2)
      for a in range(2):
        read[a].append(ops.place_weights(points, *target[a])[0])
    return {'own': jnp.stack(own[::-1]), 'other': jnp.stack([jnp.concatenate(r) for r in read])}

  def views(rng, batch):
    view_rng, place_rng = jax.random.split(rng)
    x, drawn = augment(view_rng, batch['image'])
    box = {name: found['box'].astype(jnp.float32) for name, found in drawn.items()}
    flip = {
      name: found.get('flip', jnp.zeros(x[name].shape[:2], bool)) for name, found in drawn.items()
    }
    keys = jax.random.split(place_rng, len(batch['image']))
    return {**batch, 'image': x, **jax.vmap(places)(keys, box, flip)}

  def init(rng, batch):
    rngs, x = jax.random.split(rng, 3), batch['image']['global'][:, 0]
    params, _ = encoder.init(rngs[0], x)
    found, _ = encoder.apply(params, {}, x, train=False)
    if 'registers' not in found:
      raise InputError('encoder.registers is 0, wanted 1: the second class token')
    made = {
      'encoder': params,
      'head': head.init(rngs[1], found['features'])[0],
      'sampler': sampler.init(rngs[2], found['tokens'], batch['own'][:, 0])[0],
    }
    centers = jnp.zeros((3, config.num_prototypes))
    return made, {'target': made, 'centers': centers}

  def encode(params, x, weights=None, **options):
    """Logits [B, V, K] of both class tokens, and of patches [B, V, S, K] read by weights."""
    found, _ = encoder.apply(params['encoder'], {}, x.reshape(-1, *x.shape[2:]), **options)
    parts = [found['features'][:, None], found['registers'][:, :1]]
    if weights is not None:
      flat = weights.reshape(-1, *weights.shape[2:])
      tokens = found['layers'][-1][:, -flat.shape[-1] :]  # the sampler has a norm of its own
      parts.append(sampler.apply(params['sampler'], {}, tokens, flat, train=True)[0])
    scores, _ = head.apply(params['head'], {}, jnp.concatenate(parts, 1), train=True)
    scores = scores.reshape(*x.shape[:2], *scores.shape[1:])
    return scores[:, :, 0], scores[:, :, 1], scores[:, :, 2:]

  def forward(params, state, batch, rng, step):
    rngs, x = jax.random.split(rng), batch['image']
    cls, plus, patches = encode(params, x['global'], batch['own'], train=True, rng=rngs[0])
    if small:
      more, more_plus, _ = encode(params, x['local'], train=True, rng=rngs[1])
      cls, plus = jnp.concatenate([cls, more], 1), jnp.concatenate([plus, more_plus], 1)
    teacher, _, found = encode(state['target'], x['global'], batch['other'], train=False)
    count = batch['own'].shape[2]
    inside = (batch['other'].sum(-1) > 0)[..., None]

    def mean(scores, inside):
      total = jnp.where(inside, scores, 0).sum(-2)
      return total / jnp.maximum(inside.sum(-2), 1).astype(scores.dtype)

    # A teacher's crop is read at the places of the student's other large crop, then of small ones.
    large = mean(found[:, :, :count], inside[:, :, :count])
    large = jnp.eye(2)[::-1, :, None].astype(large.dtype) * large[:, :, None]
    context = [large]
    if small:
      split = (*found.shape[:2], small, -1, found.shape[-1])
      context.append(
        mean(found[:, :, count:].reshape(split), inside[:, :, count:].reshape(*split[:-1], 1))
      )
    return {
      'student': cls,
      'plus': plus,
      'patches': patches.reshape(len(cls), -1, patches.shape[-1]),
      'teacher': teacher,
      'context': jnp.concatenate(context, 2),
      'teacher_patches': found[:, ::-1, :count].reshape(len(cls), -1, found.shape[-1]),
    }, state

  def objective(params, state, z, batch, rng, step):
    centers, temp = state['centers'], schedules['teacher_temp'](step)
    valid = batch['own'].sum(-1) > 0
    loss = losses.udi(
      z['student'], z['plus'], z['patches'], z['teacher'], z['context'], z['teacher_patches'],
      valid.reshape(len(valid), -1), centers, student_temp=config.student_temp, teacher_temp=temp,
      alpha=config.alpha,
    )  # fmt: skip
    metrics = _distill.codes_metrics(z['teacher'], centers[0], temp)
    metrics['places_shared'] = valid.mean()
    return loss, ({**state, 'centers': moved(centers, z, batch)}, metrics)

  def moved(centers, z, batch):
    """Of the class token, of what cls+ is to say in each pair, of all patches that count."""
    target = losses.udi_target(z['teacher'], z['context'], alpha=config.alpha)
    pairs = jnp.arange(2)[:, None] != jnp.arange(target.shape[2])
    inside = batch['other'].sum(-1) > 0
    large = inside[:, :, : batch['own'].shape[2]].sum(-1)
    counts = [jnp.eye(2)[::-1] * large[:, :, None]]
    if small:
      local = inside[:, :, batch['own'].shape[2] :]
      counts.append(local.reshape(*local.shape[:2], small, -1).sum(-1))
    counts = jnp.concatenate(counts, 2)
    total = (counts[..., None] * z['context']).sum((0, 1, 2))
    patches = (total / jnp.maximum(counts.sum(), 1))[None]
    keep = config.center_momentum
    return jnp.stack(
      [
        losses.update_center(centers[0], z['teacher'], momentum=keep),
        losses.update_center(
          centers[1], target, where=jnp.broadcast_to(pairs, target.shape[:3]), momentum=keep
        ),
        losses.update_center(centers[2], patches, where=(counts.sum() > 0)[None], momentum=keep),
      ]
    )

  def update(params, state, step):
    return {**state, 'target': ops.ema(state['target'], params, schedules['momentum'](step))}

  def embed(params, state, batch):
    """The teacher's class token, and both beside each other."""
    x = image.prepare(batch['image'], config.views['global'])
    found, _ = encoder.apply(state['target']['encoder'], {}, x, train=False)
    both = jnp.concatenate([found['features'], found['registers'][:, 0]], -1)
    return _features.read(found) | {'both_tokens': both.astype(jnp.float32)}

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
