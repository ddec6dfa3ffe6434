"""Heads of methods on graphs."""

import flax.linen as nn
import jax.numpy as jnp

from ssljax.net import Net, from_linen


def bilinear() -> Net:
  """(nodes [P, N, D], summaries [P, G, D]) -> logits [P, N, G] = nodes W summaries + b."""
  return from_linen(Bilinear())


def edge_mlp(hidden: int) -> Net:
  """(one end [..., D], other end [..., D]) -> logits [...]: an MLP of their product (Hadamard)."""
  return from_linen(EdgeMlp(hidden))


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
