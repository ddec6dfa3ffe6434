"""Heads of methods on graphs."""

import flax.linen as nn
import jax.numpy as jnp

from ssljax.models.graph_layers import activate
from ssljax.net import Net, from_linen


def bilinear() -> Net:
  """(nodes [P, N, D], summaries [P, G, D]) -> logits [P, N, G] = nodes W summaries + b."""
  return from_linen(Bilinear())


def edge_mlp(hidden: int) -> Net:
  """(one end [..., D], other end [..., D]) -> logits [...]: an MLP of their product (Hadamard)."""
  return from_linen(EdgeMlp(hidden))


def shortcut_mlp(sizes) -> Net:
  """[..., D] -> [..., sizes[-1]]: layers with PReLU behind each, and a linear layer past them."""
  return from_linen(ShortcutMlp(tuple(sizes)))


class Bilinear(nn.Module):
  @nn.compact
  def __call__(self, nodes, summaries, *, train: bool):
    width = nodes.shape[-1]
    weight = self.param('weight', nn.initializers.xavier_uniform(), (width, width))
    bias = self.param('bias', nn.initializers.zeros, ())
    turned = jnp.einsum('pnd,de->pne', nodes, weight.astype(nodes.dtype))
    return jnp.einsum('pne,pge->png', turned, summaries.astype(nodes.dtype)) + bias


class EdgeMlp(nn.Module):
  hidden: int

  @nn.compact
  def __call__(self, first, second, *, train: bool):
    x = nn.relu(nn.Dense(self.hidden, dtype=first.dtype, name='linear_0')(first * second))
    return nn.Dense(1, dtype=x.dtype, name='linear_1')(x)[..., 0].astype(jnp.float32)


class ShortcutMlp(nn.Module):
  sizes: tuple[int, ...]

  @nn.compact
  def __call__(self, x, *, train: bool):
    past = nn.Dense(self.sizes[-1], dtype=x.dtype, name='shortcut')(x)
    for i, size in enumerate(self.sizes):
      x = nn.Dense(size, dtype=x.dtype, name=f'linear_{i}')(x)
      x = activate(self, 'prelu', x, f'act_{i}', train)
    return x + past
