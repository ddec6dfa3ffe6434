"""What is made to find copies with: pooling, composites, whitening, and how finding is measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.augment import composite
from ssljax.errors import InputError
from ssljax.evaluators import copy_detection
from ssljax.models import pooling

# Micro average precision.


def test_average_precision_by_hand():
  # Ranked: 0.9 true, 0.8 false, 0.7 true, the rest: precisions 1 and 2/3 at the true ones.
  scores = [[0.9, 0.1, 0.2], [0.3, 0.7, 0.8], [0.0, 0.1, 0.2]]
  found = copy_detection.micro_average_precision(scores, [0, 1, -1])
  np.testing.assert_allclose(found, (1 + 2 / 3) / 2)
  # The query without a source is ahead of all: 1/2 and 2/4.
  scores[2][2] = 0.95
  found = copy_detection.micro_average_precision(scores, [0, 1, -1])
  np.testing.assert_allclose(found, (1 / 2 + 2 / 4) / 2)


def test_equal_scores_are_one_place_of_the_ranking():
  scores = [[0.5, 0.5], [0.5, 0.1]]
  np.testing.assert_allclose(
    copy_detection.micro_average_precision(scores, [0, 1]), (1 / 3 + 2 / 4) / 2
  )
  ones = np.ones((4, 5))
  np.testing.assert_allclose(copy_detection.micro_average_precision(ones, [0, 1, 2, 3]), 4 / 20)


def test_average_precision_equals_scikit_learn():
  metrics = pytest.importorskip('sklearn.metrics')
  generator = np.random.default_rng(0)
  scores = generator.normal(size=(30, 20)).round(1)  # with ties
  source = generator.integers(-1, 20, 30)
  truth = source[:, None] == np.arange(20)
  scores = scores + truth
  expected = metrics.average_precision_score(truth.ravel(), scores.ravel())
  found = copy_detection.micro_average_precision(scores, source)
  np.testing.assert_allclose(found, expected)


# Whitening and scores.


def test_whitened_background_has_the_identity_as_covariance():
  generator = np.random.default_rng(0)
  x = generator.normal(size=(500, 4)) @ generator.normal(size=(4, 4)) + 3
  mean, projection = copy_detection.whitening(x)
  y = (x - mean) @ projection
  np.testing.assert_allclose(y.T @ y / len(x), np.eye(4), atol=1e-9)
  # The first component is the one of the most variance.
  _, first = copy_detection.whitening(x, dims=1)
  np.testing.assert_allclose(((x - mean) @ first)[:, 0], y[:, 0])
  along = first[:, 0] @ np.linalg.svd(x - mean)[2][0] / np.linalg.norm(first)
  np.testing.assert_allclose(abs(along), 1)
  lengths = np.linalg.norm(copy_detection.whitened(x, (mean, projection)), axis=1)
  np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_inputs_wider_than_the_background_are_whitened_in_the_space_it_spans():
  x = np.random.default_rng(0).normal(size=(9, 20)) + 3
  mean, projection = copy_detection.whitening(x)
  assert projection.shape == (20, 8)  # nine rows less their mean
  y = (x - mean) @ projection
  np.testing.assert_allclose(y.T @ y / len(x), np.eye(8), atol=1e-9)
  _, s, components = np.linalg.svd(x - mean)
  wanted = (components[:8] / (s[:8, None] / 3)).T
  signs = np.sign((projection * wanted).sum(0))
  np.testing.assert_allclose(projection * signs, wanted, rtol=1e-6)


def test_whitening_by_hand():
  # Variances 4 and 1 along the axes.
  x = np.array([[2, 1], [-2, 1], [2, -1], [-2, -1]]) + np.array([10, 0])
  found = copy_detection.whitened([[12, 1], [10, -5]], copy_detection.whitening(x))
  np.testing.assert_allclose(np.abs(found), [[0.5**0.5] * 2, [0, 1]], atol=1e-6)


def test_a_feature_that_never_changes_is_left_out():
  x = np.random.default_rng(0).normal(size=(50, 3))
  x[:, 1] = 7
  mean, projection = copy_detection.whitening(x)
  assert projection.shape == (3, 2)
  assert np.isfinite(copy_detection.whitened(x, (mean, projection))).all()


def test_scores_are_less_by_the_nearest_of_the_background():
  queries, references = np.eye(3)[:2], np.eye(3)
  background = [[0.6, 0.8, 0], [0.8, 0, 0.6], [0, 0, 1]]
  found = copy_detection.similarities(queries, references, background, k=2, weight=0.5)
  # Nearest two of the first query: 0.8 and 0.6; of the second 0.8 and 0.
  np.testing.assert_allclose(found, np.eye(3)[:2] - 0.5 * np.array([[0.7], [0.4]]), rtol=1e-6)
  np.testing.assert_array_equal(copy_detection.similarities(queries, references), np.eye(3)[:2])


def test_normalised_scores_forgive_a_query_that_is_like_everything():
  generator = np.random.default_rng(0)
  references, background = generator.normal(size=(2, 40, 8))
  queries = references[:20] + 0.3 * generator.normal(size=(20, 8))
  unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, references, background)]
  unit[0] = np.concatenate([unit[0], 3 * unit[2][:5]])  # five that shout and are no copies
  source = np.r_[np.arange(20), [-1] * 5]
  plain = copy_detection.similarities(*unit[:2])
  normalized = copy_detection.similarities(*unit)
  found = [copy_detection.micro_average_precision(s, source) for s in (plain, normalized)]
  assert found[1] > found[0] + 0.1, found


def test_copies_are_found():
  generator = np.random.default_rng(0)
  references, background = generator.normal(size=(2, 60, 16))
  queries = np.concatenate([5 * references[:10], generator.normal(size=(10, 16))])
  source = np.r_[np.arange(10), [-1] * 10]
  found = copy_detection.evaluate(queries, references, background, source)
  assert found['uap'] > 0.99 and found['uap_normalized'] > 0.9
  noise = copy_detection.evaluate(queries[::-1], references, background, source)
  assert noise['uap'] < 0.2


@pytest.mark.parametrize(
  ('scores', 'source', 'sentence'),
  [
    (np.ones((2, 3)), [0], r'source has shape \(1\), wanted \(2\)'),
    (np.ones((2, 3)), [0, 3], 'source: 0 to 3 seen, -1 to 2 wanted'),
    (np.ones((2, 3)), [-1, -1], 'no query with a reference seen'),
    (np.full((2, 3), np.nan), [0, 1], 'scores: NaN or infinite values seen'),
  ],
)
def test_mistakes_are_named(scores, source, sentence):
  with pytest.raises(InputError, match=sentence):
    copy_detection.micro_average_precision(scores, source)


def test_mistakes_of_whitening_are_named():
  with pytest.raises(InputError, match=r'background: shape \(1, 4\) seen'):
    copy_detection.whitening(np.ones((1, 4)))
  with pytest.raises(InputError, match='dims: 5 seen, 1 to 4 wanted'):
    copy_detection.whitening(np.random.default_rng(0).normal(size=(9, 4)), dims=5)


# Generalised mean.


def test_gem_goes_from_the_mean_to_the_maximum():
  x = np.random.default_rng(0).uniform(size=(2, 3, 4, 5)).astype(np.float32)
  np.testing.assert_allclose(pooling.gem(x, 1.0), x.mean((1, 2)), rtol=1e-6)
  np.testing.assert_allclose(pooling.gem(x, 3.0), (x**3).mean((1, 2)) ** (1 / 3), rtol=1e-5)
  np.testing.assert_allclose(pooling.gem(x, 200.0), x.max((1, 2)), rtol=0.02)


def test_gem_of_nothing_has_a_finite_gradient():
  grad = jax.grad(lambda x: pooling.gem(x).sum())(jnp.zeros((1, 2, 2, 3)))
  assert np.isfinite(grad).all()
  assert pooling.gem(jnp.ones((1, 2, 2, 3), jnp.bfloat16)).dtype == jnp.bfloat16


# Composites.


def composites(**options):
  # Every view is of one value, its image's number, and a tenth for the second view.
  batch = 64
  value = np.arange(batch, dtype=np.float32)[:, None] + np.float32([0, 0.1])
  views = np.broadcast_to(value[..., None, None, None], (batch, 2, 16, 16, 3))
  mixed, shown = composite.composites(jax.random.key(0), jnp.asarray(views), **options)
  return views, np.asarray(mixed), np.asarray(shown)


def test_few_views_are_composites_and_the_others_stay():
  views, mixed, shown = composites(prob=0.2)
  changed = (mixed != views).any((2, 3, 4))
  assert 10 < changed.sum() < 45
  np.testing.assert_array_equal(shown[..., 0], np.arange(64)[:, None] * [1, 1])
  assert (shown[~changed][:, 0] == shown[~changed][:, 1]).all()
  assert (shown[changed][:, 0] != shown[changed][:, 1]).mean() > 0.9
  untouched, _, _ = composites(prob=0.0)
  np.testing.assert_array_equal(untouched, views)


def test_mixup_shares_every_pixel_with_the_other_view_of_the_partner():
  _, mixed, shown = composites(prob=1.0, cut_prob=0.0)
  assert np.ptp(mixed, axis=(2, 3, 4)).max() < 1e-4
  own = np.arange(64)[:, None] + [0, 0.1]
  other = shown[..., 1] + np.array([0.1, 0])
  share = (mixed[:, :, 0, 0, 0] - other) / np.where(own == other, 1, own - other)
  share = share[np.abs(own - other) > 0.5]
  assert share.min() > 0 and share.max() < 1
  np.testing.assert_allclose(share.mean(), 0.5, atol=0.06)
  np.testing.assert_allclose(share.std(), 0.05**0.5, atol=0.04)  # of Beta(2, 2)


def test_cutmix_has_a_box_of_the_partner():
  _, mixed, shown = composites(prob=1.0, cut_prob=1.0)
  inside = 0.0
  for i, v in np.ndindex(64, 2):
    own, other = i + 0.1 * v, shown[i, v, 1] + 0.1 * (1 - v)
    box = np.isclose(mixed[i, v, ..., 0], other)
    assert (box | np.isclose(mixed[i, v, ..., 0], own)).all()
    rows, columns = box.any(1), box.any(0)
    np.testing.assert_array_equal(box, rows[:, None] & columns)
    inside += box.mean() / 128
  assert 0.2 < inside < 0.5, inside  # half the area, less what lies beyond the edges
