"""The parts of scripts/benchmark.py on vision transformers. What is compared with PyTorch needs the
extra [parity]."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent


def in_turns(*functions, repeat):
  """Seconds of the fastest call of each, called in turns; the first calls are not counted."""
  for function in functions:
    function()
  times = [[] for _ in functions]
  for _ in range(repeat):
    for function, seconds in zip(functions, times, strict=True):
      begun = time.perf_counter()
      function()
      seconds.append(time.perf_counter() - begun)
  return [min(seconds) for seconds in times]


def vit_small(batch=16, repeat=5):
  """ViT-small at 224 pixels, forward and backward, and the same in PyTorch."""
  import jax
  import jax.numpy as jnp

  from ssljax import models

  config = models.get_config('vit_small')
  config.update({'patch_size': 16, 'image_size': 224, 'class_token': True})
  net = models.make(config, dtype=jnp.float32)
  image = np.random.default_rng(0).random((batch, 224, 224, 3), np.float32)
  x = jnp.asarray(image)
  params, state = jax.jit(net.init)(jax.random.key(0), x)
  gradient = jax.jit(
    jax.grad(lambda p: (net.apply(p, state, x, train=True)[0]['features'] ** 2).mean())
  )
  found = {
    'what': f'ViT-small/16 at 224 pixels, batch {batch}, forward and backward in float32; and the '
    'same in PyTorch, eager',
    'wanted': 'ratio <= 1.1',
  }
  ours = lambda: jax.block_until_ready(gradient(params))  # noqa: E731
  if not all(importlib.util.find_spec(name) for name in ('torch', 'transformers')):
    return found | {'seconds': in_turns(ours, repeat=repeat)[0]}
  import torch
  from transformers import ViTConfig, ViTModel

  peer = ViTModel(
    ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536),
    add_pooling_layer=False,
  ).train()
  pixels = torch.from_numpy(np.moveaxis(image, -1, 1).copy())

  def theirs():
    peer.zero_grad()
    (peer(pixels).last_hidden_state[:, 0] ** 2).mean().backward()

  seconds, seconds_torch = in_turns(ours, theirs, repeat=repeat)
  sizes = [sum(x.size for x in jax.tree.leaves(params)), sum(p.numel() for p in peer.parameters())]
  return found | {
    'seconds': seconds,
    'seconds_torch': seconds_torch,
    'ratio': seconds / seconds_torch,
    'parameters': sizes[0],
    'parameters_torch': sizes[1],
    'torch': torch.__version__,
  }


def mae_step(batch=16, repeat=3):
  """A step of MAE with the encoder on a quarter of the patches, and on all of them but one."""
  import jax

  from ssljax import config, program, sharding
  from ssljax.data.source import ArraySource

  image = np.random.default_rng(0).integers(0, 255, (2 * batch, 224, 224, 3), np.uint8)
  source = ArraySource({'image': image})
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  resident, key = sharding.put_replicated(source.arrays, mesh), sharding.make_key(0, mesh)
  index = sharding.put_batch({'index': np.arange(batch, dtype=np.int32)}, mesh)

  def step_of(mask_ratio):
    c = config.get_config('mae,npz,preset=imagenet')
    c.batch_size, c.method.mask_ratio = batch, mask_ratio
    made = program.make_program(c, mesh, source, steps=100)
    state = [made.init(key)]

    def step():
      state[0], metrics = made.step(state[0], index, resident, key)
      jax.block_until_ready(metrics)

    return step

  seconds, seconds_all = in_turns(step_of(0.75), step_of(1 / 196), repeat=repeat)
  return {
    'what': f'a step of MAE ViT-B/16 at 224 pixels, batch {batch}, whose encoder sees a quarter of '
    'the patches, and one whose encoder sees all but one; the same decoder in both',
    'seconds': seconds,
    'seconds_all_tokens': seconds_all,
    'ratio': seconds / seconds_all,
    'wanted': 'ratio <= 0.45',
  }


class Preset(NamedTuple):
  """One of the largest there are, on a mesh of so many devices."""

  method: str
  preset: str
  image_size: int
  devices: int = 256
  fsdp: int = 256
  flags: tuple[str, ...] = ()


BLOCKS = ('--config.encoder.scan=True', '--config.encoder.remat=True')
VITS = {
  'dinov2_vit_large': Preset('dinov2', 'imagenet', 224, flags=BLOCKS),
  'dinov3_vit_7b': Preset('dinov3', 'imagenet', 256, flags=BLOCKS),
}
SEER = {
  'regnety_256gf': Preset('swav', 'seer', 224),
  # Widths are multiples of 1,010. On each device 16 images, as on the authors' 496.
  'regnety_10b': Preset('swav', 'seer_10b', 224, 500, 10, ('--config.batch_size=8000',)),
}
FIGURES = """
import json, sys
from absl import flags
from ssljax import cli, dry_run
values = flags.FlagValues()
cli.define_config(values, sys.argv)
values(sys.argv)
dry_run.make_devices(values.config.mesh.data * values.config.mesh.fsdp)
print(json.dumps(dry_run.figures(values.config, made=True)))
"""


def dry_runs(presets: dict[str, Preset], images=16384):
  """Bytes and FLOPs on each device in bf16, compiled and not run."""
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'images.npz'
    np.savez(path, train_x=np.zeros((images, 8, 8, 3), np.uint8))
    for name, each in presets.items():
      done = subprocess.run(
        [
          sys.executable, '-c', FIGURES,
          f'--config=configs/default.py:{each.method},npz,preset={each.preset}',
          f'--config.data.path={path}', f'--config.data.image_size={each.image_size}',
          '--config.data.resident=no', f'--config.mesh.data={each.devices // each.fsdp}',
          f'--config.mesh.fsdp={each.fsdp}', '--config.compute_dtype=bfloat16', *each.flags,
        ],
        check=True, cwd=ROOT, capture_output=True, text=True,
      )  # fmt: skip
      figures = json.loads(done.stdout.splitlines()[-1])
      for field in ('parameters', 'total_bytes', 'step_temporary_bytes', 'flops_per_step'):
        found[f'{name}_{field}'] = figures[field]
  wanted = ', '.join(f'{name}_total_bytes < {80 * 2**30}' for name in presets)
  return found | {'wanted': wanted}


def sharded():
  """The largest vision transformers on a mesh."""
  return {
    'what': 'the presets imagenet of DINOv2 (ViT-L/14) and DINOv3 (ViT-7B/16) split over 256 '
    'devices (fsdp), bf16, blocks in a scan and recomputed: bytes and FLOPs of each',
    **dry_runs(VITS),
  }


def seer():
  """The largest convolutional networks on a mesh."""
  return {
    'what': 'the presets of SEER (SwAV) in bf16, blocks recomputed: RegNetY-256GF on 256 devices, '
    'batch 8,192 (each has all parameters: 256 divides no width), and RegNetY-10B on 50 x 10 '
    '(data x fsdp), batch 8,000: bytes and FLOPs of each',
    **dry_runs(SEER),
  }


PARTS = {f.__name__: f for f in (vit_small, mae_step, sharded, seer)}
