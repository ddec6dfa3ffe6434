"""Images put together of two: mixup and CutMix, each view with a partner of its own."""

import jax
import jax.numpy as jnp

from ssljax import ops
from ssljax.ops import check_shape


def composites(rng, views, *, prob=0.05, alpha=2.0, cut_prob=0.5):
  """Some of the views [B, 2, H, W, C] as mixtures with a view of another image.

    mixup:  share view + (1 - share) partner's,          share ~ Beta(alpha, alpha)
    CutMix: the view, with a box of 1 - share of its area about a random place from the partner's

  The partner of the first view of an image is the second view of a random image, and the other way
  round; the box is cut off at the edges.

  Args:
    rng: random key.
    views: float [B, 2, H, W, C], in any normalisation.
    prob: of a view to be mixed.
    alpha: of the Beta distribution, for both kinds.
    cut_prob: of a view that is mixed to be so by CutMix.

  Returns:
    The views, and what they show: int32 [B, 2, 2], the places in the batch of the view's image and
    of its partner's, or of its own image again.

  References: mixup (https://arxiv.org/abs/1710.09412), CutMix (https://arxiv.org/abs/1905.04899).
  """
  check_shape('views', views, ('B', 2, 'H', 'W', 'C'))
  batch, _, height, width, _ = views.shape
  partner_rng, share_rng, rng = jax.random.split(rng, 3)
  partner = ops.random_partner(jax.random.uniform(partner_rng, (batch, 2)))
  # Each view's: the second of the partner, and the first of the image whose partner this one is.
  partner = jnp.stack([partner, jnp.argsort(partner)], axis=1)
  share = jax.random.beta(share_rng, alpha, alpha, (batch, 2, 1, 1, 1))
  mixed, cut, y, x = jax.random.uniform(rng, (4, batch, 2, 1, 1, 1))
  mixed = mixed < prob
  side = jnp.sqrt(1 - share) / 2

  def inside(place, size, axes):
    centre = (jnp.arange(size).reshape(axes) + 0.5) / size
    return jnp.abs(centre - place) < side

  box = inside(y, height, (-1, 1, 1)) & inside(x, width, (1, -1, 1))
  own = jnp.where(mixed, jnp.where(cut < cut_prob, 1.0 - box, share), 1.0)
  other = views[partner, jnp.array([1, 0])]
  ids = jnp.broadcast_to(jnp.arange(batch)[:, None], (batch, 2))
  shown = jnp.stack([ids, jnp.where(mixed[..., 0, 0, 0], partner, ids)], axis=-1)
  return own * views + (1 - own) * other, shown.astype(jnp.int32)
