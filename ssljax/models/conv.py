"""2-D convolution with torch's explicit padding, and gradients that stay fast on CPU.

XLA's CPU backend has one fast convolution: NHWC images, HWIO kernel, NHWC out. It rewrites the
gradients of a convolution to that form only at the top level of a program; inside the body of a
`lax.scan` (gradient accumulation, several steps per call) they run 7 to over 100 times slower. So
on CPU both gradients are written by hand. That of the input has the fast form. That of the kernel
sums over all pixels of the batch, and in this form gets slower by pixel the more there are: it is a
sum of matrix products, each of so few images that their patches stay in cache. On maps of a few
pixels, where a deep network ends, every form is slow (3x3 on 2x2 pixels, 256 channels: 7 GFLOP/s
where a matrix product runs at 190): there a convolution is one matrix over all pixels.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')
PATCH_BYTES = 5 * 2**19  # of patches held at a time: a few cores' second-level cache

# torch's kaiming_normal_(mode='fan_out'), which is not truncated.
kaiming_normal = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


def conv2d_xla(x, w, *, strides, padding):
  """`conv2d` as XLA does it on every platform."""
  return lax.conv_general_dilated(
    x, w, strides, [(p, p) for p in padding], dimension_numbers=DIMENSIONS
  )


def conv2d(x, w, *, strides=(1, 1), padding=(0, 0)):
  """y[n, i, j, o] = sum_{a, b, c} x[n, i s + a - p, j s + b - p, c] w[a, b, c, o].

  Equal to `lax.conv_general_dilated`. Reverse mode only: `conv2d_xla` has forward mode as well.

  x: [N, H, W, C].  w: [h, w, C, O].  strides, padding: a pair, rows and columns.
  """
  return _conv2d(x, w, tuple(strides), tuple(padding))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d(x, w, strides, padding):
  ordinary = functools.partial(conv2d_xla, strides=strides, padding=padding)
  if _is_matmul(w, padding):
    fast = lambda x, w: _subsample(x, strides) @ w[0, 0]  # noqa: E731
  elif _is_small(x, w, strides, padding):
    fast = functools.partial(_conv_small, strides=strides, padding=padding)
  else:
    return ordinary(x, w)
  return lax.platform_dependent(x, w, cpu=fast, default=ordinary)


def _forward(x, w, strides, padding):
  return _conv2d(x, w, strides, padding), (x, w)


def _backward(strides, padding, saved, dy):
  def ordinary(x, w, dy):
    return jax.vjp(functools.partial(conv2d_xla, strides=strides, padding=padding), x, w)[1](dy)

  if _is_matmul(saved[1], padding):
    grads = _matmul_grads
  else:
    grads = _small_grads if _is_small(*saved, strides, padding) else _conv_grads
  fast = functools.partial(grads, strides=strides, padding=padding)
  return lax.platform_dependent(*saved, dy, cpu=fast, default=ordinary)


_conv2d.defvjp(_forward, _backward)


def _is_matmul(w, padding):
  return w.shape[:2] == (1, 1) and padding == (0, 0)


def _is_small(x, w, strides, padding):
  """At most 16 pixels in and 4 out: the whole matrix costs no more than twice its non-zeros."""
  inside = x.shape[1:3]
  outside = [_out_size(*a) for a in zip(inside, w.shape[:2], strides, padding, strict=True)]
  return math.prod(inside) <= 16 and math.prod(outside) <= 4


def _out_size(n, kernel, stride, padding):
  return (n + 2 * padding - kernel) // stride + 1


def _conv_small(x, w, *, strides, padding):
  rows, columns = (
    _taps(n, k, s, p)
    for n, k, s, p in zip(x.shape[1:3], w.shape[:2], strides, padding, strict=True)
  )
  matrix = jnp.einsum('jqb,abco->ajqco', columns.astype(w.dtype), w)
  matrix = jnp.einsum('ipa,ajqco->ijcpqo', rows.astype(w.dtype), matrix)
  *_, p, q, o = matrix.shape
  y = x.reshape(len(x), -1) @ matrix.reshape(-1, p * q * o)
  return y.reshape(len(x), p, q, o)


def _taps(n, kernel, stride, padding):
  """[n, out, kernel]: 1 where an input pixel meets an output pixel under a tap of the kernel."""
  pixel, out, tap = np.ogrid[:n, : _out_size(n, kernel, stride, padding), :kernel]
  return (pixel == out * stride - padding + tap).astype(np.float32)


def _small_grads(x, w, dy, *, strides, padding):
  small = functools.partial(_conv_small, strides=strides, padding=padding)
  return jax.vjp(small, x, w)[1](dy)


def _subsample(x, strides):
  return x[:, :: strides[0], :: strides[1]]


def _matmul_grads(x, w, dy, *, strides, padding):
  dx = dy @ w[0, 0].T
  gaps = [(0, n - (m - 1) * s - 1, s - 1) for n, m, s in _sizes(x, dy, strides)]
  dx = lax.pad(dx, jnp.zeros((), dx.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
  return dx, _kernel_grad(x, w, dy, strides, padding)


def _conv_grads(x, w, dy, *, strides, padding):
  # dx: the flipped kernel over dy with its strides spread out.
  dx = lax.conv_general_dilated(
    dy,
    jnp.flip(w, (0, 1)).transpose(0, 1, 3, 2),
    (1, 1),
    [
      (k - 1 - p, n - r + k - 1)
      for (n, _, _), r, k, p in zip(
        _sizes(x, dy, strides), _reach(w, dy, strides, padding), w.shape[:2], padding, strict=True
      )
    ],
    lhs_dilation=strides,
    dimension_numbers=DIMENSIONS,
  )
  return dx, _kernel_grad(x, w, dy, strides, padding)


def _kernel_grad(x, w, dy, strides, padding):
  """dw = sum of patches^T dy over all images, a few at a time."""
  rows, columns, _, out = w.shape
  patch_bytes = math.prod(dy.shape[1:3]) * math.prod(w.shape[:3]) * x.dtype.itemsize
  count = -(-len(x) // max(1, PATCH_BYTES // patch_bytes))
  size = -(-len(x) // count)

  def split(y):
    # Part b is images b, b + count, ...: devices of a mesh share each, if it has enough of them.
    y = jnp.pad(y, ((0, size * count - len(y)), (0, 0), (0, 0), (0, 0)))
    return y.reshape(size, count, *y.shape[1:])

  reach = _reach(w, dy, strides, padding)
  edges = [(p, r - n, 0) for p, r, n in zip(padding, reach, x.shape[1:3], strict=True)]
  parts = split(x), split(dy)
  dtype = jnp.promote_types(x.dtype, jnp.float32)

  def add(total, b):
    image, d = (lax.dynamic_index_in_dim(y, b, axis=1, keepdims=False) for y in parts)
    image = lax.pad(image, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    high, wide = ((m - 1) * s + 1 for m, s in zip(dy.shape[1:3], strides, strict=True))
    patches = jnp.concatenate(
      [
        _subsample(image[:, i : i + high, j : j + wide], strides)
        for i in range(rows)
        for j in range(columns)
      ],
      axis=-1,
    )
    product = jnp.einsum('nhwc,nhwo->co', patches, d, preferred_element_type=dtype)
    return total + product, None

  total, _ = lax.scan(add, jnp.zeros((math.prod(w.shape[:3]), out), dtype), jnp.arange(count))
  return total.reshape(w.shape).astype(w.dtype)


def _reach(w, dy, strides, padding):
  """How far into the rows and columns of the input the last window reaches; a stride may leave some
  over."""
  return [
    (m - 1) * s + k - p
    for m, s, k, p in zip(dy.shape[1:3], strides, w.shape[:2], padding, strict=True)
  ]


def _sizes(x, dy, strides):
  return list(zip(x.shape[1:3], dy.shape[1:3], strides, strict=True))


class Conv(nn.Module):
  """Convolution of [N, H, W, C] in the dtype of its input, parameters in float32.

  kernel_size, strides, padding: in pixels, the same for rows and columns (as torch's integers).
  conv: 'auto' for `conv2d`, 'xla' for the ordinary convolution on every platform.
  """

  features: int
  kernel_size: int
  strides: int = 1
  padding: int = 0
  use_bias: bool = False
  conv: str = 'auto'

  @nn.compact
  def __call__(self, x):
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    w = self.param('kernel', kaiming_normal, shape).astype(x.dtype)
    convolve = {'auto': conv2d, 'xla': conv2d_xla}[self.conv]
    y = convolve(x, w, strides=(self.strides,) * 2, padding=(self.padding,) * 2)
    if self.use_bias:
      y += self.param('bias', nn.initializers.zeros, (self.features,)).astype(x.dtype)
    return y


class MaxPool(nn.Module):
  """Maximum over windows of [N, H, W, C], padded with nothing; a module, so that it has a name."""

  window: int
  strides: int
  padding: int = 0

  @nn.compact
  def __call__(self, x):
    w, s, p = self.window, self.strides, self.padding
    return nn.max_pool(x, (w, w), (s, s), [(p, p), (p, p)])
