"""Segmentation of frozen patches: known answers, equal to loops, and mistakes named."""

import json

import numpy as np
import pytest

from ssljax.errors import InputError
from ssljax.evaluators import DENSE, dense, describe

PATCH, GRID, CLASSES = 4, (5, 6), 3


def scenes(n, seed=0, noise=0.1, width=8):
  """Features [n, 5, 6, D] and masks [n, 20, 24] of rectangles of two classes on a third."""
  rng = np.random.default_rng(seed)
  y = np.zeros((n, *GRID), np.int64)
  for image in y:
    for c in (1, 2):
      top, left = rng.integers(0, 3), rng.integers(0, 4)
      image[top : top + 2, left : left + 3] = c
  axes = np.linalg.qr(np.random.default_rng(9).normal(size=(width, width)))[0]
  x = axes[y] * rng.uniform(0.5, 2, (*y.shape, 1)) + noise * rng.normal(size=(*y.shape, width))
  return x.astype(np.float32), y.repeat(PATCH, 1).repeat(PATCH, 2).astype(np.uint8)


@pytest.mark.parametrize('name', DENSE)
def test_features_that_know_the_class_segment(name):
  train, test = scenes(6), scenes(4, seed=1)
  found = DENSE[name](*train, *test, num_classes=CLASSES)
  # Bilinear scores round the corners of what is made of patches, logits more than shares.
  good = {'knn-seg-v1': 0.9, 'linear-seg-v1': 0.75}[name]
  assert found['miou'] > good and found['accuracy'] > 0.9
  blind = [np.random.default_rng(i).normal(size=x.shape) for i, x in enumerate((train[0], test[0]))]
  chance = DENSE[name](blind[0], train[1], blind[1], test[1], num_classes=CLASSES)
  assert chance['miou'] < 0.45
  again = DENSE[name](*train, *test, num_classes=CLASSES)
  assert again == found
  ignored = train[1].copy()
  ignored[0] = dense.IGNORE
  noisy = train[0].copy()
  noisy[0] = 100  # what has no label is not looked at
  part = DENSE[name](noisy, ignored, *test, num_classes=CLASSES)
  assert part['miou'] > good
  assert json.loads(json.dumps(describe(name))) == describe(name)


def test_retrieval_equals_a_loop():
  (train_x, train_m), (test_x, test_m) = scenes(2, noise=0.6), scenes(1, seed=1, noise=0.6)
  train_m[:, ::2, ::3] = 2  # patches of several classes
  keys = train_x.reshape(-1, 8)
  shares = np.stack(
    [
      [(patch == c).mean() for c in range(CLASSES)]
      for image in train_m
      for row in np.split(image, 5)
      for patch in np.split(row, 6, axis=1)
    ]
  )
  unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
  scores = np.zeros((*GRID, CLASSES))
  for place in np.ndindex(GRID):
    q = test_x[0][place]
    cosine = unit @ (q / np.linalg.norm(q))
    near = np.argsort(-cosine)[:7]
    weight = np.exp((cosine[near] - cosine.max()) / 0.1)
    scores[place] = weight @ shares[near] / weight.sum()
  wanted = dense.scores(dense.to_pixels(scores[None], (20, 24)), test_m, CLASSES)
  found = dense.knn_seg_v1(
    train_x, train_m, test_x, test_m, num_classes=CLASSES, k=7, temperature=0.1
  )
  np.testing.assert_allclose(list(found.values()), list(wanted.values()), atol=0.005)


def test_scores_by_hand():
  masks = np.array([[[0, 0, 1, 255]], [[1, 1, 0, 0]]])
  predicted = np.array([[[0, 1, 1, 0]], [[1, 0, 0, 0]]])
  found = dense.scores(predicted, masks, 3)
  assert found['accuracy'] == 5 / 7
  # Class 0: 3 of both, 5 of either; class 1: 2 and 4; class 2 is nowhere.
  np.testing.assert_allclose(found['miou'], (3 / 5 + 2 / 4) / 2)
  assert dense.scores(np.full_like(masks, 2), masks, 3) == {'miou': 0.0, 'accuracy': 0.0}
  with pytest.raises(InputError, match='no pixel with a label'):
    dense.scores(predicted, np.full_like(masks, 255), 3)


def test_scores_are_raised_between_centres_of_patches():
  left = np.array([1.0, 0.0])
  scores = np.stack([left, 1 - left], -1)[None, None]  # one row, two columns
  np.testing.assert_array_equal(dense.to_pixels(scores, (2, 8))[0], [[0] * 4 + [1] * 4] * 2)
  scores = np.stack([3 * left, 1 - left], -1)[None, None]
  # 3 (1 - t) > t until t = 3/4, with t = 1/8, 3/8, ... from the third pixel on.
  np.testing.assert_array_equal(dense.to_pixels(scores, (1, 8))[0, 0], [0] * 5 + [1] * 3)


def test_shares_count_labelled_pixels():
  mask = np.array([[[0, 0, 2, 255], [0, 1, 255, 255]]], np.uint8)
  shares = dense.patch_shares(mask, (1, 2), 3)
  np.testing.assert_allclose(shares[0, 0], [[0.75, 0.25, 0], [0, 0, 1]])
  assert not dense.patch_shares(np.full((1, 2, 2), 255), (1, 1), 3).any()


def test_memory_is_drawn_by_seed():
  train, test = scenes(4, noise=0.8), scenes(3, seed=1, noise=0.8)
  few = [
    dense.knn_seg_v1(*train, *test, num_classes=CLASSES, memory=20, seed=seed) for seed in (0, 0, 1)
  ]
  assert few[0] == few[1] != few[2]


@pytest.mark.parametrize('name', DENSE)
@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    (lambda x, m: (x[0], m), r'train_x: shape \(5, 6, 8\) seen, \[n, h, w, D\] wanted'),
    (lambda x, m: (x, m[:, :19]), r'train_masks: shape \(6, 19, 24\) seen, \[6, H, W\] wanted'),
    (lambda x, m: (x, m[:5]), r'train_masks: shape \(5, 20, 24\) seen'),
    (lambda x, m: (x, m + 1), 'train_masks: uint8 from 1 to 3 seen, integers from 0 to 2'),
    (lambda x, m: (x, m / 1), 'train_masks: float64'),
    (lambda x, m: (x * np.nan, m), 'train_x: NaN'),
    (lambda x, m: (x[..., :4], m), 'test_x: width 8 seen, 4 wanted'),
    (lambda x, m: (x, np.full_like(m, 255)), 'train_masks: no pixel with a label'),
  ],
)
def test_mistakes_are_named(name, change, sentence):
  with pytest.raises(InputError, match=sentence):
    DENSE[name](*change(*scenes(6)), *scenes(2), num_classes=CLASSES)


def test_a_linear_layer_needs_two_images():
  with pytest.raises(InputError, match='1 image seen, at least 2'):
    dense.linear_seg_v1(*scenes(1), *scenes(1), num_classes=CLASSES)
