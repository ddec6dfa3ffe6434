"""Noise-contrastive estimation against a memory bank with one row for each example."""

import jax
import jax.numpy as jnp
from jax import lax

from ssljax.losses._contrastive import check_positive
from ssljax.losses._logsumexp import map_rows
from ssljax.losses._redundancy import batch_mean
from ssljax.ops import as_float, check_shape, dots, l2_normalize

FLOAT32_EPS = 2.0**-23


def nce(
  z, bank, candidates, *, normalizer, temperature=0.07, eps=1e-7, chunk_size=None, axis_name=None
):
  """NCE with a memory bank, the loss of instance discrimination: which memory is one's own?

  With w_0 the memory of example i, w_1 .. w_M those of noise, N the rows of the bank, and
  p_j = exp(z_i . w_j / T) / Z:
    mean over i of  -log( p_0 / (p_0 + M/N + eps) ) - sum_{j > 0} log( (M/N) / (p_j + M/N + eps) )

  The bank gets no gradient. Constant embeddings cannot tell their own memory from noise: with Z
  right, p = 1/N everywhere and the loss is (M + 1) log(M + 1) - M log M.

  Args:
    z: [B, D] at length one; it is taken as it is.
    bank: [N, D], the memories at length one.
    candidates: int [B, 1 + M], rows of the bank: the example's own first, then noise drawn evenly,
      with replacement.
    normalizer: Z, a scalar; see `nce_normalizer`.
    temperature: T.
    eps: 1e-7 in the authors' code.
    chunk_size: examples whose [1 + M, D] memories are held at a time, computed again for the
      gradient.
    axis_name: of `pmap` or `shard_map`, if z and candidates are one device's shares (see
      `ssljax.losses`); every device has the whole bank.

  Returns:
    The scalar loss of the global batch.

  Raises:
    InputError: a shape does not fit; temperature or chunk_size is not positive.

  Reference: Wu et al. (https://arxiv.org/abs/1805.01978), Section 3.2, equations 5 to 7. Equals
  `NCEFunction` and `NCECriterion` of the authors' code.
  """
  _check(z, bank, candidates)
  check_positive(temperature=temperature, chunk_size=chunk_size)
  noise = (candidates.shape[1] - 1) / len(bank)
  z, w = as_float(z), lax.stop_gradient(as_float(bank))
  log_z = jnp.log(lax.stop_gradient(as_float(normalizer)))

  def row_losses(rows):
    z, candidates = rows
    # The log of p_j over the noise's share: the loss is that of a logistic regression on it.
    logits = _products(z, w, candidates) / temperature - log_z - jnp.log(noise + eps)
    missed = jax.nn.softplus(logits[:, 1:]) + jnp.log1p(eps / noise)
    return jax.nn.softplus(-logits[:, 0]) + missed.sum(1)

  loss = map_rows(row_losses, (z, candidates), chunk_size)
  return batch_mean(loss.sum(), loss, axis_name)


def nce_normalizer(
  z, bank, candidates, normalizer, *, temperature=0.07, chunk_size=None, axis_name=None
):
  """Z of `nce`: as given, or if that is negative N times the mean of exp(z_i . w_j / T).

  So it is estimated from the first batch and kept: give -1 at first and the result ever after. The
  mean is over all candidates, noise or not.

  Args:
    z, bank, candidates, temperature, chunk_size, axis_name: as of `nce`.
    normalizer: Z of the step before, a scalar; negative for none yet.

  Returns:
    Z, a scalar without a gradient.

  Raises:
    InputError: a shape does not fit; temperature or chunk_size is not positive.

  Reference: Wu et al. (https://arxiv.org/abs/1805.01978), Section 3.2, equation 8, as `NCEFunction`
  of the authors' code does it.
  """
  _check(z, bank, candidates)
  check_positive(temperature=temperature, chunk_size=chunk_size)
  z, w = lax.stop_gradient((as_float(z), as_float(bank)))
  given = lax.stop_gradient(jnp.asarray(normalizer, z.dtype))

  def row_means(rows):
    z, candidates = rows
    return jnp.exp(_products(z, w, candidates) / temperature).mean(1)

  def estimate():
    means = map_rows(row_means, (z, candidates), chunk_size)
    return len(w) * batch_mean(means.sum(), means, axis_name)

  return lax.cond(given < 0, estimate, lambda: given)


def pirl(
  patches, image, bank, candidates, *, normalizer, temperature=0.07, weights=(0.5, 0.5),
  eps=FLOAT32_EPS, chunk_size=None, axis_name=None,
):  # fmt: skip
  """PIRL: an image and its shuffled patches both find the memory of the image.

  With x' = x at length one and c = candidates:
    weights[0] nce(patches', bank, c[:, 0]) + weights[1] nce(image', bank, c[:, 1])

  Args:
    patches: [B, D], embeddings of the shuffled patches, of any length; image: [B, D], of the image.
    bank: [N, D], the images' memories at length one.
    candidates: int [B, 2, 1 + M], rows of the bank for the patches and for the image: the example's
      own first, then noise.
    normalizer: Z; the authors take that of the patches, `nce_normalizer(patches', bank,
      candidates[:, 0], -1)`, for both terms.
    temperature: T.
    weights: 1 - lambda and lambda of the paper, 1/2 both.
    eps: the spacing of float32 at 1, as in the authors' code.
    chunk_size, axis_name: as of `nce`.

  Returns:
    The scalar loss of the global batch; for constant embeddings that of `nce`.

  Raises:
    InputError: a shape does not fit; temperature or chunk_size is not positive.

  Reference: PIRL (https://arxiv.org/abs/1912.01991), Section 3, equations 3 to 5. Equals
  `NCELossWithMemory` of the authors' VISSL, which takes the NCE of instance discrimination where
  the paper's h has the sum over the negatives of that very example in place of Z.
  """
  check_shape('patches', patches, ('B', 'D'))
  check_shape('image', image, patches.shape)
  check_shape('candidates', candidates, (len(patches), 2, '1 + M'))

  def term(z, candidates):
    return nce(
      l2_normalize(as_float(z)), bank, candidates, normalizer=normalizer, temperature=temperature,
      eps=eps, chunk_size=chunk_size, axis_name=axis_name,
    )  # fmt: skip

  return weights[0] * term(patches, candidates[:, 0]) + weights[1] * term(image, candidates[:, 1])


def _products(z, bank, candidates):
  return dots('bd,bmd->bm', z, bank[candidates])


def _check(z, bank, candidates):
  check_shape('z', z, ('B', 'D'))
  check_shape('bank', bank, ('N', z.shape[1]))
  check_shape('candidates', candidates, (len(z), '1 + M'))
