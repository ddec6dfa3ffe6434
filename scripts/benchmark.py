"""Times what the README claims to be fast, each as a ratio measured in one run.

  python scripts/benchmark.py --out=results/benchmark_cpu.json [--only=convolution,views,...]

Every part runs in a process of its own, so that the memory it needs is its own.
"""

import argparse
import functools
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import benchmark_gpu
import benchmark_graphs
import benchmark_vit

ROOT = pathlib.Path(__file__).resolve().parent.parent


def best_of(function, repeat):
  """Seconds of the fastest call; the first, which compiles, is not counted."""
  import jax

  jax.block_until_ready(function())
  times = []
  for _ in range(repeat):
    begun = time.perf_counter()
    jax.block_until_ready(function())
    times.append(time.perf_counter() - begun)
  return min(times)


def in_turns(first, second, repeat):
  """[(seconds of a call of each)], called in turns: what slows a machine slows both."""
  import jax

  times = []
  for _ in range(repeat + 1):
    pair = []
    for function in (first, second):
      begun = time.perf_counter()
      jax.block_until_ready(function())
      pair.append(time.perf_counter() - begun)
    times.append(pair)
  return times[1:]


def resnet_step(conv, batch, micro_batches=1, name='resnet18', **options):
  """() -> gradient of a ResNet on [batch, 32, 32, 3], with the CIFAR stem if not told otherwise."""
  import jax
  import jax.numpy as jnp

  from ssljax import models

  config = models.get_config(name)
  config.update({'stem': 'cifar', 'conv': conv, **options})
  net = models.make(config, dtype=jnp.float32)
  x = jax.random.normal(jax.random.key(0), (micro_batches, batch // micro_batches, 32, 32, 3))
  params, state = jax.jit(net.init)(jax.random.key(1), x[0])

  def gradient(params, x):
    def loss(params):
      return (net.apply(params, state, x, train=True)[0]['features'] ** 2).mean()

    return jax.grad(loss)(params)

  @jax.jit
  def step(params):
    if micro_batches == 1:
      return gradient(params, x[0])
    zero = jax.tree.map(jnp.zeros_like, params)

    def add(total, rows):
      return jax.tree.map(jnp.add, total, gradient(params, rows)), None

    return jax.lax.scan(add, zero, x)[0]

  return lambda: step(params)


def resnet_flops(batch):
  """XLA's count of the forward pass of ResNet-18 (CIFAR stem), and twice that for the gradient."""
  import jax
  import jax.numpy as jnp

  from ssljax import models

  config = models.get_config('resnet18')
  config.update(stem='cifar', conv='xla')
  net = models.make(config, dtype=jnp.float32)
  x = jax.ShapeDtypeStruct((batch, 32, 32, 3), jnp.float32)
  params, state = jax.eval_shape(net.init, jax.random.key(0), x)

  def forward(params, state, x):
    return net.apply(params, state, x, train=False)[0]['features']

  return 3 * jax.jit(forward).lower(params, state, x).compile().cost_analysis()['flops']


def convolution(batch=64, repeat=3, few=8):
  """ResNet-18 forward and backward with our convolution against the same with the ordinary one."""
  import jax
  import jax.numpy as jnp

  ours = best_of(resnet_step('auto', batch), repeat)
  flax = best_of(resnet_step('xla', batch), repeat)
  ours_in_loop = best_of(resnet_step('auto', few, 2), repeat)
  flax_in_loop = best_of(resnet_step('xla', few, 2), 1)
  small = dict(name='resnet10', stem='small', width=16)
  ours_small, flax_small = (best_of(resnet_step(c, 256, **small), repeat) for c in ('auto', 'xla'))
  a = jnp.ones((2048, 2048))
  product = jax.jit(jnp.dot)
  matmul = 2 * 2048**3 / best_of(lambda: product(a, a), 10)
  return {
    'what': f'ResNet-18 (CIFAR stem), forward and backward, batch {batch}: our convolution against '
    "flax's ordinary one, whose kernel's gradient is a convolution too; as 2 micro-batches in a "
    f'loop, batch {few}; and '
    "ResNet-10 of the presets 'tiny', batch 256, which ends in maps of 2x2 pixels",
    'seconds': ours,
    'seconds_ordinary': flax,
    'speedup': flax / ours,
    'gflops_per_second': resnet_flops(batch) / ours / 1e9,
    'gflops_per_second_of_a_matmul': matmul / 1e9,
    'speedup_in_loop': flax_in_loop / ours_in_loop,
    'speedup_tiny': flax_small / ours_small,
    'wanted': 'speedup >= 3',
  }


def views(batch=256, part=64, repeat=3):
  """Two SimCLR views of a batch against the ResNet-18 step on them, on one device."""
  import jax
  import numpy as np

  from ssljax.augment import image

  images = np.random.default_rng(0).integers(0, 255, (batch, 32, 32, 3), np.uint8)
  colours = {'jitter': (0.8, 0.8, 0.8, 0.2), 'jitter_prob': 0.8, 'grayscale_prob': 0.2}
  make = image.make(image.get_config(32, blur_prob=0.5, **colours))
  seconds = best_of(lambda: make(jax.random.key(0), images), repeat)
  step = best_of(resnet_step('auto', part), repeat) * 2 * batch / part
  return {
    'what': f'two SimCLR views (all operations) of {batch} images of 32x32; ResNet-18 forward and '
    f'backward on the {2 * batch} views, timed on {part} and scaled',
    'seconds': seconds,
    'seconds_step': step,
    'share': seconds / step,
    'wanted': 'share < 0.25',
  }


def loop(steps=300):
  """What the loop itself costs: a run whose network is next to nothing, from its own metrics."""
  from ssljax import config, train
  from ssljax.report.metrics import read

  c = config.get_config('simclr,digits')
  c.update(steps=steps, batch_size=8, report=False, log_every=50, checkpoint_every=10**6)
  c.encoder.width, c.method.projector, c.method.views.size = 1, (2, 2), 8
  c.eval.protocols = ()
  with tempfile.TemporaryDirectory() as folder:
    train.train(c, folder)
    lines = [line for line in read(pathlib.Path(folder) / 'metrics.jsonl') if 'loss' in line][2:]
  per_step = min(c.batch_size / line['images_per_second'] for line in lines)
  return {
    'what': 'a whole step of a network of next to nothing, data, dispatch and metrics included: '
    'an upper bound on what the loop adds',
    'seconds_per_step': per_step,
    'data_wait_seconds_per_step': min(line['data_wait_fraction'] for line in lines) * per_step,
    'wanted': 'seconds_per_step < 0.002',
  }


def data_wait():
  """Share of the time in which the quickstart waits for its device-resident data."""
  from ssljax import config, train
  from ssljax.report.metrics import read

  c = config.get_config('simclr,digits')
  c.update(steps=30, report=False)
  c.eval.protocols = ()
  with tempfile.TemporaryDirectory() as folder:
    train.train(c, folder)
    lines = [line for line in read(pathlib.Path(folder) / 'metrics.jsonl') if 'loss' in line]
  return {
    'what': 'quickstart, 30 steps: share of the time waiting for data',
    'share': max(line['data_wait_fraction'] for line in lines),
    'wanted': 'share < 0.05',
  }


def nt_xent_memory(pairs=65536, dim=128, chunk=256):
  """The chunked NT-Xent, value and gradient, at a size whose similarities would take 64 GiB."""
  import jax

  from ssljax import losses

  z1, z2 = jax.random.normal(jax.random.key(0), (2, pairs, dim))

  @jax.jit
  def gradient(z1, z2):
    return jax.value_and_grad(
      lambda *z: losses.nt_xent(*z, temperature=0.1, chunk_size=chunk), argnums=(0, 1)
    )(z1, z2)

  begun = time.perf_counter()
  jax.block_until_ready(gradient(z1, z2))
  seconds = time.perf_counter() - begun
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  return {
    'what': f'NT-Xent of {pairs} pairs of {dim} numbers in chunks of {chunk}, value and gradient, '
    'compiling included',
    'seconds': seconds,
    'peak_memory_bytes': peak,
    'wanted': f'peak_memory_bytes < {3 * 2**30}',
  }


def first_step():
  """From the command to the first line of metrics of the quickstart, compilation cache empty."""
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    command = [
      sys.executable,
      '-m',
      'ssljax.main',
      f'--config={ROOT}/configs/quickstart.py',
      f'--workdir={folder}/run',
      '--config.log_every=1',
    ]
    begun = time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != 'JAX_COMPILATION_CACHE_DIR'}
    process = subprocess.Popen(
      command,
      cwd=ROOT,
      env=environment | {'XDG_CACHE_HOME': str(folder / 'cache')},
      stdout=subprocess.DEVNULL,
    )
    metrics = folder / 'run' / 'metrics.jsonl'
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
      time.sleep(0.05)
    seconds = time.perf_counter() - begun
    if process.poll() is not None:
      raise RuntimeError(f'the quickstart ended with code {process.returncode}')
    process.kill()
    process.wait()
  return {
    'what': 'quickstart, from the command to the first step done, compilation cache empty',
    'seconds': seconds,
    'wanted': 'seconds < 40',
  }


def method_steps(batch=256, repeat=8):
  """A step of each method on images, one encoder and batch, against one of SimCLR's, in turns."""
  import jax
  import numpy as np

  from ssljax import config, methods, program, sharding
  from ssljax.data.source import ArraySource
  from ssljax.methods.image import _pair

  rng = np.random.default_rng(0)
  image = rng.integers(0, 255, (2 * batch, 32, 32, 3), np.uint8)
  source = ArraySource({'image': image, 'label': np.arange(2 * batch, dtype=np.int32) % 10})
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  resident, key = sharding.put_replicated(source.arrays, mesh), sharding.make_key(0, mesh)
  index = sharding.put_batch({'index': np.arange(batch, dtype=np.int32)}, mesh)
  encoder = _pair.TINY_ENCODER['name']

  def config_of(name):
    c = config.get_config(f'{name},digits,preset=tiny')
    c.batch_size = batch
    with c.unlocked():
      if c.encoder.name == encoder:
        c.encoder.update(_pair.TINY_ENCODER)
    return c

  def stepper(name):
    """() -> metrics of one more step; and how many views an image has."""
    made = program.make_program(config_of(name), mesh, source, steps=100)
    state = [made.init(key)]
    compiled = made.step.lower(state[0], index, resident, key).compile()

    def step():
      state[0], metrics = compiled(state[0], index, resident, key)
      return metrics

    spec = program.example_batch(source, batch, labels=True)
    seen = program.with_own_partners(made.method, spec)
    views = jax.eval_shape(made.method.views, key, seen)
    pixels = sum(x.size for x in jax.tree.leaves(views) if x.ndim >= 4 and x.shape[-1] == 3)
    return step, pixels / (batch * 32 * 32 * 3)

  simclr, steps = stepper('simclr')[0], {}
  for name, modality in methods.available().items():
    if modality == 'image' and config_of(name).encoder.name == encoder:
      step, views = stepper(name)
      pairs = in_turns(step, simclr, repeat)
      seconds, reference = (min(column) for column in zip(*pairs, strict=True))
      steps[name] = {
        'seconds': seconds,
        'seconds_simclr': reference,
        'views': views,
        'ratio': seconds / reference,
        'ratio_per_view': seconds / views / (reference / 2),
      }
      jax.clear_caches()
  per_view = {name: s['ratio_per_view' if s['views'] > 2 else 'ratio'] for name, s in steps.items()}
  slow = {name: round(r, 2) for name, r in per_view.items() if r > 1.25}
  return {
    'what': f'a step of each method with {encoder} and batch {batch} against that of SimCLR beside '
    'it, per view where there are more than two' + (f'; above 1.25: {slow}' if slow else ''),
    'largest_ratio': max(per_view.values()),
    'simclr_by_itself': steps['simclr']['ratio'],
    'wanted': 'largest_ratio <= 1.25',
    'steps': steps,
  }


def moco_step(queue_size, batch, width, preset):
  """() -> metrics of one more step of MoCo v2 on random images of 32x32."""
  import jax
  import numpy as np

  from ssljax import config, program, sharding
  from ssljax.data.source import ArraySource

  image = np.random.default_rng(0).integers(0, 255, (batch, 32, 32, 3), np.uint8)
  source = ArraySource({'image': image, 'label': np.zeros(batch, np.int32)})
  c = config.get_config(f'moco_v2,digits,preset={preset}')
  c.batch_size, c.method.queue_size = batch, queue_size
  c.method.projector = (*c.method.projector[:-1], width)
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  resident, key = sharding.put_replicated(source.arrays, mesh), sharding.make_key(0, mesh)
  index = sharding.put_batch({'index': np.arange(batch, dtype=np.int32)}, mesh)
  made = program.make_program(c, mesh, source, steps=100)
  state = [made.init(key)]

  def step():
    state[0], metrics = made.step(state[0], index, resident, key)
    return metrics

  return step


def queue_alone(queue_size, batch, width):
  """() -> queue of MoCo after one more loss, its gradient and a batch of keys."""
  import jax

  from ssljax import losses, ops

  def unit_rows(seed, count):
    return ops.l2_normalize(jax.random.normal(jax.random.key(seed), (count, width)))

  @functools.partial(jax.jit, donate_argnums=0)
  def step(queue, pointer, q, k):
    loss = jax.value_and_grad(losses.moco)(q, k, queue)
    return *ops.enqueue(queue, pointer, k), loss

  q, k = unit_rows(1, batch), unit_rows(2, batch)
  kept = [unit_rows(0, queue_size), 0]

  def again():
    *kept[:], loss = step(*kept, q, k)
    return kept, loss

  return again


def kmeans(rows=100_000, dim=128, clusters=1000, iters=3, repeat=2):
  """Lloyd's iterations against scikit-learn's, from the same centroids."""
  import warnings

  import numpy as np
  from sklearn.cluster import KMeans
  from sklearn.exceptions import ConvergenceWarning

  from ssljax import ops

  x = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)
  init = x[:clusters]
  theirs = KMeans(clusters, algorithm='lloyd', n_init=1, init=init, max_iter=iters, tol=0)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ConvergenceWarning)  # so few iterations are not to converge
    seconds_sklearn = best_of(lambda: theirs.fit(x).labels_, repeat)
  seconds = best_of(lambda: ops.kmeans(x, clusters, init=init, iters=iters), repeat)
  _, assignment = ops.kmeans(x, clusters, init=init, iters=iters)
  return {
    'what': f'k-means of {rows} x {dim} into {clusters} clusters, {iters} iterations, float32, '
    "against scikit-learn's lloyd from the same centroids",
    'seconds': seconds,
    'seconds_sklearn': seconds_sklearn,
    'speedup': seconds_sklearn / seconds,
    'same_clusters': float(np.mean(np.asarray(assignment) == theirs.labels_)),
    'wanted': 'speedup >= 1',
  }


def nearest(keys=100_000, queries=10_000, dim=128, k=20, repeat=2):
  """Exact neighbours against scikit-learn's, by Euclidean distance of vectors of length one."""
  import numpy as np
  from sklearn.neighbors import NearestNeighbors

  from ssljax import ops

  x = np.random.default_rng(0).normal(size=(keys + queries, dim)).astype(np.float32)
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  x, q = x[:keys], x[keys:]
  theirs = NearestNeighbors(n_neighbors=k, algorithm='brute').fit(x)
  seconds_sklearn = best_of(lambda: theirs.kneighbors(q)[1], repeat)
  seconds = best_of(lambda: ops.nearest(q, x, k), repeat)
  same = np.asarray(ops.nearest(q, x, k)[1]) == theirs.kneighbors(q)[1]
  return {
    'what': f'{k} nearest of {queries} queries among {keys} x {dim}, exact, float32, against '
    "scikit-learn's brute force",
    'seconds': seconds,
    'seconds_sklearn': seconds_sklearn,
    'speedup': seconds_sklearn / seconds,
    'same_neighbours': float(same.mean()),
    'wanted': 'speedup >= 1',
  }


def sinkhorn(rows=4096, clusters=3000, repeat=10):
  """The codes of SwAV's ImageNet batch."""
  import jax

  from ssljax import ops

  scores = jax.random.uniform(jax.random.key(0), (rows, clusters), minval=-1)
  codes = jax.jit(ops.sinkhorn)
  return {
    'what': f'sinkhorn of {rows} x {clusters}, 3 rounds',
    'seconds': best_of(lambda: codes(scores), repeat),
    'wanted': 'seconds < 0.05',
  }


def queue(size=65536, small=256, width=128):
  """What a long queue adds to a step of MoCo v2: of ResNet-18 with the paper's batch of 256 and
  with a small one, and of the tiny encoder.

  Two whole steps differ by less than a machine's noise, so what a queue takes is timed by itself.
  Only the tiny encoder's steps are short enough to see the difference in them too.
  """

  def share(preset, batch, repeat):
    seconds = best_of(moco_step(small, batch, width, preset), repeat)
    alone = [best_of(queue_alone(length, batch, width), 10) for length in (size, small)]
    return (alone[0] - alone[1]) / seconds, seconds

  added, seconds = share('cifar', 256, repeat=2)
  pairs = in_turns(*(moco_step(n, 256, width, 'tiny') for n in (size, small)), repeat=16)
  return {
    'what': f'what a queue of {size} x {width} adds to a step of moco_v2 over one of {small}: its '
    'loss, gradient and new keys, timed by themselves, as a share of the step, with ResNet-18 '
    "(CIFAR stem) at the paper's batch of 256, at 64, and with ResNet-10 of the presets tiny at "
    '256; and of the last also as the difference of whole steps',
    'share_added': added,
    'seconds': seconds,
    'share_added_batch_64': share('cifar', 64, repeat=4)[0],
    'share_added_tiny': share('tiny', 256, repeat=8)[0],
    'share_added_tiny_whole_steps': statistics.median(long / short for long, short in pairs) - 1,
    'wanted': 'share_added < 0.05',
  }


ON_CPU = (
  {
    f.__name__: f
    for f in (
      convolution,
      views,
      loop,
      data_wait,
      nt_xent_memory,
      first_step,
      kmeans,
      nearest,
      sinkhorn,
      queue,
      method_steps,
    )
  }
  | benchmark_graphs.PARTS
  | benchmark_vit.PARTS
)
PARTS = ON_CPU | benchmark_gpu.PARTS


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--only', default=','.join(ON_CPU))
  parser.add_argument('--part', choices=PARTS, help='used by the script itself')
  args = parser.parse_args()
  if args.part:
    args.out.write_text(json.dumps(PARTS[args.part]()))
    return
  from ssljax import runtime

  result = json.loads(args.out.read_text()) if args.out.exists() else {'parts': {}}
  with tempfile.TemporaryDirectory() as folder:
    for name in args.only.split(','):
      out = pathlib.Path(folder) / f'{name}.json'
      begun = time.perf_counter()
      subprocess.run(
        [sys.executable, __file__, f'--part={name}', f'--out={out}'], check=True, cwd=ROOT
      )
      found = json.loads(out.read_text()) | {'commit': runtime.commit()}
      result['parts'][name] = found
      print(f'{name} ({time.perf_counter() - begun:.0f} s): {json.dumps(found, indent=1)}')
  devices = sorted({part['device'] for part in result['parts'].values() if 'device' in part})
  result |= {
    'command': 'python scripts/benchmark.py ' + ' '.join(sys.argv[1:]),
    'machine': ', '.join([*devices, platform.machine(), f'{os.cpu_count()} cores']),
    'versions': runtime.versions(),
  }
  args.out.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
  main()
