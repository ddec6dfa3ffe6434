"""The parts of scripts/benchmark.py on graphs. What is compared with PyTorch Geometric needs it."""

import importlib.util
import resource
import time

import numpy as np


def random_graph(nodes, edges, seed=0):
  """CSR of an undirected graph whose degrees differ as in real networks."""
  from ssljax.embedding import _graph

  rng = np.random.default_rng(seed)
  heavy = (rng.pareto(2.0, nodes) + 1) ** 0.8
  cumulated = np.cumsum(heavy) / heavy.sum()
  ends = np.searchsorted(cumulated, rng.random((edges, 2)))
  return _graph.from_edges(np.minimum(ends, nodes - 1), nodes)


def walks(nodes=10_312, edges=333_983):
  """Second-order walks on a graph of BlogCatalog's size."""
  from ssljax.embedding import node2vec

  graph = random_graph(nodes, edges)
  begun = time.perf_counter()
  path = node2vec.walks(graph, num_walks=10, length=80, p=0.25, q=0.25)
  return {
    'what': f'node2vec, p = q = 0.25: 10 walks of 80 nodes from each of {nodes:,} nodes with '
    f'{graph.nnz // 2:,} edges',
    'seconds': time.perf_counter() - begun,
    'walks': len(path),
    'wanted': 'seconds < 60',
  }


def fastrp_sizes(nodes=1_000_000, edges=(2_500_000, 5_000_000, 7_500_000, 10_000_000), dim=128):
  """FastRP by the number of edges, and of a graph an eighth as large in all."""
  from ssljax.embedding import fastrp

  def seconds(n, m):
    graph = random_graph(n, m)
    times = []
    for _ in range(2):
      begun = time.perf_counter()
      fastrp.embed(graph, dim)
      times.append(time.perf_counter() - begun)
    return min(times)

  small = seconds(nodes // 8, edges[-1] // 8)
  times = np.array([seconds(nodes, e) for e in edges])
  slope, start = np.polyfit(edges, times, 1)
  return {
    'what': f'FastRP, {dim} dimensions, {nodes:,} nodes, by edges: the lesser of two times',
    **{f'seconds_{e}': s for e, s in zip(edges, times, strict=True)},
    'off_a_straight_line': float(np.abs(start + slope * np.array(edges) - times).max() / times[-1]),
    'seconds_with_an_eighth_of_nodes_and_edges': small,
    'peak_memory_bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    'wanted': f'seconds_{edges[-1]} < 60, peak_memory_bytes < {6 * 2**30}, '
    'off_a_straight_line < 0.1',
  }


def grace_memory(nodes=40_000, dim=128, chunk=256):
  """GRACE's loss of many nodes in blocks."""
  import jax

  from ssljax import losses

  z = [jax.random.normal(jax.random.key(i), (nodes, dim)) for i in (0, 1)]
  step = jax.jit(jax.value_and_grad(lambda a, b: losses.grace(a, b, chunk_size=chunk)))
  begun = time.perf_counter()
  jax.block_until_ready(step(*z))
  return {
    'what': f"GRACE's loss of {nodes:,} nodes of {dim} numbers in blocks of {chunk}, value and "
    'gradient, compiling included',
    'seconds': time.perf_counter() - begun,
    'peak_memory_bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    'wanted': f'peak_memory_bytes < {3 * 2**30} (all pairs at once: {4 * nodes**2 * 4})',
  }


def grace_epoch(nodes=2708, edges=5278, width=1433, repeat=5):
  """A training step of GRACE on a graph of Cora's size, and the same in PyTorch Geometric."""
  import jax

  from ssljax import config, sharding
  from ssljax.data import graphs
  from ssljax.program import make_program

  c = config.get_config('grace,graph,preset=cora')
  rng = np.random.default_rng(0)
  x = (rng.random((nodes, width)) < 0.0127).astype(np.float32)
  pairs = np.stack(random_graph(nodes, edges).nonzero(), 1)
  source = graphs.make(pairs, nodes, x=x).fitted([np.arange(1)], 1)
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  program = make_program(c, mesh, source, steps=100)
  key = sharding.make_key(0, mesh)
  state = program.init(key)
  batch = sharding.put_replicated(source.collate(np.arange(1)), mesh)
  times = []
  for _ in range(repeat + 1):
    begun = time.perf_counter()
    state, metrics = program.step(state, batch, {}, key)
    jax.block_until_ready(metrics['loss'])
    times.append(time.perf_counter() - begun)
  found = {
    'what': f'a step of GRACE on a graph of {nodes:,} nodes, {len(pairs) // 2:,} edges and '
    f'{width:,} features, as Cora has; and the same model in PyTorch Geometric',
    'seconds': min(times[1:]),
    'wanted': 'speedup >= 1',
  }
  if importlib.util.find_spec('torch_geometric'):
    other = min(pyg_grace(x, pairs.T, repeat))
    found |= {'seconds_pyg': other, 'speedup': other / found['seconds']}
  return found


def pyg_grace(x, edge_index, repeat):
  """Seconds of steps of the same model, loss and optimizer in PyTorch Geometric."""
  import torch
  from torch.nn import functional
  from torch_geometric.nn import GCNConv
  from torch_geometric.utils import dropout_edge

  x, edge_index = torch.tensor(x), torch.tensor(edge_index, dtype=torch.long)
  layers = torch.nn.ModuleList([GCNConv(x.shape[1], 256), GCNConv(256, 128)])
  heads = torch.nn.ModuleList([torch.nn.Linear(128, 128), torch.nn.Linear(128, 128)])
  adam = torch.optim.Adam([*layers.parameters(), *heads.parameters()], 5e-4, weight_decay=1e-5)

  def embed(drop_edges, drop_features):
    kept, _ = dropout_edge(edge_index, p=drop_edges)
    h = x * (torch.rand(x.shape[1]) >= drop_features)
    for layer in layers:
      h = torch.relu(layer(h, kept))
    return functional.normalize(heads[1](functional.elu(heads[0](h))))

  def half(u, v):
    inside, between = (torch.exp(u @ w.T / 0.4) for w in (u, v))
    return -torch.log(between.diag() / (inside.sum(1) + between.sum(1) - inside.diag()))

  times = []
  for _ in range(repeat + 1):
    begun = time.perf_counter()
    adam.zero_grad()
    u, v = embed(0.2, 0.3), embed(0.4, 0.4)
    ((half(u, v) + half(v, u)) / 2).mean().backward()
    adam.step()
    times.append(time.perf_counter() - begun)
  return times[1:]


def gin_throughput(graphs_count=1113, nodes=39, batch=128, repeat=200):
  """Forward and backward of a GIN on packed graphs of PROTEINS' size, and in PyTorch Geometric."""
  import jax
  import jax.numpy as jnp

  from ssljax import models
  from ssljax.data import graphs

  rng = np.random.default_rng(0)
  sizes = np.maximum(rng.geometric(1 / nodes, graphs_count), 4)
  offsets = np.concatenate([[0], np.cumsum(sizes)])
  pairs = np.concatenate(
    [rng.integers(0, n, (2 * n, 2)) + start for n, start in zip(sizes, offsets, strict=False)]
  )
  x = np.eye(3, dtype=np.float32)[rng.integers(3, size=offsets[-1])]
  source = graphs.make(pairs, int(offsets[-1]), x=x, offsets=offsets, level='graph')
  index = np.arange(batch)
  made = jax.device_put(source.fitted([index], 1).collate(index))
  c = models.get_config('gin')
  c.update(dim=32, depth=3, jump='concat')
  encoder = models.make(c, dtype=jnp.float32)
  params, state = encoder.init(jax.random.key(0), made)

  @jax.jit
  def step(params):
    return jax.grad(lambda p: (encoder.apply(p, state, made, train=True)[0]['pooled'] ** 2).mean())(
      params
    )

  times = []
  for _ in range(repeat + 1):
    begun = time.perf_counter()
    jax.block_until_ready(step(params))
    times.append(time.perf_counter() - begun)
  found = {
    'what': f'a GIN of 3 layers of 32 on {batch} graphs of {nodes} nodes on average, as PROTEINS '
    'has, forward and backward; and the same in PyTorch Geometric',
    'graphs_per_second': batch / min(times[1:]),
    'wanted': 'speedup >= 1',
  }
  if importlib.util.find_spec('torch_geometric'):
    last = int(offsets[batch])
    inside = source.edges[source.edges[:, 1] < last]
    owner = np.repeat(np.arange(batch), sizes[:batch])
    other = batch / min(pyg_gin(x[:last], inside.T, owner, batch, repeat))
    found |= {'graphs_per_second_pyg': other, 'speedup': found['graphs_per_second'] / other}
  return found


def pyg_gin(x, edge_index, owner, batch, repeat):
  """Seconds of forward and backward of the same network in PyTorch Geometric."""
  import torch
  from torch import nn
  from torch_geometric.nn import GINConv, global_add_pool

  x, owner = torch.tensor(x), torch.tensor(owner)
  edge_index = torch.tensor(edge_index, dtype=torch.long)
  widths = [x.shape[1], 32, 32]
  layers = nn.ModuleList(
    GINConv(nn.Sequential(nn.Linear(w, 32), nn.ReLU(), nn.Linear(32, 32))) for w in widths
  )
  norms = nn.ModuleList(nn.BatchNorm1d(32) for _ in widths)
  times = []
  for _ in range(repeat + 1):
    begun = time.perf_counter()
    h, pooled = x, []
    for layer, norm in zip(layers, norms, strict=True):
      h = torch.relu(norm(layer(h, edge_index)))
      pooled.append(global_add_pool(h, owner, batch))
    (torch.cat(pooled, 1) ** 2).mean().backward()
    times.append(time.perf_counter() - begun)
  return times[1:]


PARTS = {f.__name__: f for f in (walks, fastrp_sizes, grace_memory, grace_epoch, gin_throughput)}
