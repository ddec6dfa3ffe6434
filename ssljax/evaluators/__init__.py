"""Judging features: probes with labels, numbers without, and a doctor for the run."""

from ssljax.evaluators.clustering import kmeans_v1
from ssljax.evaluators.dense import knn_seg_v1, linear_seg_v1
from ssljax.evaluators.doctor import diagnose
from ssljax.evaluators.knn import knn_v1
from ssljax.evaluators.label_free import (
  alignment,
  alpha_req,
  feature_std,
  lidar,
  rankme,
  singular_values,
  uniformity,
)
from ssljax.evaluators.linear import linear_v1
from ssljax.evaluators.protocols import DENSE, PROTOCOLS, describe, run_protocols

__all__ = [
  'DENSE',
  'PROTOCOLS',
  'alignment',
  'alpha_req',
  'describe',
  'diagnose',
  'feature_std',
  'kmeans_v1',
  'knn_seg_v1',
  'knn_v1',
  'lidar',
  'linear_seg_v1',
  'linear_v1',
  'rankme',
  'run_protocols',
  'singular_values',
  'uniformity',
]
