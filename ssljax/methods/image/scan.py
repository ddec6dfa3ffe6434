"""SCAN: images and their nearest neighbours in pretext features are put into one cluster.

    stage 'cluster':   p = softmax(head(encoder(view))), q that of a view of one of k neighbours
                       loss = mean of -log(p . q) - entropy_weight H(mean of p), see losses.scan
    stage 'selflabel': of images classified with more than `threshold`, that class is the label of a
                       strongly augmented view, see losses.scan_selflabel

Van Gansbeke et al. 2020, "SCAN: Learning to classify images without labels". Three chained runs:

  a pretext run, of simclr or moco_v2;
  --config.init_from=PRETEXT --config.method.stage=cluster;
  --config.init_from=CLUSTER --config.init_parts="('encoder', 'head', 'head_loss')" \\
      --config.method.stage=selflabel

`scripts/scan.py` does all three. Follows the authors' PyTorch code: each image is one of its own
neighbours; with several heads the losses add up, and the one with the lowest goes on. Neighbours
are those of the encoder's features, where the authors' are those of the pretext projector. Strong
views are random crops and colours, as in their ImageNet configs; RandAugment and cutout, which
their CIFAR configs add, are not here. Nor is the moving average of the weights with which their
ImageNet configs self-label.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.net import chain, over_views

PAPER = 'Van Gansbeke et al. 2020, SCAN: Learning to classify images without labels'
FAMILY = 'clustering'
STAGES = ('cluster', 'selflabel')
DECAY = 0.9  # of the average by which the best of several heads is known


def get_config(preset='imagenet'):
  """'imagenet': the authors' config for 100 classes; 'cifar': theirs for CIFAR-10, section 3.1;
  'tiny' is ours. Their Adam has L2 decay, here it is decoupled."""
  colour = dict(jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  common = dict(
    stage='cluster',
    num_clusters=10,
    num_heads=1,
    num_neighbors=20,
    head_only=False,  # whether the encoder stays as the pretext run left it
    entropy_weight=5.0,
    threshold=0.99,
    balanced=True,
    view_stats='separate',
    num_examples=config_dict.placeholder(int),
  )
  constant = dict(schedule='constant', warmup_fraction=0.0)
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='resnet50'),
        batch_size=1024,
        epochs=100,
        optim=dict(name='sgd', learning_rate=5.0, weight_decay=0.0, **constant),
        method=common
        | dict(
          num_clusters=100,
          num_heads=10,
          num_neighbors=50,
          head_only=True,
          # To self-label: rate 0.03, 25 epochs, batches of 512.
          balanced=False,
          views=image.get_config(224, num_views=1, scale=(0.2, 1.0), **colour),
        ),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=128,  # 1000 to self-label, for 200 epochs
        epochs=50,
        optim=dict(name='adamw', learning_rate=1e-4, weight_decay=1e-4, **constant),
        method=common | dict(views=image.get_config(32, num_views=1, scale=(0.2, 1.0), **colour)),
      ),
      'tiny': lambda: dict(
        method=common | dict(views=image.get_config(32, num_views=1, **_pair.TINY_VIEWS)),
        **_pair.TINY | dict(optim=dict(name='adamw', learning_rate=1e-3, weight_decay=1e-4)),
      ),
    }[preset]()
  )


def make(config, nets):
  if config.stage not in STAGES:
    raise InputError(f'method.stage is {config.stage!r}, wanted one of {", ".join(STAGES)}')
  clustering = config.stage == 'cluster'
  outputs = config.num_heads * config.num_clusters
  network = chain(encoder=nets['encoder'], head=heads.mlp((outputs,), norm=None))
  paired = over_views(network, view_stats=config.view_stats)
  augment = image.make(config.views)

  def views(rng, batch):
    """[B, 2, ...]: an augmented image and neighbour, or the plain image and an augmented one."""
    first, second = jax.random.split(rng)
    seen = augment(first, batch['image'])[:, :1]
    if clustering:
      both = seen, augment(second, batch['neighbor_image'])[:, :1]
    else:
      both = image.prepare(batch['image'], config.views)[:, None], seen
    return {**batch, 'image': jnp.concatenate(both, axis=1)}

  def init(rng, batch):
    params, stats = paired.init(rng, batch['image'])
    state = {'stats': stats, 'head_loss': jnp.zeros(config.num_heads)}
    if clustering:
      own = jnp.arange(config.num_examples, dtype=jnp.int32)
      state['neighbors'] = jnp.tile(own[:, None], (1, config.num_neighbors + 1))
    return params, state

  def refresh(params, state, features, rng):
    unit = ops.l2_normalize(features)
    _, ids = ops.nearest(unit, unit, config.num_neighbors + 1)  # the nearest is the image itself
    return {**state, 'neighbors': ids}

  def select(state, index, rng):
    drawn = jax.random.randint(rng, index.shape, 0, config.num_neighbors + 1)
    return {'index': index, 'neighbor': state['neighbors'][index, drawn]}

  def by_head(logits):
    return logits.reshape(*logits.shape[:-1], config.num_heads, config.num_clusters)

  def forward(params, state, batch, rng, step):
    if config.head_only and clustering:
      params = {**params, 'encoder': jax.lax.stop_gradient(params['encoder'])}
    train = not (config.head_only and clustering)
    found, stats = paired.apply(params, state['stats'], batch['image'], train=train, rng=rng)
    return by_head(found['head']), {**state, 'stats': stats}

  def objective(params, state, logits, batch, rng, step):
    weak, strong = logits[:, 0], logits[:, 1]
    if clustering:
      loss = functools.partial(losses.scan, entropy_weight=config.entropy_weight)
      each = jax.vmap(loss, in_axes=1)(weak, strong)
      average = DECAY * state['head_loss'] + (1 - DECAY) * jax.lax.stop_gradient(each)
      return each.sum(), ({**state, 'head_loss': average}, {})
    best = jnp.argmin(state['head_loss'])
    weak, strong = weak[:, best], strong[:, best]
    loss = losses.scan_selflabel(weak, strong, threshold=config.threshold, balanced=config.balanced)
    certain = jax.nn.softmax(weak.astype(jnp.float32)).max(-1) > config.threshold
    return loss, (state, {'confident': certain.mean()})

  def embed(params, state, batch):
    x = image.prepare(batch['image'], config.views)
    found, _ = network.apply(params, state['stats'], x, train=False)
    logits = by_head(found['head'])[:, jnp.argmin(state['head_loss'])]
    named = {'features': found['encoder']['features'], 'probabilities': jax.nn.softmax(logits)}
    return jax.tree.map(lambda y: y.astype(jnp.float32), named)

  frozen = {'^encoder/': 'the pretext run trained it'} if config.head_only and clustering else {}
  choice = dict(refresh=refresh, refresh_every=0, select=select, partners=('neighbor',))
  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
    frozen=frozen,
    **(choice if clustering else {}),
  )
