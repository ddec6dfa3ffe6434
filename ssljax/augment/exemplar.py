"""Exemplars cut out of an image at random places, sizes and angles, and where they came from."""

import jax
import jax.numpy as jnp
import ml_collections

from ssljax.augment import image as views_of
from ssljax.augment._config import check
from ssljax.augment._geometry import CROP_UNIFORMS, crop_box


def make(context, exemplar, *, search_size):
  """Builds the function that draws a context and its exemplars for each image of a batch.

  A random crop of the image, resized to `search_size`, is what both are taken from: the context is
  all of it, an exemplar a turned rectangle. Of an exemplar's config `scale`, `ratio` and `rotate`
  say which, the rest is done to what was cut out.

  Args:
    context: config of `image.get_config`, of one view.
    exemplar: another; its num_views is how many there are of each image.
    search_size: in pixels.

  Returns:
    views(rng, images): images uint8, or float in [0, 1], [B, H, W, C] -> dict of 'image' float32
    [B, h, h, C], the contexts, 'exemplars' float32 [B, V, s, s, C], both normalised, and 'place'
    bool [B, V, h, h], True where in the context the exemplar was cut out.

  Raises:
    InputError: a field of a config has a value that cannot be.

  Reference: CIM (https://arxiv.org/abs/2303.12670), Section 3.1.
  """
  check(context)
  check(exemplar)
  context, exemplar = (ml_collections.FrozenConfigDict(c) for c in (context, exemplar))

  def one(key, image):
    crop_key, key = jax.random.split(key)
    drawn = views_of.sample(crop_key, context, image.shape)
    search = views_of.crop_resize(
      image, drawn['box'], search_size, context.interpolation, drawn.get('flip', False)
    )
    drawn = {name: value for name, value in drawn.items() if name not in ('box', 'flip')}
    whole = jnp.array([0, 0, search_size, search_size])
    seen = views_of.apply(search, {**drawn, 'box': whole}, context)

    def cut_out(key, view):
      place_key, key = jax.random.split(key)
      uniforms = jax.random.uniform(place_key, (CROP_UNIFORMS + 1,))
      place = rectangle(uniforms, exemplar.scale, exemplar.ratio, exemplar.rotate)
      size = exemplar.size
      drawn = views_of.sample(key, exemplar, (size, size), view)
      drawn['box'] = jnp.array([0, 0, size, size])
      return views_of.apply(cut(search, place, size), drawn, exemplar), place

    count = exemplar.num_views
    cuts, places = jax.vmap(cut_out)(jax.random.split(key, count), jnp.arange(count))
    inside = jax.vmap(lambda place: footprint(place, context.size))(places)
    return {'image': seen, 'exemplars': cuts, 'place': inside}

  def views(rng, images):
    images = views_of.to_float(images)
    return jax.vmap(one)(jax.random.split(rng, len(images)), images)

  return jax.jit(views)


def rectangle(uniforms, scale, ratio, rotate, resolution=1024):
  """A turned rectangle within the unit square: float32 [5].

  An upright one is drawn as for a random resized crop. The rectangle that encloses it at a random
  angle is taken, made as much smaller about its centre as it needs to lie within the square.

  Args:
    uniforms: [41] in [0, 1): of `crop_box`, and the angle.
    scale, ratio: of the upright rectangle's area and sides; rotate: least and greatest angle, in
      degrees.
    resolution: the upright one's sides are whole multiples of one part in so many.

  Returns:
    The centre's row and column, half the height and half the width, as shares of the side, and the
    angle in radians.
  """
  box = crop_box(uniforms[:CROP_UNIFORMS], resolution, resolution, scale, ratio) / resolution
  top, left, height, width = box
  row, column = top + height / 2, left + width / 2
  angle = jnp.deg2rad(rotate[0] + (rotate[1] - rotate[0]) * uniforms[CROP_UNIFORMS])
  cos, sin = jnp.abs(jnp.cos(angle)), jnp.abs(jnp.sin(angle))
  down, right = (width * sin + height * cos) / 2, (width * cos + height * sin) / 2
  reach_down, reach_right = right * sin + down * cos, right * cos + down * sin
  room_down, room_right = jnp.minimum(row, 1 - row), jnp.minimum(column, 1 - column)
  shrink = jnp.minimum(1, jnp.minimum(room_down / reach_down, room_right / reach_right))
  return jnp.stack([row, column, shrink * down, shrink * right, angle])


def cut(image, place, size):
  """What of an image [H, W, C] lies in a `rectangle`, turned upright: [size, size, C].

  Each pixel is the mean of two by two bilinear samples.
  """
  row, column, down, right, angle = place
  along = (2 * jnp.arange(2 * size) + 1) / (2 * size) - 1
  v, u = down * along[:, None], right * along
  rows = (row + v * jnp.cos(angle) + u * jnp.sin(angle)) * image.shape[0] - 0.5
  columns = (column + u * jnp.cos(angle) - v * jnp.sin(angle)) * image.shape[1] - 0.5

  def sample(channel):
    return jax.scipy.ndimage.map_coordinates(channel, [rows, columns], order=1, mode='nearest')

  fine = jax.vmap(sample, -1, -1)(image)
  return fine.reshape(size, 2, size, 2, -1).mean((1, 3))


def footprint(place, size):
  """bool [size, size]: which pixels of a square image have their centre in a `rectangle`."""
  row, column, down, right, angle = place
  centres = (jnp.arange(size) + 0.5) / size
  y, x = centres[:, None] - row, centres - column
  v, u = y * jnp.cos(angle) - x * jnp.sin(angle), y * jnp.sin(angle) + x * jnp.cos(angle)
  return (jnp.abs(v) <= down) & (jnp.abs(u) <= right)
