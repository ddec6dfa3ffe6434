"""Trajectory regularisation: VICReg, with neighbouring poses on a straight line of features.

    h = encoder(view), z = projector(h)
    loss = VICReg(z1, z2) of two augmented views of the middle picture C of three neighbours L, C, R
           + weight trajectory(h_L, h_C, h_R) of the three, not augmented, see losses.trajectory

Wang, Chen, Yu 2024, "Pose-aware self-supervised learning with viewpoint trajectory regularization".
Follows the paper in the regulariser, on pooled features (the authors' code, where it is switched
off, has another, on a map). Theirs are three renderings of an object from neighbouring viewpoints;
here they are one picture turned in its plane by a - step, a and a + step. Rendered triples would
take their place in `views`, where nothing else depends on how they were made.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.method import two_part
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.net import chain, features, over_views

PAPER = (
  'Wang et al. 2024, Pose-aware self-supervised learning with viewpoint trajectory regularization'
)
FAMILY = 'equivariant'


def get_config(preset='imagenet'):
  """'imagenet': the authors' vicreg_sn.sh for ShapeNet renderings, at 224 pixels and for the
  paper's 300 epochs; 'cifar' is the same at 32; 'tiny' is ours, and so are angles and step."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2, solarize_prob=0.1)
  terms = dict(sim_coeff=25.0, std_coeff=25.0, cov_coeff=1.0, weight=0.01, view_stats='separate')
  terms |= dict(
    angles=(-180.0, 180.0), step=10.0
  )  # of the middle picture, and between two; degrees
  authors = dict(
    batch_size=300,
    epochs=300,
    optim=dict(
      name='lars',
      learning_rate=0.3,
      batch_scaling='linear',
      warmup_fraction=0.05,
      weight_decay=1e-4,
      trust_coefficient=0.02,
    ),
  )

  def method(size):
    views = image.get_config(size, scale=(0.2, 1.0), **colour)
    return dict(projector=(2048, 2048, 2048), views=views, **terms)

  return ConfigDict(
    {
      'imagenet': dict(encoder=dict(name='resnet18'), method=method(224), **authors),
      'cifar': dict(encoder=dict(name='resnet18', stem='cifar'), method=method(32), **authors),
      'tiny': dict(
        method=dict(
          projector=(256, 128),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **(terms | dict(angles=(-10.0, 10.0))),
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  projector = heads.mlp(config.projector, hidden_bias=False, last_bias=False)
  network = chain(encoder=nets['encoder'], projector=projector)
  encoder, projector = (
    over_views(net, view_stats=config.view_stats) for net in (nets['encoder'], projector)
  )
  augment = image.make(config.views)
  embed = _pair.make_embed(network, config.views)

  def views(rng, batch):
    angle_rng, rng = jax.random.split(rng)
    low, high = config.angles
    angles = jax.random.uniform(angle_rng, (len(batch['image']), 1), minval=low, maxval=high)
    angles += config.step * jnp.arange(-1, 2)
    turn = jax.vmap(jax.vmap(image.rotate, (None, 0)))
    triple = turn(image.to_float(batch['image']), angles)
    still = [image.prepare(triple[:, i], config.views) for i in range(3)]
    pair = augment(rng, triple[:, 1])
    return {**batch, 'image': jnp.concatenate([pair, jnp.stack(still, 1)], 1)}

  def init(rng, batch):
    flat = batch['image'].reshape(-1, *batch['image'].shape[2:])
    params, stats = network.init(rng, flat)
    return params, {'stats': stats}

  def forward(params, state, batch, rng, step):
    stats, new = state['stats'], {}
    h, new['encoder'] = encoder.apply(
      params['encoder'], stats['encoder'], batch['image'], train=True, rng=rng
    )
    h = features(h)
    z, new['projector'] = projector.apply(
      params['projector'], stats['projector'], h[:, :2], train=True, rng=rng
    )
    return {'z': z, 'h': h[:, 2:]}, {'stats': new}

  def objective(params, state, outputs, batch, rng, step):
    z, h = outputs['z'], outputs['h']
    terms = {name: config[name] for name in ('sim_coeff', 'std_coeff', 'cov_coeff')}
    straight = losses.trajectory(h[:, 0], h[:, 1], h[:, 2])
    loss = losses.vicreg(*_pair.two(z), **terms) + config.weight * straight
    return loss, (state, {'trajectory': straight})

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
  )
