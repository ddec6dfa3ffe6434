"""What can be said of features without a label: rank, spectrum, spread, collapse.

Pure functions of arrays, each compiled once for a shape. Computed in float32, or in float64 if that
comes in.
"""

import functools
import math

import jax
import jax.numpy as jnp


def _real(x, name, *axes):
  x = jnp.asarray(x)
  if x.ndim != len(axes) or 0 in x.shape:
    raise ValueError(f'{name}: shape {x.shape} seen, [{", ".join(axes)}] wanted, none of them 0')
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _unit(x):
  return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-24))


@jax.jit
def singular_values(x):
  """Singular values of x [N, D], largest first, without centring -> [min(N, D)]."""
  return jnp.linalg.svd(_real(x, 'x', 'N', 'D'), compute_uv=False)


@functools.partial(jax.jit, static_argnames=('eps',))
def rankme(x, eps: float = 1e-7):
  """Effective rank of the features: 1 when they lie on a line, min(N, D) at the most.

  exp(-sum_k p_k log p_k),  p_k = s_k / sum_j s_j + eps,  s the singular values of x

  x [N, D] is not centred and p is not normalised again after eps.
  Garrido et al. 2023 (RankMe), equations 2 and 3.
  """
  s = singular_values(x)
  p = s / jnp.maximum(jnp.sum(s), jnp.finfo(s.dtype).tiny) + eps
  return jnp.exp(-jnp.sum(p * jnp.log(p)))


@functools.partial(jax.jit, static_argnames=('delta', 'eps'))
def lidar(views, delta: float = 1e-4, eps: float = 1e-8):
  """Effective rank of what tells inputs apart, over what their views disagree in.

  Sb = sum_i (m_i - m)(m_i - m)^T / (n - 1),  Sw = sum_iv (x_iv - m_i)(x_iv - m_i)^T / (n (q - 1))
  l = eigenvalues of (Sw + delta I)^-1/2 Sb (Sw + delta I)^-1/2,  p = (l + eps) / sum(l + eps)
  exp(-sum_k p_k log p_k)

  p follows the public code; the paper adds eps after normalising. Features that are exactly equal
  have l = 0 and score D: look at feature_std too.

  Args:
    views: [n, q, D], q views of each of n inputs; m_i is the mean of an input's views, m of all.
    delta: added to the within-input covariance.
    eps: added to the eigenvalues.

  Raises:
    ValueError: views is not [n, q, D] with n and q at least 2.

  Thilak et al. 2023 (LiDAR), section 4.
  """
  x = _real(views, 'views', 'n', 'q', 'D')
  n, q, d = x.shape
  if n < 2 or q < 2:
    raise ValueError(f'views: shape {x.shape} seen, at least 2 inputs of 2 views wanted')
  centre = jnp.mean(x, 1)
  between = centre - jnp.mean(centre, 0)
  within = (x - centre[:, None]).reshape(n * q, d)
  s_within = _gram(within) / (n * (q - 1)) + delta * jnp.eye(d, dtype=x.dtype)
  # L^-1 Sb L^-T has the eigenvalues of the symmetric form and needs one factorisation.
  white = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(s_within), between.T, lower=True)
  eigenvalues = jnp.maximum(jnp.linalg.eigvalsh(_gram(white.T) / (n - 1)), 0)
  p = (eigenvalues + eps) / jnp.sum(eigenvalues + eps)
  return jnp.exp(-jnp.sum(p * jnp.log(p)))


def _gram(x):
  return jnp.matmul(x.T, x, precision='highest')


@functools.partial(jax.jit, static_argnames=('first', 'last'))
def alpha_req(x, first: int = 4, last: int = 100):
  """Exponent a of the power law l_j ~ j^-a that the covariance's eigenvalues follow.

  a = -slope of log l_j on log j by least squares, weight 1 / j, over ranks first <= j <= last

  Weights and ranks are those of the authors' code (the ranks by hand: the head of the spectrum is
  no power law). Eigenvalues lost in rounding are left out; NaN if fewer than two remain.

  Args:
    x: [N, D]; its mean is removed.
    first: lowest rank, 1 being the largest eigenvalue.
    last: highest rank, at most min(N - 1, D) is used.

  Agrawal et al. 2022 (alpha-ReQ), after Stringer et al. 2019.
  """
  x = _real(x, 'x', 'N', 'D')
  s = singular_values(x - jnp.mean(x, 0))[: min(x.shape[0] - 1, x.shape[1])]
  rank = jnp.arange(1, s.size + 1, dtype=x.dtype)
  noise = jnp.max(s, initial=0) * max(x.shape) * jnp.finfo(x.dtype).eps
  used = (rank >= first) & (rank <= last) & (s > noise)
  weight = jnp.where(used, 1 / rank, 0)
  weight = weight / jnp.sum(weight)
  log_rank, log_l = jnp.log(rank), 2 * jnp.log(jnp.where(used, s, 1))
  log_rank = log_rank - jnp.sum(weight * log_rank)
  slope = jnp.sum(weight * log_rank * log_l) / jnp.sum(weight * log_rank**2)
  return jnp.where(jnp.sum(used) >= 2, -slope, jnp.nan)


@functools.partial(jax.jit, static_argnames=('alpha',))
def alignment(views, alpha: float = 2.0):
  """Mean distance between the views of an input; 0 when the features ignore the augmentation.

  mean over inputs and pairs v < w of |f_v - f_w|^alpha,  f L2-normalised

  views is [n, q, D] with q at least 2 (else ValueError). Wang & Isola 2020, equation 9.
  """
  x = _unit(_real(views, 'views', 'n', 'q', 'D'))
  if x.shape[1] < 2:
    raise ValueError(f'views: shape {x.shape} seen, at least 2 views wanted')
  v, w = jnp.triu_indices(x.shape[1], 1)
  squared = jnp.sum((x[:, v] - x[:, w]) ** 2, -1)
  return jnp.mean(squared ** (alpha / 2))


@functools.partial(jax.jit, static_argnames=('t', 'chunk'))
def uniformity(x, t: float = 2.0, chunk: int = 1024):
  """How evenly the features cover the sphere: 0 when all are equal, lower is more even.

  log mean over pairs i < j of exp(-t |f_i - f_j|^2),  f the L2-normalised rows of x [N, D]

  Works on `chunk` rows at a time, so memory is linear in N. N is at least 2 (else ValueError).
  Wang & Isola 2020, equation 10.
  """
  x = _unit(_real(x, 'x', 'N', 'D'))
  n = len(x)
  if n < 2:
    raise ValueError(f'x: shape {x.shape} seen, at least 2 rows wanted')
  count = math.ceil(n / chunk)
  rows = math.ceil(n / count)
  blocks = jnp.pad(x, ((0, count * rows - n), (0, 0))).reshape(count, rows, -1)

  def log_sum(arguments):
    start, block = arguments
    i, j = start + jnp.arange(rows)[:, None], jnp.arange(n)
    cosine = jnp.matmul(block, x.T, precision='highest')
    return jax.nn.logsumexp(2 * t * (cosine - 1), where=i < j)

  # Rows of length 1, so |f_i - f_j|^2 = 2 - 2 cos; the last row has no j and gives exp(-inf) = 0.
  total = jax.nn.logsumexp(jax.lax.map(log_sum, (rows * jnp.arange(count), blocks)))
  return total - math.log(n * (n - 1) / 2)


@jax.jit
def feature_std(x):
  """Spread of the L2-normalised rows of x [N, D]: 1 / sqrt(D) when even, 0 when collapsed.

  mean over d of std_i(f_id),  biased.  Chen & He 2021 (SimSiam), section 4.1.
  """
  return jnp.mean(jnp.std(_unit(_real(x, 'x', 'N', 'D')), axis=0))
