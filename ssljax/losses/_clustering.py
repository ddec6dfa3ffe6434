"""Losses whose targets are clusters that the method finds itself."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp

from ssljax.errors import InputError
from ssljax.losses._contrastive import check_positive
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots, l2_normalize, sinkhorn

IGNORED = -100  # the label of an example that no cluster was found for


def swav(
  z, prototypes, queue=None, *, queue_used=True, assign_views=(0, 1), temperature=0.1, eps=0.05,
  iters=3, axis_name=None,
):  # fmt: skip
  """SwAV: each view predicts the cluster codes of another view.

  With z' = z at length one, the scores s_v = z_v' . prototypes, and the codes q_a of `swav_codes`:
    mean over the batch, a in assign_views and v != a of  -sum_k q_ak log softmax(s_v / T)_k

  The codes get no gradient. Constant embeddings have uniform codes and the loss ln K or more,
  chance level: codes that use all prototypes alike prevent collapse.

  Args:
    z: [B, V, D], embeddings of the V views of B examples, of any length.
    prototypes: [K, D], at length one; used as they are.
    queue: [Q, A, D], earlier embeddings of the A views in assign_views, at length one, newest
      first; no gradient.
    queue_used: bool, may be traced: whether the queue counts.
    assign_views: views that codes are computed from; those of full size.
    temperature: T.
    eps, iters: of `ops.sinkhorn`.
    axis_name: of `pmap` or `shard_map`, if z and queue are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit, a view in assign_views does not exist, temperature or eps is
      not positive, or iters is less than 1.

  Reference: SwAV (https://arxiv.org/abs/2006.09882), Section 3, equations 1 to 3. Equals what the
  authors' `train` computes, where the views are one after the other in one axis.
  """
  check_positive(temperature=temperature)
  codes = swav_codes(
    z, prototypes, queue, queue_used=queue_used, assign_views=assign_views, eps=eps, iters=iters,
    axis_name=axis_name,
  )  # fmt: skip
  logits = dots('bvd,kd->bvk', l2_normalize(as_float(z)), as_float(prototypes)) / temperature
  # Codes sum to 1: -sum q log softmax(x) = logsumexp(x) - q . x.
  cross_entropy = logsumexp(logits, axis=-1)[:, None] - dots('bak,bvk->bav', codes, logits)
  other = jnp.array(assign_views)[:, None] != jnp.arange(z.shape[1])
  terms = jnp.where(other, cross_entropy, 0).sum((1, 2)) / other.sum()
  return batch_mean(terms.sum(), terms, axis_name)


def swav_codes(
  z, prototypes, queue=None, *, queue_used=True, assign_views=(0, 1), eps=0.05, iters=3,
  axis_name=None,
):  # fmt: skip
  """The codes of SwAV: Sinkhorn's assignment of each assigning view, by itself, to prototypes.

  Arguments as in `swav`. The rows of the queue join those of the batch, so that a batch smaller
  than the number of prototypes can use them all alike.

  Returns:
    [B, A, K], rows summing to 1, without a gradient.

  Raises:
    InputError: a shape does not fit, a view in assign_views does not exist, eps is not positive or
      iters is less than 1.

  Reference: SwAV (https://arxiv.org/abs/2006.09882), Section 3.1.
  """
  check_shape('z', z, ('B', 'V', 'D'))
  check_shape('prototypes', prototypes, ('K', z.shape[2]))
  views = z.shape[1]
  if not assign_views or not all(0 <= view < views for view in assign_views) or views < 2:
    raise InputError(f'assign_views is {assign_views}, wanted some of the {views} views, 2 or more')
  z, prototypes = lax.stop_gradient((l2_normalize(as_float(z)), as_float(prototypes)))
  rows = z[:, jnp.array(assign_views)]
  counted = jnp.ones(len(z), bool)
  if queue is not None:
    check_shape('queue', queue, ('Q', len(assign_views), z.shape[2]))
    rows = jnp.concatenate([rows, lax.stop_gradient(as_float(queue))])
    counted = jnp.concatenate([counted, jnp.broadcast_to(queue_used, len(queue))])
  codes = [
    sinkhorn(
      dots('bd,kd->bk', rows[:, i], prototypes), eps=eps, iters=iters,
      where=None if queue is None else counted, axis_name=axis_name,
    )[: len(z)]
    for i in range(len(assign_views))
  ]  # fmt: skip
  return jnp.stack(codes, axis=1)


def deepcluster_v2(z, prototypes, labels, *, temperature=0.1, axis_name=None):
  """DeepCluster-v2: every view is classified as the cluster of its example, by fixed centroids.

  With z' = z at length one, centroids c of head h and the label y of the example in it:
    mean over heads h of the mean over the views of examples with a label of
      -log softmax(z' . c_h / T)_{y_h}

  Centroids get no gradient. Constant embeddings cost ln K or more on even clusters; uneven ones let
  a constant do better, and spherical k-means, run anew each epoch, is all that prevents collapse.

  Args:
    z: [B, V, D], embeddings of the V views, of any length.
    prototypes: H arrays [K_h, D], the centroids of each head, at length one.
    labels: int [B, H]; IGNORED (-100) for an example without a cluster.
    temperature: T.
    axis_name: of `pmap` or `shard_map`, if z and labels are one device's shares (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch; 0 for a head in which no example has a label.

  Raises:
    InputError: a shape does not fit; temperature is not positive.

  Reference: SwAV (https://arxiv.org/abs/2006.09882), Section 4.1 and appendix C. Equals the loss in
  the authors' `main_deepclusterv2.py`.
  """
  check_shape('z', z, ('B', 'V', 'D'))
  check_shape('labels', labels, (len(z), len(prototypes)))
  check_positive(temperature=temperature)
  z, total = l2_normalize(as_float(z)), 0.0
  for head, centroids in enumerate(prototypes):
    check_shape(f'prototypes[{head}]', centroids, ('K', z.shape[2]))
    logits = dots('bvd,kd->bvk', z, lax.stop_gradient(as_float(centroids))) / temperature
    known = labels[:, head] != IGNORED
    loss = cross_entropy(logits, jnp.where(known, labels[:, head], 0)[:, None]).mean(1)
    total += weighted_mean(loss, known, axis_name)
  return total / len(prototypes)


def scan(anchors, neighbors, *, entropy_weight=5.0, axis_name=None):
  """SCAN: an image and its neighbour fall into one cluster, and all clusters are used.

  With p and q the softmax of the two logits and p' the mean of p over the batch:
    mean of -log(p . q) - entropy_weight H(p')

  Everything in one cluster has H = 0, and constant undecided outputs have -log(p . q) = ln C: the
  entropy and the consistency prevent one collapse each. The least value is -entropy_weight ln C.

  Args:
    anchors: [B, C], logits of the images; neighbors: [B, C], of a neighbour of each.
    entropy_weight: 5 in the paper and its configs; 2 is the default of the authors' class.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: the arrays are not two of one shape [B, C].

  Reference: SCAN (https://arxiv.org/abs/2005.12320), Section 2.2, equation 2. Equals the authors'
  `SCANLoss`, where probabilities in the entropy are floored at 1e-8 too.
  """
  check_shape('anchors', anchors, ('B', 'C'))
  check_shape('neighbors', neighbors, anchors.shape)
  p, q = (jax.nn.log_softmax(as_float(x)) for x in (anchors, neighbors))
  agreement = logsumexp(p + q, axis=1)
  consistency = -batch_mean(agreement.sum(), agreement, axis_name)
  mean = jnp.exp(p).mean(0)
  mean = jnp.maximum(mean if axis_name is None else lax.pmean(mean, axis_name), 1e-8)
  return consistency + entropy_weight * jnp.sum(mean * jnp.log(mean))


def scan_selflabel(weak, strong, *, threshold=0.99, balanced=True, axis_name=None):
  """SCAN's self-labelling: a confident prediction is the label of a strongly augmented view.

  Of the examples whose largest weak probability is over the threshold, with y its place:
    sum of w_y (-log softmax(strong)_y) / sum of w_y,  w_y = 1 / how many of them have label y

  The weak logits get no gradient. One class for all examples is a minimum: that the classes come
  from `scan`, and weigh alike, prevents collapse.

  Args:
    weak: [B, C], logits of the plain or weakly augmented images; strong: [B, C], of strong views.
    threshold: 0.99 in the paper.
    balanced: whether classes weigh alike; False is the plain mean.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch; 0 if no example is confident, where the authors' code
    raises an error.

  Raises:
    InputError: the arrays are not two of one shape [B, C].

  Reference: SCAN (https://arxiv.org/abs/2005.12320), Section 2.3. Equals the authors'
  `ConfidenceBasedCE`.
  """
  check_shape('weak', weak, ('B', 'C'))
  check_shape('strong', strong, weak.shape)
  labels, kept = confident(weak, threshold)
  weights = kept
  if balanced:
    counts = jnp.where(kept[:, None], labels[:, None] == jnp.arange(weak.shape[1]), False).sum(0)
    counts = counts if axis_name is None else lax.psum(counts, axis_name)
    weights = kept / jnp.maximum(counts[labels], 1)
  return weighted_mean(cross_entropy(as_float(strong), labels), weights, axis_name)


def confident(logits, threshold):
  """int [B] the likeliest class of logits [B, C], and bool [B] whether it is over the threshold."""
  probabilities = lax.stop_gradient(jax.nn.softmax(as_float(logits)))
  return jnp.argmax(probabilities, axis=1), jnp.max(probabilities, axis=1) > threshold


def deepercluster(
  super_logits, sub_logits, super_labels, sub_labels, *, weights=None, axis_name=None
):
  """DeeperCluster: the super-class is predicted, and the sub-class by the head of its super-class.

    mean over the batch of  w ( -log softmax(super)_s - log softmax(sub_s)_c )

  Constant outputs cost ln S + ln C on even classes. Labels come from k-means on the features
  themselves: rotations among the super-classes, and weights that make the clusters count alike,
  prevent collapse.

  Args:
    super_logits: [B, S]; S super-classes, in the paper super-clusters x 4 rotations.
    sub_logits: [B, S, C], of the head of each super-class.
    super_labels: int [B]; sub_labels: int [B].
    weights: [B], such that their mean over the data is 1; None is 1 for all.
    axis_name: of `pmap` or `shard_map`, if the arrays are one device's share of the batch (see
      `ssljax.losses`).

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit.

  Reference: DeeperCluster (https://arxiv.org/abs/1905.01278), Section 3.2, equation 4. The authors'
  `train_network` computes the same for one super-class on each group of GPUs.
  """
  check_shape('super_logits', super_logits, ('B', 'S'))
  check_shape('sub_logits', sub_logits, (*super_logits.shape, 'C'))
  own = jnp.take_along_axis(as_float(sub_logits), super_labels[:, None, None], axis=1)[:, 0]
  loss = cross_entropy(as_float(super_logits), super_labels) + cross_entropy(own, sub_labels)
  loss = loss if weights is None else loss * as_float(weights)
  return batch_mean(loss.sum(), loss, axis_name)


def cross_entropy(logits, labels):
  """[...] of -log softmax(logits)_label, for logits [..., C] and int labels that broadcast."""
  labels = jnp.broadcast_to(labels, logits.shape[:-1])
  chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
  return logsumexp(logits, axis=-1) - chosen


def weighted_mean(values, weights, axis_name=None):
  """sum(w x) / sum(w) over the global batch, 0 where all weights are; both [B]."""
  weights = weights.astype(values.dtype)
  sums = jnp.sum(weights * values), jnp.sum(weights)
  total, weight = sums if axis_name is None else lax.psum(sums, axis_name)
  return total / jnp.where(weight > 0, weight, 1)
