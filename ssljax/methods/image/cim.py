"""CIM: find where in an image each of its exemplars, turned and recoloured, was cut out.

    t = encoder(exemplar) for V exemplars, x = encoder'(context), both with all tokens
    logits = linear(cross-attention of x, as queries, to t), made as large as the context
    loss = sum over exemplars of the cross-entropy of inside and outside, see losses.cim
    then encoder' <- m encoder' + (1 - m) encoder, with m rising from 0.99 to 1 as in BYOL

Li et al. 2023, "Correlational image modeling for self-supervised visual pre-training". Follows the
authors' PyTorch code as their script runs it: without the contrastive term, which `losses.cim` has,
without the clipping of gradients, which the code leaves out in full precision, and on ImageNet with
a patch projection that keeps its random weights. What differs: an exemplar's rectangle is made
smaller where it would leave the image, theirs is cut off; positions of the exemplars are
interpolated from the context's grid, both of theirs from that of 224 pixels; the last layer has
Xavier's range; the teacher has a class token of its own.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import exemplar, image
from ssljax.method import two_part
from ssljax.methods.image import _features, _pair
from ssljax.models.correlation import correlation_decoder, enlarge
from ssljax.net import freeze

PAPER = 'Li et al. 2023, Correlational image modeling for self-supervised visual pre-training'
FAMILY = 'masked-modelling'


def get_config(preset='imagenet'):
  """'imagenet': ViT-B of the authors' dist_pretrain.sh; 'cifar' and 'tiny' are ours."""
  adamw = dict(name='adamw', b2=0.95, weight_decay=0.05, batch_scaling='linear')
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  colour |= dict(solarize_prob=0.2)
  method = dict(
    freeze_patch_embed=False,
    patch_size=config_dict.placeholder(int),
    total_steps=config_dict.placeholder(int),
  )

  def views(sizes, count, **options):
    cuts = dict(scale=(0.05, 0.48), ratio=(1 / 3, 3.0), rotate=(-45.0, 45.0))
    return {
      'global': image.get_config(sizes[0], num_views=1, scale=(0.5, 1.0)),
      'exemplar': image.get_config(sizes[1], num_views=count, **cuts, **options),
    }

  vit = dict(positions='sincos', class_token=True, pool='mean')
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_base', patch_size=16, **vit),
        batch_size=4096,
        epochs=300,
        optim=dict(learning_rate=1.5e-4, warmup_fraction=40 / 300, **adamw),
        method=method
        | dict(
          freeze_patch_embed=True,
          tau_base=0.99,
          search_size=224,  # of what the context and the exemplars are taken from
          decoder=dict(dim=512, heads=16),
          views=views((160, 64), 6, blur_prob=0.5, **colour),
        ),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=4, **vit),
        batch_size=1024,
        epochs=800,
        optim=dict(learning_rate=1.5e-4, warmup_fraction=0.05, **adamw),
        method=method
        | dict(
          tau_base=0.99,
          search_size=32,
          decoder=dict(dim=192, heads=3),
          views=views((32, 16), 6, **colour),
        ),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=4, **vit),
        batch_size=256,
        epochs=20,
        optim=dict(learning_rate=1e-3, warmup_fraction=0.1, **adamw),
        method=method
        | dict(
          tau_base=0.97,
          search_size=32,
          decoder=dict(dim=64, heads=4),
          views=views((32, 16), 4, jitter_prob=0.8, grayscale_prob=0.5),
        ),
      ),
    }[preset]
  )


def make(config, nets):
  encoder, frozen = nets['encoder'], {}
  if config.freeze_patch_embed:
    encoder = freeze(encoder, 'patch_embed')
    frozen = {'encoder/patch_embed/': 'the patch projection stays random, as in MoCo v3'}
  decoder, context = correlation_decoder(**config.decoder), config.views['global']
  draw = exemplar.make(context, config.views.exemplar, search_size=config.search_size)

  def views(rng, batch):
    return {**batch, **draw(rng, batch['image'])}

  def tokens(params, stats, x, **options):
    out, stats = encoder.apply(params, stats, x, **options)
    return jnp.concatenate([out['cls'][:, None], out['tokens']], axis=1), stats

  def see(params, state, batch, train, rng=None):
    """Tokens of the contexts [B, 1 + L, D] and of the exemplars [B, V, 1 + K, D]."""
    target, cuts = state['target'], batch['exemplars']
    x, _ = tokens(target['params'], target['stats'], batch['image'], train=False)
    flat = cuts.reshape(-1, *cuts.shape[2:])
    t, stats = tokens(params['encoder'], state['stats'], flat, train=train, rng=rng)
    return jax.lax.stop_gradient(x), t.reshape(*cuts.shape[:2], *t.shape[1:]), stats

  def init(rng, batch):
    params, stats = encoder.init(jax.random.fold_in(rng, 0), batch['image'])
    state = {'stats': stats, 'target': {'params': params, 'stats': stats}}
    x, t, _ = see({'encoder': params}, state, batch, train=False)
    return {'encoder': params, 'decoder': decoder.init(jax.random.fold_in(rng, 1), x, t)[0]}, state

  def forward(params, state, batch, rng, step):
    x, t, stats = see(params, state, batch, train=True, rng=rng)
    return decoder.apply(params['decoder'], {}, x, t, train=True)[0], {**state, 'stats': stats}

  def objective(params, state, logits, batch, rng, step):
    logits, place = enlarge(logits, context.size), batch['place']
    found = logits[..., 1] > logits[..., 0]
    metrics = {'iou': jnp.sum(found & place) / jnp.maximum(jnp.sum(found | place), 1)}
    return losses.cim(logits, place), (state, metrics)

  def update(params, state, step):
    decay = ops.cosine_ramp(step, config.total_steps, config.tau_base)
    moved = ops.ema(state['target']['params'], params['encoder'], decay)
    return {**state, 'target': {**state['target'], 'params': moved}}

  def embed(params, state, batch):
    out, _ = encoder.apply(
      params['encoder'], state['stats'], image.prepare(batch['image'], context), train=False
    )
    return _features.read(out)

  def show(params, state, batch, rng):
    batch = views(rng, batch)
    logits, _ = forward(params, state, batch, rng, 0)
    logits = enlarge(logits[:, :1], context.size)[:, 0]
    x = image.to_display(batch['image'], context)
    places = batch['place'][:, 0], logits[..., 1] > logits[..., 0]
    shown = [x, *(jnp.where(place[..., None], x, x / 4) for place in places)]
    return {'context, where an exemplar is from, where it is found': jnp.stack(shown, axis=1)}

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    update=update,
    embed=embed,
    views=views,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    show=show,
    frozen=frozen,
  )
