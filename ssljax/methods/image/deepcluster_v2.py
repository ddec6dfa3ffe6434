"""DeepCluster-v2: classify every view as the k-means cluster of its image, found anew each epoch.

    z = projector(encoder(view)) at length one; a memory keeps the last z of two views of each image
    every epoch, for each head: centroids, labels = spherical k-means of the memory
    loss = mean over heads and views of the cross-entropy of label and softmax(z . centroids / T)

Caron et al. 2020, "Unsupervised learning of visual features by contrasting cluster assignments",
section 4.1 and appendix C: DeepCluster (Caron et al. 2018) with the centroids as classifier, which
spares learning it anew, and the settings of SwAV. Follows the authors' PyTorch code, with one entry
in the memory for each image instead of each place in the epoch, so that no image is without a
label. Before the first step the memory holds the projections of the whole images, where the
authors' holds those of random crops.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, config_dict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.errors import InputError
from ssljax.method import two_part
from ssljax.methods.image import _pair
from ssljax.methods.image.swav import SMALL_SCALES, multi_crop
from ssljax.models import heads
from ssljax.net import chain, features, over_sizes, over_views

PAPER = (
  'Caron et al. 2020, Unsupervised learning of visual features by contrasting cluster assignments'
)
FAMILY = 'clustering'


def get_config(preset='imagenet'):
  """'imagenet': the authors' 800 epochs; 'cifar' and 'tiny' are ours."""
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
    num_prototypes=(3000, 3000, 3000),  # of each head
    kmeans_iters=10,
    projector=(2048, 128),
    view_stats='shared',
    num_examples=config_dict.placeholder(int),
  )
  return ConfigDict(
    {
      'imagenet': lambda: dict(
        encoder=dict(name='resnet50'),
        batch_size=4096,
        epochs=800,
        optim=lars,
        method=common | dict(views=multi_crop((224, 96), (2, 6))),
      ),
      'cifar': lambda: dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=512,
        epochs=800,
        optim=lars,
        method=common
        | dict(
          num_prototypes=(100, 100, 100),
          projector=(512, 128),
          views=multi_crop((32, 24), (2, 2), SMALL_SCALES, blur_prob=0.0),
        ),
      ),
      'tiny': lambda: dict(
        method=common
        | dict(
          num_prototypes=(48, 48),
          projector=(128, 64),
          views={'global': image.get_config(32, **_pair.TINY_VIEWS)},
        ),
        **_pair.TINY,
      ),
    }[preset]()
  )


def make(config, nets):
  counts, assign = tuple(config.num_prototypes), (0, 1)
  if config.views['global'].num_views < len(assign):
    raise InputError(
      f'views.global.num_views is {config.views["global"].num_views}, wanted 2 or more: the memory '
      'is of two large views'
    )
  projector = heads.mlp(config.projector, hidden_bias=False)
  network = chain(encoder=nets['encoder'], projector=projector)
  crops = chain(
    encoder=over_sizes(nets['encoder'], view_stats=config.view_stats),
    projector=over_views(projector, view_stats=config.view_stats),
  )
  views = _pair.make_views(config.views)
  embed = _pair.make_embed(network, config.views)

  def init(rng, batch):
    memory_rng, label_rng, rng = jax.random.split(rng, 3)
    params, stats = crops.init(rng, batch['image'])
    rows, width = config.num_examples, config.projector[-1]
    if max(counts) > rows:
      raise InputError(f'num_prototypes is {counts}, wanted at most {rows}, the number of examples')
    # Random until the first refresh, which comes before the first step.
    keys = jax.random.split(memory_rng, len(counts))
    centroids = [jax.random.normal(k, (n, width)) for k, n in zip(keys, counts, strict=True)]
    labels = jax.random.randint(label_rng, (rows, len(counts)), 0, jnp.array(counts))
    return params, {
      'stats': stats,
      'memory': jnp.zeros((rows, len(assign), width)),
      'centroids': jax.tree.map(ops.l2_normalize, centroids),
      'labels': labels,
    }

  def refresh(params, state, encoded, rng):
    whole, _ = projector.apply(
      params['projector'], state['stats']['projector'], encoded, train=False
    )
    memory = state['memory']
    unseen = ~jnp.any(memory != 0, axis=-1, keepdims=True)
    memory = jnp.where(unseen, ops.l2_normalize(features(whole))[:, None], memory)
    found = [
      ops.kmeans(
        memory[:, head % len(assign)],
        count,
        rng=jax.random.fold_in(rng, head),
        iters=config.kmeans_iters,
        spherical=True,
      )
      for head, count in enumerate(counts)
    ]
    centroids, labels = zip(*found, strict=True)
    return {
      **state,
      'memory': memory,
      'centroids': list(centroids),
      'labels': jnp.stack(labels, axis=1),
    }

  def forward(params, state, batch, rng, step):
    outputs, stats = crops.apply(params, state['stats'], batch['image'], train=True, rng=rng)
    return outputs['projector'], {**state, 'stats': stats}

  def objective(params, state, z, batch, rng, step):
    labels = state['labels'][batch['index']]
    loss = losses.deepcluster_v2(z, state['centroids'], labels, temperature=config.temperature)
    rows = jax.lax.stop_gradient(ops.l2_normalize(z[:, : len(assign)]))
    memory = ops.remember(state['memory'], batch['index'], rows, 0.0)
    chance = sum(jnp.log(float(n)) for n in counts) / len(counts)
    return loss, ({**state, 'memory': memory}, {'chance_loss': chance})

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    refresh=refresh,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
  )
