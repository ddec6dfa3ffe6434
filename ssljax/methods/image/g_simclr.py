"""G-SimCLR: SimCLR on batches that hold no two images of one pseudo-class.

    stage 'autoencoder': decoder(encoder(image + noise)) is to be the image, by the mean square
    stage 'simclr':      before the first step, k-means of the encoder's features: pseudo-classes
                         each batch: as many classes as it has images, drawn anew, one image of each
                         loss = NT-Xent of two views, see losses.nt_xent

Chakraborty, Gosthipaty, Paul 2020, "G-SimCLR: Self-supervised contrastive learning with guided
projection via pseudo labelling". Two chained runs, the second with --config.init_from=FIRST.
Differs from the authors' notebooks: the autoencoder's encoder is the one that SimCLR goes on with,
not a smaller one of its own that is left behind; its features are averaged over places before
k-means; all batches are drawn so that clusters come as often as each other, and of a batch with
more images than there are clusters each takes its share of them.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _pair, simclr
from ssljax.models import decoders
from ssljax.net import chain

PAPER = (
  'Chakraborty et al. 2020, G-SimCLR: Self-supervised contrastive learning with guided projection '
  'via pseudo labelling'
)
FAMILY = 'contrastive'
STAGES = ('autoencoder', 'simclr')


def get_config(preset='imagenet'):
  """'imagenet' and 'cifar': 64 clusters, batches of 64 and the noise are those of the authors'
  notebooks, for a subset of ImageNet and for CIFAR-10; all other settings are ours."""
  colour = dict(jitter=(0.8, 0.8, 0.8, 0.2), jitter_prob=0.8, grayscale_prob=0.2)
  common = dict(
    stage='simclr',
    num_clusters=64,
    kmeans_iters=50,
    noise=0.01,  # standard deviation, of the range from black to white
    temperature=0.1,
    chunk_size=0,
    view_stats='separate',
    num_examples=config_dict.placeholder(int),
  )
  sgd = dict(name='sgd', learning_rate=0.1, weight_decay=0.0, warmup_fraction=0.0)
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='resnet50'),
        batch_size=64,
        epochs=200,
        optim=sgd,
        method=common
        | dict(projector=(256, 128, 50), views=image.get_config(224, blur_prob=0.5, **colour)),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=64,
        epochs=100,
        optim=sgd,
        method=common | dict(projector=(256, 128, 50), views=image.get_config(32, **colour)),
      ),
      'tiny': lambda: dict(
        method=common
        | dict(
          num_clusters=256,
          kmeans_iters=20,
          temperature=0.2,
          projector=(128, 64),
          views=image.get_config(32, **_pair.TINY_VIEWS),
        ),
        **_pair.TINY,
      ),
    }[preset]()
  )


def make(config, nets):
  if config.stage not in STAGES:
    raise InputError(f'method.stage is {config.stage!r}, wanted one of {", ".join(STAGES)}')
  return (_autoencoder if config.stage == 'autoencoder' else _guided)(config, nets)


def _autoencoder(config, nets):
  views_config = config.views

  def network(channels):
    decoder = decoders.upsampling_decoder(size=views_config.size, channels=channels)
    return {'encoder': nets['encoder'], 'decoder': decoder}

  def views(rng, batch):
    x = image.prepare(batch['image'], views_config)
    noise = config.noise / jnp.array(views_config.std) * jax.random.normal(rng, x.shape)
    return {**batch, 'image': x, 'noisy': x + noise}

  def init(rng, batch):
    x, params, stats = batch['image'], {}, {}
    for i, (name, net) in enumerate(network(x.shape[-1]).items()):
      params[name], stats[name] = net.init(jax.random.fold_in(rng, i), x)
      if name == 'encoder':
        x = net.apply(params[name], stats[name], x, train=False)[0]['map']
    return params, {'stats': stats}

  def forward(params, state, batch, rng, step):
    x, stats = batch['noisy'], {}
    for name, net in network(x.shape[-1]).items():
      x, stats[name] = net.apply(params[name], state['stats'][name], x, train=True)
      x = x['map'] if name == 'encoder' else x
    return x, {**state, 'stats': stats}

  def objective(params, state, decoded, batch, rng, step):
    return jnp.mean((ops.as_float(decoded) - batch['image']) ** 2), (state, {})

  embed = _pair.make_embed(chain(encoder=nets['encoder']), views_config)
  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, views_config),
  )


def _guided(config, nets):
  method = simclr.make(config, nets)
  clusters = config.num_clusters
  if not 1 <= clusters <= config.num_examples:
    raise InputError(
      f'method.num_clusters is {clusters}, wanted 1 to {config.num_examples}, all examples'
    )

  def by_cluster(labels):
    """The examples in the order of their clusters, and how many each cluster has."""
    sizes = jnp.bincount(labels, length=clusters).astype(jnp.int32)
    return {'order': jnp.argsort(labels).astype(jnp.int32), 'sizes': sizes}

  def init(rng, batch):
    params, state = method.init(rng, batch)
    return params, {**state, **by_cluster(jnp.arange(config.num_examples) % clusters)}

  def refresh(params, state, features, rng):
    _, labels = ops.kmeans(features, clusters, rng=rng, iters=config.kmeans_iters)
    return {**state, **by_cluster(labels)}

  def select(state, index, rng):
    """Slot i has the i-th of the clusters that have images, in a random order, again and again."""
    order_rng, member_rng = jax.random.split(rng)
    sizes = state['sizes']
    draw = jnp.where(sizes > 0, jax.random.uniform(order_rng, (clusters,)), 1)
    shuffled, filled = jnp.argsort(draw), jnp.sum(sizes > 0)
    slots = jnp.arange(len(index))
    chosen = shuffled[slots % filled]
    # From a random member on, so that a cluster's images differ as far as it has enough.
    first = (jax.random.uniform(member_rng, (clusters,)) * sizes).astype(jnp.int32)
    member = (first[chosen] + slots // filled) % sizes[chosen]
    starts = jnp.cumsum(sizes) - sizes
    return {'index': state['order'][starts[chosen] + member]}

  return method._replace(init=init, refresh=refresh, refresh_every=0, select=select)
