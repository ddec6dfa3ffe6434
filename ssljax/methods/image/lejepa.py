"""LeJEPA: all views predict the mean of the global ones, and embeddings are isotropic Gaussian.

    z = projector(encoder(view)), m = mean of z over the global views
    loss = (1 - lambd) mean (z - m)^2 + lambd SIGReg(z), see losses.lejepa
    SIGReg: the Epps-Pulley statistic of z on random directions, drawn anew at each step

Balestriero, LeCun 2025, "LeJEPA: provable and scalable self-supervised learning without the
heuristics". No teacher, no stop-gradient, no predictor. Follows the authors' PyTorch code.
"""

import jax
from ml_collections import ConfigDict

from ssljax import losses, ops
from ssljax.augment import image
from ssljax.method import two_part
from ssljax.methods.image import _pair
from ssljax.models import heads
from ssljax.net import Net, chain, over_sizes, over_views

PAPER = 'Balestriero & LeCun 2025, LeJEPA: provable and scalable self-supervised learning'
FAMILY = 'distribution-matching'


def get_config(preset='imagenet'):
  """'imagenet': the authors' README (2 global and 6 local views, a ResNet's weight decay) and
  lambd and slices of section 6, with one of their projectors; 'cifar' and 'tiny' are ours."""
  colour = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_prob=0.8, grayscale_prob=0.2)
  colour |= dict(solarize_prob=0.2)
  large = dict(blur_prob=0.5, **colour)
  common = dict(lambd=0.05, num_slices=1024, t_max=3.0, n_points=17, view_stats='shared')
  adamw = dict(name='adamw', learning_rate=5e-4, weight_decay=5e-4, final_fraction=1e-3)
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='resnet50'),
        batch_size=512,
        epochs=100,
        optim=adamw,
        method=dict(
          projector=(2048, 2048, 128),
          views={
            'global': image.get_config(224, scale=(0.3, 1.0), **large),
            'local': image.get_config(98, num_views=6, scale=(0.05, 0.3), **large),
          },
          **common,
        ),
      ),
      'cifar': dict(
        encoder=dict(name='resnet18', stem='cifar'),
        batch_size=256,
        epochs=800,
        optim=adamw | dict(learning_rate=2e-3),
        method=dict(
          projector=(2048, 2048, 64), views=image.get_config(32, num_views=4, **colour), **common
        ),
      ),
      'tiny': dict(
        method=dict(
          projector=(256, 256, 32),
          views=image.get_config(32, **_pair.TINY_VIEWS),
          **(common | dict(num_slices=256)),
        ),
        **_pair.TINY,
      ),
    }[preset]
  )


def make(config, nets):
  projector = heads.mlp(config.projector, hidden_bias=False)  # batch norm takes a bias out again
  network = chain(encoder=nets['encoder'], projector=projector)

  def last(params, state, x, **options):
    outputs, state = network.apply(params, state, x, **options)
    return outputs['projector'], state

  over = over_views if 'size' in config.views else over_sizes
  viewed = over(Net(network.init, last), view_stats=config.view_stats)
  views = _pair.make_views(config.views)
  embed = _pair.make_embed(network, config.views)

  def init(rng, batch):
    params, stats = viewed.init(rng, batch['image'])
    return params, {'stats': stats}

  def forward(params, state, batch, rng, step):
    z, stats = viewed.apply(params, state['stats'], batch['image'], train=True, rng=rng)
    return z, {**state, 'stats': stats}

  def objective(params, state, z, batch, rng, step):
    slices = jax.random.normal(rng, (z.shape[-1], config.num_slices))
    loss = losses.lejepa(
      z,
      ops.l2_normalize(slices, axis=0),
      global_views=image.main(config.views).num_views,
      lambd=config.lambd,
      t_max=config.t_max,
      n_points=config.n_points,
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
