"""ScatSimCLR: SimCLR on fixed wavelet scattering coefficients, and a rotation to be told.

    h = adapter(scattering(view)), z = projector(h)
    loss = NT-Xent(z1, z2; temperature)
           + weight cross-entropy(classifier(h of a third view, turned by k 90 degrees), k)

Kinakh, Taran, Voloshynovskiy 2021, "ScatSimCLR: self-supervised contrastive learning with pretext
task regularization for small-scale datasets". Follows the authors' code in the networks (the
encoder is models.scattering), but for the dropout of the classifier, left out. There all four turns
of an image are classified in every step; here one, drawn at random, which has the same expectation
at a quarter of the cost. Of the paper's pretext tasks, rotation and jigsaw, this is the first.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.method import two_part
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.net import chain, features, over_views

PAPER = (
  'Kinakh et al. 2021, ScatSimCLR: self-supervised contrastive learning with pretext task '
  'regularization for small-scale datasets'
)
FAMILY = 'contrastive'


def get_config(preset='imagenet'):
  """'imagenet': the authors' config.yaml and config_pretext.yaml for STL-10 at 96 pixels (they have
  no larger), with the paper's 1000 epochs; 'cifar' the same at 32; 'tiny' is ours."""
  colour = dict(jitter=(0.8, 0.8, 0.8, 0.2), jitter_prob=0.8, grayscale_prob=0.2, blur_prob=0.5)
  adam = dict(name='adamw', learning_rate=3e-4, weight_decay=1e-5, warmup_fraction=0.01)

  def preset_of(encoder, size, batch_size):
    return dict(
      encoder=dict(name=encoder),
      batch_size=batch_size,
      epochs=1000,
      optim=adam,
      method=dict(
        temperature=0.5,
        weight=0.3,
        projector=(2048, 128),
        classifier=(512, 128),
        view_stats='separate',
        chunk_size=0,  # > 0: rows of similarities held at a time
        views=image.get_config(size, **colour),
      ),
    )

  tiny = _pair.TINY | dict(encoder=dict(name='scattering_2'))
  return ConfigDict(
    {
      'imagenet': preset_of('scattering_8', 96, 300),
      'cifar': preset_of('scattering_12', 32, 512),
      'tiny': dict(
        method=dict(
          temperature=0.2,
          weight=0.3,
          projector=(128, 64),
          classifier=(128,),
          view_stats='separate',
          chunk_size=0,
          views=image.get_config(32, **_pair.TINY_VIEWS),
        ),
        **tiny,
      ),
    }[preset]
  )


def make(config, nets):
  projector = heads.mlp(config.projector, norm=None)
  network = chain(encoder=nets['encoder'], projector=projector)
  encoder, projector = (
    over_views(net, view_stats=config.view_stats) for net in (nets['encoder'], projector)
  )
  classifier = heads.mlp((*config.classifier, 4), norm=None)
  augment = image.make(config.views)
  augment_one = image.make(image.one_view(config.views, 0))
  embed = _pair.make_embed(network, config.views)

  def views(rng, batch):
    pair_rng, one_rng, rng = jax.random.split(rng, 3)
    pair, third = augment(pair_rng, batch['image']), augment_one(one_rng, batch['image'])
    quarters = jax.random.randint(rng, (len(third),), 0, 4)
    turned = jnp.stack([jnp.rot90(third, k, (2, 3)) for k in range(4)])
    third = turned[quarters, jnp.arange(len(third))]
    return {**batch, 'image': jnp.concatenate([pair, third], 1), 'quarters': quarters}

  def init(rng, batch):
    rng, classifier_rng = jax.random.split(rng)
    x = batch['image'][:, 0]
    params, stats = network.init(rng, x)
    h, _ = nets['encoder'].apply(params['encoder'], stats['encoder'], x, train=False)
    params['classifier'], _ = classifier.init(classifier_rng, features(h))
    return params, {'stats': stats}

  def forward(params, state, batch, rng, step):
    stats = state['stats']
    h, seen = encoder.apply(
      params['encoder'], stats['encoder'], batch['image'], train=True, rng=rng
    )
    h = features(h)
    z, _ = projector.apply(params['projector'], {}, h[:, :2], train=True)
    logits, _ = classifier.apply(params['classifier'], {}, h[:, 2], train=True)
    return {'z': z, 'logits': logits}, {'stats': {**stats, 'encoder': seen}}

  def objective(params, state, outputs, batch, rng, step):
    z, logits, quarters = outputs['z'], outputs['logits'].astype(jnp.float32), batch['quarters']
    contrast = losses.nt_xent(
      *_pair.two(z), temperature=config.temperature, chunk_size=config.chunk_size or None
    )
    pretext = optax.softmax_cross_entropy_with_integer_labels(logits, quarters).mean()
    metrics = {
      'contrast': contrast,
      'rotation_accuracy': (logits.argmax(-1) == quarters).mean(),
      'chance_loss': jnp.log(2 * len(z) - 1.0) + config.weight * jnp.log(4.0),
    }
    return contrast + config.weight * pretext, (state, metrics)

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
  )
