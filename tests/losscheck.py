"""What a family of losses gives to be tested: see cases_*.py, which test_losses.py runs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

BATCH, WIDTH = 16, 12


class Case(NamedTuple):
  """One loss as the suite calls it.

  loss: (*arrays) -> scalar.
  restated: the same in NumPy, as loops or formulas that share nothing with it.
  arrays: float32 (or integer) arrays; the first `trained` of them have a gradient.
  agree: t -> arrays whose views agree more as t goes from 0 to 1; None where no views meet.
  collapsed: () -> arrays of constant embeddings; None for ones in place of every trained array.
  prevented_by: words of the docstring that say why collapse, although a minimum, does not happen.
  permutes: whether every array has a leading axis B whose order does not matter.
  axis_name: whether the loss takes `axis_name`, each array of [B, ...] split over devices; a tuple
    says which arrays are split.
  fixed_targets: whether targets are made of the trained arrays and held fixed, so that the gradient
    is not the value's slope.
  """

  loss: Callable
  restated: Callable
  arrays: tuple
  trained: int
  agree: Callable | None = None
  collapsed: Callable | None = None
  prevented_by: str = ''
  permutes: bool = True
  axis_name: bool | tuple = True
  fixed_targets: bool = False


class Golden(NamedTuple):
  """The authors' numbers for one case: `loss(*arrays)` is a scalar, or (scalar, aux).

  arrays: as in the file; grads: of the first len(grads) of them. aux: a tree for the loss's aux.
  rtol32: how near float32 must come, each array relative to its norm.
  """

  loss: Callable
  arrays: list
  value: Any
  grads: list
  aux: Any = None
  rtol32: float = 1e-5


def unit(z):
  """Rows at length one, in NumPy."""
  return z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-6)


def embeddings(count, seed=0, batch=BATCH, width=WIDTH):
  generator = np.random.default_rng(seed)
  return tuple(generator.normal(size=(batch, width)).astype(np.float32) for _ in range(count))


def second_nears_first(arrays):
  """t -> the arrays with the second moved to the first."""

  def agree(t):
    first, second, *rest = arrays
    return (first, np.float32((1 - t) * second + t * first), *rest)

  return agree


def numpy_cross_entropy(logits, labels):
  """Mean of -log softmax(logits)[label], one row at a time."""
  total = 0.0
  for row, label in zip(logits, labels, strict=True):
    total += np.log(np.exp(row - row.max()).sum()) + row.max() - row[label]
  return total / len(logits)


@functools.cache
def compiled(loss, trained, has_aux=False):
  return jax.jit(jax.value_and_grad(loss, argnums=tuple(range(trained)), has_aux=has_aux))


def value_and_grad(loss, arrays, trained):
  return compiled(loss, trained)(*arrays)


def assert_close(got, wanted, rtol=1e-5, what=''):
  """Trees equal, each leaf relative to its own norm."""
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, what
    np.testing.assert_array_less(np.linalg.norm(a - b), rtol * np.linalg.norm(b) + 1e-12, what)
