"""The parts of scripts/benchmark.py for one GPU: steps of vision transformers in bfloat16.

python scripts/benchmark.py --out=results/benchmark_gpu.json --only=dinov2_step,mae_base_step,...
"""

import math
import time

import numpy as np

PEAK = {'H100': 989e12, 'H200': 989e12}  # NVIDIA's data sheets: dense bfloat16 FLOPs a second


def step_of(config, *, pixels=256, examples=1024):
  """(compiled step, its arguments, FLOPs of loss and gradient) on images kept on the device."""
  import jax

  from ssljax import flops, program, sharding
  from ssljax.data.source import ArraySource

  image = np.random.default_rng(0).integers(0, 255, (examples, pixels, pixels, 3), np.uint8)
  source = ArraySource({'image': image})
  mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
  resident, key = sharding.put_replicated(source.arrays, mesh), sharding.make_key(0, mesh)
  made = program.make_program(config, mesh, source, steps=1000)
  order = np.arange(config.batch_size, dtype=np.int32) % examples
  index = sharding.put_batch({'index': order}, mesh)
  batch = program.example_batch(source, config.batch_size)
  views = jax.eval_shape(made.method.views, jax.random.key(0), batch)
  gradient = jax.make_jaxpr(jax.value_and_grad(made.method.loss, has_aux=True))(
    made.abstract.params, made.abstract.state, views, jax.random.key(0), 0
  )
  state = made.init(key)
  step = made.step.lower(state, index, resident, key).compile()
  return step, (state, index, resident, key), flops.count(gradient.jaxpr)


def measure(what, config, *, warm=5, steps=30, wanted, **options):
  """Images a second of a whole step: rows gathered, views, loss, gradient and update."""
  import jax

  step, (state, *rest), needed = step_of(config, **options)
  for _ in range(warm):
    state, metrics = step(state, *rest)
  jax.block_until_ready(metrics)
  begun = time.perf_counter()
  for _ in range(steps):
    state, metrics = step(state, *rest)
  loss = float(metrics['loss'])
  seconds = (time.perf_counter() - begun) / steps
  if not math.isfinite(loss):
    raise RuntimeError(f'the loss is {loss}')
  device = jax.devices()[0]
  peak = next((flops for name, flops in PEAK.items() if name in device.device_kind), math.nan)
  return {
    'what': f'{what}, batch {config.batch_size}, {config.compute_dtype}, views made on the device '
    'from 256-pixel images kept there; images a second of whole steps, and the share of '
    f'{peak / 1e12:.0f} TFLOP/s that products of loss and gradient take',
    'device': device.device_kind,
    'images_per_second': config.batch_size / seconds,
    'seconds': seconds,
    'tflop_of_a_step': needed / 1e12,
    'model_flops_utilisation': needed / seconds / peak,
    'peak_memory_bytes': (device.memory_stats() or {}).get('peak_bytes_in_use', 0),
    'loss': loss,
    'wanted': wanted,
  }


def settings(method, encoder, batch, **fields):
  from ssljax import config

  c = config.get_config(f'{method},npz,preset=imagenet,encoder={encoder}')
  c.update(batch_size=batch, compute_dtype='bfloat16')
  c.encoder.update(fields)
  return c


def dinov2_step(batch=128):
  c = settings(
    'dinov2', 'vit_small', batch, patch_size=14, layer_scale=1e-5, mask_token=True, drop_path=0.3,
    drop_path_uniform=True,
  )  # fmt: skip
  return measure(
    'DINOv2 ViT-S/14, 2 crops of 224 and 8 of 98 pixels, two heads of 131,072 prototypes', c,
    wanted='model_flops_utilisation > 0.4',
  )  # fmt: skip


def mae_base_step(batch=1024):
  c = settings('mae', 'vit_base', batch, patch_size=16, positions='sincos', class_token=True)
  return measure('MAE ViT-B/16 at 224 pixels', c, wanted='model_flops_utilisation > 0.4')


def barlow_twins_step(batch=256):
  c = settings('barlow_twins', 'vit_small', batch, patch_size=16)
  return measure(
    'Barlow Twins ViT-S/16, two views of 224 pixels (stable-pretraining reports 871 images/s '
    'on an H200)', c, wanted='images_per_second >= 3484',
  )  # fmt: skip


PARTS = {f.__name__: f for f in (dinov2_step, mae_base_step, barlow_twins_step)}
