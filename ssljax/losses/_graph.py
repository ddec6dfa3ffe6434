"""Contrastive losses of nodes and graphs. `where` [N] marks the rows that are no padding."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.errors import InputError
from ssljax.losses._contrastive import check_positive, unit, view_logits
from ssljax.losses._logsumexp import EXCLUDED, over_others
from ssljax.ops import as_float, check_shape, masked_mean


def _dots(q, k):
  return jnp.einsum('id,jd->ij', q, k, precision=lax.Precision.HIGHEST)


def _check_several(name, graphs):
  if len(graphs) < 2:
    raise InputError(f'{name} has {len(graphs)} graph, wanted at least 2 to tell apart')


def grace(z1, z2, *, temperature=0.5, where=None, chunk_size=None):
  """GRACE: each node finds itself in the other view among all nodes of both.

  With u_i and v_i the embeddings of node i at length one, and s(a, b) = exp(a . b / T):
    mean over i, both ways, of
      -log( s(u_i, v_i) / (sum_k s(u_i, v_k) + sum_{k != i} s(u_i, u_k)) )

  Without `where` that is `nt_xent`. The value is ln(2N - 1) when all embeddings are equal.

  Args:
    z1: [N, D], projected nodes of one view, of any length; z2: [N, D], of the other.
    temperature: T; 0.4 to 0.9 in the paper, by data set.
    where: bool [N], the real nodes; None for all.
    chunk_size: rows of similarities held at a time, and made again for the gradient: equal, with
      memory linear in N.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit, or temperature or chunk_size is not positive.

  Reference: GRACE (https://arxiv.org/abs/2006.04131), Section 3.2, equations 1 and 2. Equals
  `Model.loss` of the authors' code.
  """
  padding = 0
  if where is not None:
    z1, z2 = (jnp.where(where[:, None], as_float(z), 0) for z in (z1, z2))
    padding = jnp.sum(~where)
  positive, others = view_logits(z1, z2, temperature, chunk_size)
  if where is not None:
    # Rows of zeros have products of 0 with all: they added exp(0) each, twice.
    extra = jnp.log(jnp.maximum(2.0 * padding, 1e-30).astype(others.dtype))
    others = others + jnp.log1p(-jnp.exp(jnp.minimum(extra - others, -1e-6)))
  return masked_mean(jnp.mean(jax.nn.softplus(others - positive[:, None]), 1), where)


def graphcl(z1, z2, *, temperature=0.2, where=None):
  """GraphCL: each graph finds its other view among those of all other graphs.

  With u and v at length one:
    mean over i of  -log( exp(u_i . v_i / T) / sum_{j != i} exp(u_i . v_j / T) )

  The positive is not in the denominator, so the loss can be negative, and only the first view asks,
  both as in the authors' code. Constant embeddings score ln(N - 1).

  Args:
    z1: [N, D], projected graphs of one view, of any length; z2: [N, D], of the other.
    temperature: T; 0.2 in the code for TU data sets, 0.1 for transfer, 0.5 in the paper.
    where: bool [N], graphs that count; None for all.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit, there are fewer than two graphs, or temperature is not positive.

  Reference: GraphCL (https://arxiv.org/abs/2010.13902), Section 3.2, equation 3. Equals
  `simclr.loss_cal` of the authors' `unsupervised_TU`.
  """
  check_shape('z1', z1, ('N', 'D'))
  check_shape('z2', z2, z1.shape)
  _check_several('z1', z1)
  check_positive(temperature=temperature)
  u, v = unit(as_float(z1), temperature), unit(as_float(z2), temperature)
  ids, scores = jnp.arange(len(u)), None
  if where is not None:
    scores = lambda q, k: jnp.where(where, _dots(q, k), EXCLUDED)  # noqa: E731
  return masked_mean(over_others(u, ids, v, ids, None, scores) - jnp.sum(u * v, -1), where)


def dgi(positive, negative, *, where=None):
  """DGI: a discriminator tells nodes of the graph from nodes of a corrupted one.

    mean of softplus(-s) over positive scores and softplus(s) over negative ones, half each

  ln 2 where the discriminator knows nothing, as with constant embeddings.

  Args:
    positive: [N, ...], logits of (node, summary) pairs that belong together; negative: the same
      shape, of corrupted nodes.
    where: bool [N], the real nodes; None for all.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit.

  Reference: DGI (https://arxiv.org/abs/1809.10341), equation 1; with two views' columns side by
  side, the node loss of MVGRL (https://arxiv.org/abs/2006.05582).
  """
  check_shape('negative', negative, jnp.shape(positive))
  terms = jax.nn.softplus(-as_float(positive)) + jax.nn.softplus(as_float(negative))
  return masked_mean(terms.reshape(len(terms), -1).mean(1) / 2, where)


def _jsd(scores, positive, counted=None):
  """(expectation over positives summed, over negatives summed) of the Jensen-Shannon bound."""
  log2 = jnp.log(jnp.asarray(2.0, scores.dtype))
  gain = log2 - jax.nn.softplus(-scores)
  cost = jax.nn.softplus(-scores) + scores - log2
  weight = 1.0 if counted is None else counted[:, None]
  return jnp.sum(gain * positive * weight), jnp.sum(cost * (1 - positive) * weight)


def local_global(nodes, graphs, graph_of_node, *, where=None):
  """Nodes know their own graph's summary from those of other graphs, by a Jensen-Shannon bound.

  With s = node . graph:  E_other[softplus(-s) + s - ln 2] - E_own[ln 2 - softplus(-s)]

  The first mean is over N (G - 1) pairs, the second over N. 0 for scores of 0; minimal for high
  scores of own pairs and low ones of others.

  Args:
    nodes: [N, D]. graphs: [G, D]. graph_of_node: int [N], 0 to G - 1.
    where: bool [N], the real nodes; None for all.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit, or there are fewer than two graphs.

  Reference: InfoGraph (https://arxiv.org/abs/1908.01000), equation 3, and MVGRL
  (https://arxiv.org/abs/2006.05582). Equals `local_global_loss_` of the authors' codes, measure
  JSD.
  """
  check_shape('nodes', nodes, ('N', 'D'))
  check_shape('graphs', graphs, ('G', nodes.shape[1]))
  _check_several('graphs', graphs)
  scores = _dots(as_float(nodes), as_float(graphs))
  own = (graph_of_node[:, None] == jnp.arange(len(graphs))).astype(scores.dtype)
  rows = jnp.ones(len(nodes), scores.dtype) if where is None else where.astype(scores.dtype)
  gain, cost = _jsd(scores, own, rows)
  count = jnp.maximum(jnp.sum(rows), 1)
  return cost / (count * (len(graphs) - 1)) - gain / count


def global_global(first, second):
  """Summaries of a graph's two views know each other, by the bound of `local_global`.

  With s = first . second:  E_other[softplus(-s) + s - ln 2] - E_own[ln 2 - softplus(-s)]

  The first mean is over G (G - 1) pairs, the second over G. 0 for scores of 0.

  Args:
    first: [G, D], summaries of one view; second: [G, D], of the other.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit, or there are fewer than two graphs.

  Reference: MVGRL's code (https://arxiv.org/abs/2006.05582), `global_global_loss_`, measure JSD.
  """
  check_shape('first', first, ('G', 'D'))
  check_shape('second', second, first.shape)
  _check_several('first', first)
  scores = _dots(as_float(first), as_float(second))
  gain, cost = _jsd(scores, jnp.eye(len(first), dtype=scores.dtype))
  return cost / (len(first) * (len(first) - 1)) - gain / len(first)


def weighted_info_nce(queries, keys, positive, negative, *, temperature=0.5, where=None):
  """InfoNCE with a weight for each pair: meta-path contexts of MEOW, influence of SCGC.

  With s_ij = exp(cos(q_i, k_j) / T):
    mean over i of  -log( sum_j p_ij s_ij / sum_j (p_ij + n_ij) s_ij )

  Constant embeddings score ln of all weights over the positive ones.

  Args:
    queries, keys: [N, D] and [M, D], of any length.
    positive, negative: [N, M], weights at least 0, constants; each row of `positive` has some.
    temperature: T.
    where: bool [N], rows that count; None for all.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit or temperature is not positive.

  References: MEOW (https://arxiv.org/abs/2212.13847), equation 7; SCGC
  (https://arxiv.org/abs/2204.12656), equation 5.
  """
  check_shape('queries', queries, ('N', 'D'))
  check_shape('keys', keys, ('M', queries.shape[1]))
  for name, weights in (('positive', positive), ('negative', negative)):
    check_shape(name, weights, (len(queries), len(keys)))
  check_positive(temperature=temperature)
  scores = _dots(unit(as_float(queries), temperature), unit(as_float(keys), temperature))
  log = functools.partial(jax.nn.logsumexp, scores, axis=1)
  return masked_mean(log(b=positive + negative) - log(b=positive), where)


def skip_gram(center, context, negatives, *, where=None):
  """Skip-gram with negative sampling: nodes of one walk tell each other from random nodes.

    mean over pairs of  softplus(-c . x) + sum over negatives of softplus(c . n)

  (1 + K) ln 2 where all dot products are 0.

  Args:
    center: [B, D], vectors of the walk's nodes. context: [B, D], of nodes near them.
    negatives: [B, K, D], of random nodes, by frequency to the power 3/4 in word2vec.
    where: bool [B], pairs that count; None for all.

  Returns:
    A scalar.

  Raises:
    InputError: shapes do not fit.

  Reference: Mikolov et al. 2013 (https://arxiv.org/abs/1310.4546), equation 4.
  """
  check_shape('center', center, ('B', 'D'))
  check_shape('context', context, center.shape)
  check_shape('negatives', negatives, (center.shape[0], 'K', center.shape[1]))
  center, context, negatives = as_float(center), as_float(context), as_float(negatives)
  near = jax.nn.softplus(-jnp.sum(center * context, -1))
  far = jax.nn.softplus(jnp.einsum('bd,bkd->bk', center, negatives, precision='highest'))
  return masked_mean(near + jnp.sum(far, 1), where)
