"""SwAV: each view predicts the cluster codes that Sinkhorn's iterations give another view.

    z = projector(encoder(view)) at length one, scores = z . prototypes
    codes q of the two large views: Sinkhorn of exp(scores / eps) over the batch (and a queue)
    loss = cross-entropy of q of one view and softmax(scores / T) of every other, see losses.swav

Caron et al. 2020, "Unsupervised learning of visual features by contrasting cluster assignments".
SEER is SwAV with RegNetY encoders on billions of images of any kind (Goyal et al. 2021,
"Self-supervised pretraining of visual features in the wild"; 2022, "Vision models are more robust
and fair when pretrained on uncurated images without supervision"): presets 'seer' and 'seer_10b'.

Follows the authors' PyTorch code. Each size of crop passes the encoder by itself, all together pass
the projector. Prototypes have length one after every step and stay as they are for the first
`freeze_prototypes_steps`: without a gradient all that weight decay changes is their length. The
queue fills from `queue_start_step` on and counts as soon as it is full. Statistics are those of the
global batch, where the authors take them over groups of 8 GPUs (SEER: 64).
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.net import chain, over_sizes, over_views

PAPER = (
  'Caron et al. 2020, Unsupervised learning of visual features by contrasting cluster assignments'
)
FAMILY = 'clustering'
PRESETS = ('seer', 'seer_10b')
# Of pictures of 32 pixels.
SMALL_SCALES = (0.25, 1.0), (0.15, 0.4)


def multi_crop(sizes, counts, scales=((0.14, 1.0), (0.05, 0.14)), **overrides):
  """The crops of SwAV (section 4.1, appendix A): `counts` of two `sizes`, colours as in SimCLR.

  scales: the least and the largest share of a picture in a crop of each size.
  """
  colour = {'jitter': (0.8, 0.8, 0.8, 0.2), 'jitter_prob': 0.8, 'grayscale_prob': 0.2}
  settings = colour | {'blur_prob': 0.5, 'interpolation': 'bilinear'} | overrides
  crops = zip(('global', 'local'), sizes, counts, scales, strict=True)
  return {
    name: image.get_config(size, num_views=count, **{'scale': scale} | settings)
    for name, size, count, scale in crops
  }


def get_config(preset='imagenet'):
  """'imagenet': section 4 and the authors' 800 epochs; 'seer': 2021, section 3.4; 'seer_10b': 2022,
  the authors' config; 'cifar' and 'tiny' are ours."""
  lars = dict(
    name='lars',
    learning_rate=0.3,  # for each 256 images: 4.8 at 4096
    batch_scaling='linear',
    warmup_fraction=0.0125,
    final_fraction=0.001,
    weight_decay=1e-6,
    decay_all=True,
  )
  common = dict(
    temperature=0.1,
    eps=0.05,
    sinkhorn_iters=3,
    num_prototypes=3000,
    freeze_prototypes_steps=313,
    queue_size=0,  # embeddings; 3840 from epoch 15 on with batches of 256
    queue_start_step=0,
    projector=(2048, 128),
    projector_norm='batch',  # '' for none
    view_stats='shared',
  )
  seer = dict(
    num_prototypes=16000,
    sinkhorn_iters=10,
    projector=(8192, 8192, 256),
    projector_norm='',
    views=multi_crop((160, 96), (2, 4)),
  )
  few = dict(freeze_prototypes_steps=100, projector=(512, 128), num_prototypes=100)
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='resnet50'),
        batch_size=4096,
        epochs=800,
        optim=lars,
        method=common | dict(views=multi_crop((224, 96), (2, 6))),
      ),
      'seer': lambda: dict(
        encoder=dict(name='regnety_256gf', remat=True),
        batch_size=8192,
        epochs=1,  # of a billion images
        optim=lars | dict(weight_decay=1e-5, warmup_fraction=0.0656),
        method=common | seer,
      ),
      'seer_10b': lambda: dict(
        encoder=dict(name='regnety_10b', remat=True),
        batch_size=7936,
        epochs=1,
        optim=lars | dict(weight_decay=1e-5, warmup_fraction=0.0436),
        method=common | seer | dict(eps=0.03),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=800,
        optim=lars,
        # With eps 0.05 and local crops of a few pixels the loss hardly left chance in 11 epochs.
        method=common
        | few
        | dict(eps=0.015, views=multi_crop((32, 24), (2, 2), SMALL_SCALES, blur_prob=0.0)),
      ),
      'tiny': lambda: dict(
        method=common
        | dict(
          projector=(128, 64),
          num_prototypes=64,
          freeze_prototypes_steps=0,
          # The first embeddings are all alike: only sharp codes tell them apart.
          eps=0.015,
          views={
            'global': image.get_config(32, **_pair.TINY_VIEWS),
            'local': image.get_config(16, **_pair.TINY_VIEWS | {'scale': (0.15, 0.4)}),
          },
        ),
        **_pair.TINY,
      ),
    }[preset]()
  )


def make(config, nets):
  assign, queue_size = (0, 1), config.queue_size
  if config.views['global'].num_views < 2:
    raise InputError(
      f'views.global.num_views is {config.views["global"].num_views}, wanted 2 or more: codes are '
      'taken from two large views'
    )
  norm = config.projector_norm or None
  parts = {
    'encoder': nets['encoder'],
    # A bias before batch norm, as the authors have, does nothing.
    'projector': heads.mlp(config.projector, norm=norm, hidden_bias=norm is None),
  }
  network, over = chain(**parts), dict(view_stats=config.view_stats)
  crops = chain(
    encoder=over_sizes(parts['encoder'], **over), projector=over_views(parts['projector'], **over)
  )
  views = _pair.make_views(config.views)
  embed = _pair.make_embed(network, config.views)

  def init(rng, batch):
    prototype_rng, rng = jax.random.split(rng)
    params, stats = crops.init(rng, batch['image'])
    size = config.num_prototypes, config.projector[-1]
    params['prototypes'] = ops.l2_normalize(jax.random.normal(prototype_rng, size))
    queue = jnp.zeros((queue_size, len(assign), size[1]))
    return params, {'stats': stats} | ({'queue': queue} if queue_size else {})

  def forward(params, state, batch, rng, step):
    outputs, stats = crops.apply(params, state['stats'], batch['image'], train=True, rng=rng)
    return outputs['projector'], {**state, 'stats': stats}

  def objective(params, state, z, batch, rng, step):
    prototypes = params['prototypes']
    frozen = step < config.freeze_prototypes_steps
    prototypes = jnp.where(frozen, jax.lax.stop_gradient(prototypes), prototypes)
    queue = state.get('queue')
    loss = losses.swav(
      z,
      prototypes,
      queue,
      queue_used=queue_size and jnp.any(queue[-1] != 0),
      assign_views=assign,
      temperature=config.temperature,
      eps=config.eps,
      iters=config.sinkhorn_iters,
    )
    if queue_size:
      rows = ops.l2_normalize(z[:, : len(assign)].astype(queue.dtype))
      pushed = jnp.concatenate([rows, queue])[:queue_size]
      state = {**state, 'queue': jnp.where(step >= config.queue_start_step, pushed, queue)}
    return loss, (state, {'chance_loss': jnp.log(float(config.num_prototypes))})

  def constrain(params):
    return {**params, 'prototypes': ops.l2_normalize(params['prototypes'])}

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    constrain=constrain,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
  )
