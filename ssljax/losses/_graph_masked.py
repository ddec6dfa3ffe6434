"""Losses that fill in what was hidden of a graph, or tell edges from pairs that are none."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.ops import as_float, check_shape, masked_mean


def _direction(z, eps=None):
  """Rows at length one. A row of zeros, as nodes without neighbours have, stays so and has no
  gradient: there is no direction to turn it to, and one over its length would drown the rest. With
  `eps` rows shorter than that are divided by it, and that is the gradient."""
  z = as_float(z)
  squared = jnp.sum(z * z, -1, keepdims=True)
  some = squared > (1e-12 if eps is None else eps) ** 2
  short = jnp.zeros_like(z) if eps is None else z / eps
  return jnp.where(some, z * lax.rsqrt(jnp.where(some, squared, 1)), short)


def sce(pred, target, *, gamma=3.0, eps=1e-12, where=None):
  """Scaled cosine error of GraphMAE: mean of (1 - cos(x, z))^gamma over the masked nodes.

  Both sides have a gradient. Scaling weighs down what is easy; 0 where all point the same way,
  which constant embeddings do only if all features of nodes do. A row of zeros has cosine 0 and a
  gradient of the order 1 / eps, see `methods.graph.graphmae` for what it does there.

  Args:
    pred: [N, F], reconstructed features. target: [N, F], those there were.
    gamma: at least 1; 1 to 3 in the paper.
    eps: rows shorter than it are divided by it, not by their length; None leaves them without
      gradient.
    where: bool [N], the masked nodes; None for all.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit.

  Reference: GraphMAE (https://arxiv.org/abs/2205.10803), equation 2. Equals `sce_loss` of the
  authors' code.
  """
  check_shape('pred', pred, ('N', 'F'))
  check_shape('target', target, pred.shape)
  x, y = _direction(pred, eps), _direction(target, eps)
  error = 1 - jnp.sum(x * y, -1)
  # Rounding may leave a cosine above 1, and a power of a negative number is none.
  return masked_mean(jnp.maximum(error, 0) ** gamma, where)


def bandana(positive, negative, bandwidth=None, *, where=None, where_negative=None):
  """Bandana: how well edges are told from other pairs, each edge by its bandwidth.

    mean over edges of  b * softplus(-s)  plus mean over other pairs of softplus(s)

  2 ln 2 for scores of 0 and bandwidths of 1.

  Args:
    positive: [E], logits of edges that were masked. negative: [M], of pairs that are no edges.
    bandwidth: [E], their weights, constants; None for 1.
    where, where_negative: bool, entries that count; None for all.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit.

  Reference: Bandana (https://arxiv.org/abs/2402.03814), equation 9. With logits as differences of
  two columns it equals `ce_loss` of the authors' code.
  """
  check_shape('positive', positive, ('E',))
  check_shape('negative', negative, ('M',))
  near = jax.nn.softplus(-as_float(positive))
  if bandwidth is not None:
    check_shape('bandwidth', bandwidth, positive.shape)
    near = near * lax.stop_gradient(as_float(bandwidth))
  return masked_mean(near, where) + masked_mean(jax.nn.softplus(as_float(negative)), where_negative)


def edge_bce(logits, is_edge, *, where=None):
  """Binary cross-entropy of whether a pair is an edge, SuperGAT's.

    mean of softplus(-s) over edges and softplus(s) over other pairs

  Constant logits of 0 score ln 2.

  Args:
    logits: [E], s of each pair; is_edge: bool [E].
    where: bool [E], pairs that count; None for all.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit.

  Reference: SuperGAT (https://openreview.net/forum?id=Wi5KUNlqWty), equation 5. Equals
  `SuperGATConv.get_attention_loss` of PyTorch Geometric, logits averaged over heads.
  """
  check_shape('logits', logits, ('E',))
  check_shape('is_edge', is_edge, logits.shape)
  signed = jnp.where(is_edge, -as_float(logits), as_float(logits))
  return masked_mean(jax.nn.softplus(signed), where)


def hypeboy(queries, keys, node, *, where=None, keys_where=None, reduce='sum'):
  """HypeBoy: the node that completes a hyperedge is found among all nodes.

  With q and k at length one:  sum over queries of  log sum_j exp(q . k_j) - q . k_node

  There is no temperature. M ln N for constant embeddings.

  Args:
    queries: [M, D], one for each member of each hyperedge, made of the other members.
    keys: [N, D], one for each node. node: int [M], the member that is wanted.
    where: bool [M], queries that count; keys_where: bool [N], nodes that are no padding.
    reduce: 'sum' as in the authors' code, or 'mean'.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit, or reduce is neither.

  Reference: HypeBoy (https://arxiv.org/abs/2404.00638), equation 4. Equals
  `related_tool.return_loss` of the authors' code.
  """
  check_shape('queries', queries, ('M', 'D'))
  check_shape('keys', keys, ('N', queries.shape[1]))
  check_shape('node', node, (len(queries),))
  if reduce not in ('sum', 'mean'):
    raise InputError(f"reduce is {reduce!r}, wanted 'sum' or 'mean'")
  q, k = _direction(queries), _direction(keys)
  scores = jnp.einsum('md,nd->mn', q, k, precision=lax.Precision.HIGHEST)
  if keys_where is not None:
    scores = jnp.where(keys_where, scores, -1e30)
  terms = jax.nn.logsumexp(scores, axis=1) - jnp.sum(q * k[node], -1)
  if reduce == 'mean':
    return masked_mean(terms, where)
  return jnp.sum(terms if where is None else jnp.where(where, terms, 0))


def vgae(positive, negative, mean, log_std, *, where=None, where_negative=None, nodes=None):
  """VGAE: edges from inner products, and how far the codes are from a standard normal.

    mean of softplus(-s) over edges + mean of softplus(s) over other pairs
      + (1 / N) mean over nodes of  -1/2 sum (1 + 2 log std - mean^2 - std^2)

  Args:
    positive: [E], logits of edges; negative: [M], of other pairs, as many.
    mean, log_std: [N, D], of the nodes' codes.
    where, where_negative, nodes: bool [E], [M] and [N], what counts; None for all.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit.

  Reference: Kipf & Welling 2016 (https://arxiv.org/abs/1611.07308), Section 2. Weighed as
  `VGAE` of PyTorch Geometric, with a sampled pair for each edge in place of all N^2.
  """
  check_shape('log_std', log_std, mean.shape)
  edges = bandana(positive, negative, where=where, where_negative=where_negative)
  mean, log_std = as_float(mean), as_float(log_std)
  kl = -0.5 * jnp.sum(1 + 2 * log_std - mean**2 - jnp.exp(2 * log_std), axis=1)
  count = len(mean) if nodes is None else jnp.maximum(jnp.sum(nodes), 1)
  return edges + masked_mean(kl, nodes) / count


def cluster_sharpening(z, centroids, *, where=None):
  """DEC: soft assignments become like their own sharpened form.

    q_ij ~ (1 + |z_i - c_j|^2)^-1,  p_ij ~ q_ij^2 / sum_i q_ij,  mean over i of KL(p_i || q_i)

  p is a constant. 0 where assignments are certain or all equal: it sharpens clusters that are there
  and is not meant to stand alone.

  Args:
    z: [N, D]. centroids: [K, D]. where: bool [N], rows that count.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit.

  Reference: Xie et al. 2016 (https://arxiv.org/abs/1511.06335), Section 3.1.
  """
  check_shape('z', z, ('N', 'D'))
  check_shape('centroids', centroids, ('K', z.shape[1]))
  z, centroids = as_float(z), as_float(centroids)
  distance = jnp.sum((z[:, None] - centroids[None]) ** 2, -1)
  q = 1 / (1 + distance)
  q = q / jnp.sum(q, 1, keepdims=True)
  rows = jnp.ones(len(z), q.dtype) if where is None else where.astype(q.dtype)
  p = q**2 / jnp.maximum(jnp.sum(q * rows[:, None], 0), 1e-12)
  p = lax.stop_gradient(p / jnp.sum(p, 1, keepdims=True))
  return masked_mean(jnp.sum(p * (jnp.log(p + 1e-12) - jnp.log(q + 1e-12)), 1), where)
