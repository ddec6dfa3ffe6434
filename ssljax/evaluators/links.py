"""Pairs of nodes: scores and features from the embeddings of both."""

import numpy as np

from ssljax.errors import InputError


def link_scores(z, edges, others) -> dict[str, float]:
  """AUC and average precision of dot products of embeddings z [N, D] of pairs.

  edges: int [E, 2], held out; others: int [M, 2], pairs that are none.
  """
  from sklearn.metrics import average_precision_score, roc_auc_score

  pairs = np.concatenate([edges, others])
  scores = (z[pairs[:, 0]] * z[pairs[:, 1]]).sum(1)
  truth = np.arange(len(pairs)) < len(edges)
  return {
    'auc': float(roc_auc_score(truth, scores)),
    'ap': float(average_precision_score(truth, scores)),
  }


def edge_features(z, pairs, kind: str = 'hadamard') -> np.ndarray:
  """[M, D]: features of pairs int [M, 2] from those of their nodes z [N, D], for a classifier.

  'average' (a + b) / 2, 'hadamard' a b, 'l1' |a - b|, 'l2' (a - b)^2, by coordinate: table 1 of
  Grover & Leskovec 2016. Raises InputError for a kind that is none of these.
  """
  first, second = z[pairs[:, 0]], z[pairs[:, 1]]
  if kind == 'average':
    return (first + second) / 2
  if kind == 'hadamard':
    return first * second
  if kind in ('l1', 'l2'):
    return np.abs(first - second) ** int(kind[1])
  raise InputError(f'kind is {kind!r}, wanted average, hadamard, l1 or l2')
