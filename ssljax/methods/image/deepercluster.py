"""DeeperCluster: classify images by hierarchical k-means clusters times four rotations.

    views are turned by 0, 90, 180 or 270 degrees and filtered by Sobel's edges
    every `refresh_epochs`: k-means of all features into super-clusters, of each into sub-clusters
    super-class s = super-cluster x rotation, sub-class c = sub-cluster
    loss = -log softmax(super head)_s - log softmax(sub head of s)_c, see losses.deepercluster

Caron et al. 2019, "Unsupervised pre-training of image features on non-curated data". Differs from
the authors' PyTorch code in this:
  - clusters count alike by weights (1 / size), where the authors sample them alike: so the images
    may be streamed;
  - k-means begins with the centroids it had (the authors' --warm_restart), and heads are kept,
    where the authors by default draw both anew;
  - features are whitened by a Cholesky factor and not by PCA, which turns them but changes no
    distance, and are not cut to 4096 dimensions;
  - the encoder is a ResNet, not a VGG-16.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.methods.image import _hierarchy, _pair
from ssljax.models import heads
from ssljax.net import Net, fork

PAPER = 'Caron et al. 2019, Unsupervised pre-training of image features on non-curated data'
FAMILY = 'clustering'
ROTATIONS = 4


def get_config(preset='imagenet'):
  """'imagenet': the authors' main.py for 10 million images; 'cifar' and 'tiny' are ours."""
  common = dict(
    super_clusters=4,
    sub_clusters=2500,  # of each super-cluster
    kmeans_iters=10,
    refresh_epochs=3,
    sobel=True,
    whiten_eps=1e-3,
    view_stats='shared',
    num_examples=config_dict.placeholder(int),
  )
  sgd = dict(name='sgd', learning_rate=0.1, weight_decay=1e-5, schedule='constant')
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='resnet50'),
        batch_size=3072,  # 64 processes of 48
        epochs=100,
        optim=sgd | dict(warmup_fraction=0.0),
        method=common | dict(views=image.get_config(224, num_views=1, interpolation='bilinear')),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=200,
        optim=sgd | dict(warmup_fraction=0.0),
        method=common
        | dict(sub_clusters=100, views=image.get_config(32, num_views=1, scale=(0.2, 1.0))),
      ),
      'tiny': lambda: dict(
        method=common
        | dict(
          sub_clusters=16,
          refresh_epochs=1,
          views=image.get_config(32, num_views=1, **_pair.TINY_VIEWS),
        ),
        **_pair.TINY,
      ),
    }[preset]()
  )


def sobel(x):
  """Images [N, H, W, C] -> [N, H, W, 2], the slopes of the mean of the channels."""
  gray = jnp.pad(x.mean(-1), ((0, 0), (1, 1), (1, 1)))
  smooth_rows = gray[:, :-2] + 2 * gray[:, 1:-1] + gray[:, 2:]
  smooth_columns = gray[:, :, :-2] + 2 * gray[:, :, 1:-1] + gray[:, :, 2:]
  across = smooth_rows[:, :, 2:] - smooth_rows[:, :, :-2]
  down = smooth_columns[:, 2:] - smooth_columns[:, :-2]
  return jnp.stack([across, down], axis=-1)


def filtered(net):
  """A network behind `sobel`."""
  return Net(
    lambda rng, x, **options: net.init(rng, sobel(x), **options),
    lambda params, state, x, **options: net.apply(params, state, sobel(x), **options),
  )


def make(config, nets):
  sizes = config.super_clusters, config.sub_clusters
  classes = config.super_clusters * ROTATIONS
  crop = _pair.make_views(config.views)

  def views(rng, batch):
    crop_rng, turn_rng = jax.random.split(rng)
    x = crop(crop_rng, batch)['image'][:, 0]
    rotation = jax.random.randint(turn_rng, (len(x),), 0, ROTATIONS)
    turned = jnp.stack([jnp.rot90(x, k, (1, 2)) for k in range(ROTATIONS)], axis=1)
    x = jnp.take_along_axis(turned, rotation[:, None, None, None, None], axis=1)
    return {**batch, 'image': x, 'rotation': rotation}

  def memory(rng):
    # Random labels until the first refresh, which comes before the first step.
    labels = jax.random.randint(rng, (config.num_examples, 2), 0, jnp.array(sizes))
    return {'labels': labels, 'weights': jnp.ones(config.num_examples)}

  def refresh(params, state, features, rng):
    x = ops.l2_normalize(ops.whiten(features, config.whiten_eps))
    labels, centroids = _hierarchy.cluster(x, state['centroids'], rng, config.kmeans_iters)
    weights = _hierarchy.even_weights(labels, *sizes)
    return {**state, 'labels': labels, 'weights': weights, 'centroids': centroids}

  def objective(params, state, outputs, batch, rng, step):
    super_label, sub_label = state['labels'][batch['index']].T
    super_class = super_label * ROTATIONS + batch['rotation']
    loss = losses.deepercluster(
      outputs['super'][:, 0],
      outputs['sub'][:, 0].reshape(-1, classes, config.sub_clusters),
      super_class,
      sub_label,
      weights=state['weights'][batch['index']],
    )
    accuracy = jnp.mean(jnp.argmax(outputs['super'][:, 0], axis=-1) == super_class)
    chance = jnp.log(float(classes * config.sub_clusters))
    return loss, (state, {'super_class_accuracy': accuracy, 'chance_loss': chance})

  method = _pair.one_network(
    config,
    objective,
    outputs=('super', 'sub'),
    memory=memory,
    views=views,
    join=functools.partial(fork, {}),
    encoder=filtered(nets['encoder']) if config.sobel else nets['encoder'],
    super=heads.mlp((classes,), norm=None),
    sub=heads.mlp((classes * config.sub_clusters,), norm=None),
  )

  def init(rng, batch):
    params, state = method.init(rng, batch)
    width = params['super']['linear_0']['kernel'].shape[0]
    return params, {**state, 'centroids': _hierarchy.empty(*sizes, width)}

  return method._replace(init=init, refresh=refresh, refresh_every=config.refresh_epochs)
