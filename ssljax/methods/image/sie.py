"""SIE: one part of the embedding ignores how a view was made, the other follows it.

    h = encoder(view) = (h_inv, h_equi), z = (projector_inv(h_inv), projector_equi(h_equi))
    p = W(g) z_equi of view 1, W(g) linear in g, what was done to view 2 against view 1
    loss = sim_coeff (|z1_inv - z2_inv|^2 + equi_factor |p - z2_equi|^2)
           + std_coeff variance(z1, z2, p) + cov_coeff covariance(z1, z2), see losses.sie

Garrido, Najman, LeCun 2023, "Self-supervised learning of split invariant equivariant
representations". Follows the authors' code in the loss, the heads and the hypernetwork. There an
object is rendered in two known poses, and g is the rotation from one to the other as a quaternion,
and for SIERotColor the difference of two hues; here a picture is turned in its plane, and g holds
cosine and sine of the angle between the views and the differences of what else was drawn (crop,
colours; see augment.image.parameter_vector).
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssljax import losses
from ssljax.augment import image
from ssljax.method import two_part
from ssljax.methods.image import _pair
from ssljax.models import heads, hypernetwork
from ssljax.net import chain, over_views

PAPER = (
  'Garrido et al. 2023, Self-supervised learning of split invariant equivariant representations'
)
FAMILY = 'equivariant'


def get_config(preset='imagenet'):
  """'imagenet': the README of the authors' code (3DIEBench, 2000 epochs, Adam, no schedule) with
  turned pictures instead of rendered ones; 'cifar' and 'tiny' are ours."""
  turns = dict(rotate=(-90.0, 90.0), rotate_prob=1.0)
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8)
  terms = dict(
    equi_share=0.5,  # of the encoder's features, 256 of 512, and of the projector's widths
    predicted_variance=True,  # False is SIENoVar
    sim_coeff=10.0,
    std_coeff=10.0,
    cov_coeff=1.0,
    equi_factor=0.45,
    view_stats='separate',
  )
  adam = dict(name='adamw', learning_rate=1e-3, weight_decay=1e-6)
  constant = dict(schedule='constant', warmup_fraction=0.0)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet18', zero_init_residual=True),
        batch_size=1024,
        epochs=2000,
        optim=adam | constant,
        method=dict(
          projector=(2048, 2048, 2048),
          views=image.get_config(224, **turns, **colour),
          **terms,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar', zero_init_residual=True),
        batch_size=512,
        epochs=500,
        optim=adam,
        method=dict(
          projector=(1024, 1024, 1024),
          views=image.get_config(32, scale=(0.2, 1.0), **turns, **colour),
          **terms,
        ),
      ),
      'tiny': dict(
        method=dict(
          projector=(256, 128),
          views=image.get_config(
            32,
            **_pair.TINY_VIEWS | dict(grayscale_prob=0.0),
            **turns | dict(rotate=(-30.0, 30.0)),
          ),
          **terms,
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  share = config.equi_share
  equi_sizes = tuple(round(size * share) for size in config.projector)
  inv_sizes = tuple(size - equi for size, equi in zip(config.projector, equi_sizes, strict=True))
  # The authors' hidden layers have biases; the batch norms after them take those out again.
  parts = (
    heads.mlp(sizes, hidden_bias=False, last_bias=False) for sizes in (inv_sizes, equi_sizes)
  )
  projector = heads.side_by_side(*parts, share=share)
  network = chain(encoder=nets['encoder'], projector=projector)
  paired = over_views(network, view_stats=config.view_stats)
  predictor = hypernetwork.linear()
  augment = image.make(config.views, with_parameters=True)
  embed = _pair.make_embed(network, config.views)

  def views(rng, batch):
    images, drawn = augment(rng, batch['image'])
    return {**batch, 'image': images, 'between': _between(drawn, batch['image'].shape[1:])}

  def init(rng, batch):
    rng, predictor_rng = jax.random.split(rng)
    params, stats = paired.init(rng, batch['image'])
    e = jnp.zeros((1, equi_sizes[-1]))
    params['predictor'], _ = predictor.init(predictor_rng, e, batch['between'][:1])
    return params, {'stats': stats}

  def forward(params, state, batch, rng, step):
    outputs, stats = paired.apply(params, state['stats'], batch['image'], train=True, rng=rng)
    z = outputs['projector']
    e = z[:, 0, inv_sizes[-1] :]
    predicted, _ = predictor.apply(params['predictor'], {}, e, batch['between'], train=True)
    return {'z': z, 'predicted': predicted}, {'stats': stats}

  def objective(params, state, outputs, batch, rng, step):
    z, terms = outputs['z'], ('sim_coeff', 'std_coeff', 'cov_coeff', 'equi_factor')
    loss = losses.sie(
      *_pair.two(z),
      outputs['predicted'],
      inv_dim=inv_sizes[-1],
      predicted_variance=config.predicted_variance,
      **{name: config[name] for name in terms},
    )
    return loss, (state, {})

  return two_part(
    init=init,
    forward=forward,
    objective=objective,
    views=views,
    embed=embed,
    embed_views=_pair.make_embed_views(views, embed, config.views),
  )


def _between(drawn, shape):
  """What was done to the second view against the first, of parameters [B, 2, ...]: [B, P]."""
  drawn = dict(drawn)
  angle = jnp.deg2rad(drawn.pop('angle'))
  turn = angle[:, 1] - angle[:, 0]
  vector = image.parameter_vector(drawn, shape)
  turned = jnp.stack([jnp.cos(turn), jnp.sin(turn)], -1)
  return jnp.concatenate([turned, vector[:, 1] - vector[:, 0]], -1)
