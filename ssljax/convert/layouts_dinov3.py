"""DINOv3's names: the authors' and timm's."""

import numpy as np

from ssljax.convert.layouts import HEAD, MASK, PATCH, QKV, SCALE, Layout, named, timm_vit
from ssljax.convert.rules import Rule, at, linear

ROPE = {'positions': 'rope', 'layer_norm_eps': 1e-5}
PERIODS = (r'^rope_embed\.periods$|\.attn\.qkv\.bias_mask$', 'worked out from the options')


def heads_dinov3(dim, depth):
  return 32 if dim == 4096 else max(dim // 64, 1)


def _says_dinov3(tensors, ours):
  """Heads and base of the rotary positions, from their periods base^(i / n), i < n."""
  periods = tensors.get('rope_embed.periods')
  if periods is None or periods.ndim != 1 or len(periods) < 2:
    return {}
  n = len(periods)
  base = float(periods[-1]) ** (n / (n - 1))
  base = 100.0 if abs(base - 100) < 2 else base  # the periods may have been rounded to bfloat16
  return {'heads': ours['norm/scale'].size // (4 * n), 'rope_base': base}


def _read_dinov3(tensors):
  """Biases of queries and values; those of keys are masked, and periods say the RoPE's base."""
  found = {}
  for name, x in tensors.items():
    if name.endswith('.attn.qkv.bias') and f'{name}_mask' in tensors:
      found[f'{name}_q'], _, found[f'{name}_v'] = np.split(x, 3)
    elif not name.endswith('.bias_mask'):
      found[name] = x
  return found


def _write_dinov3(tensors, config):
  found = dict(tensors)
  for name in [n for n in tensors if n.endswith('.attn.qkv.bias_q')]:
    q, v = found.pop(name), found.pop(name[:-1] + 'v')
    found[name[:-2]] = np.concatenate([q, np.zeros_like(q), v])
    one = np.ones_like(q)
    found[name[:-2] + '_mask'] = np.concatenate([one, 0 * one, one])
  half = config.dim // config.heads // 2
  exponents = 2 * np.arange(half // 2, dtype=np.float32) / half
  found['rope_embed.periods'] = (config.rope_base**exponents).astype(np.float32)
  return found


OFFICIAL = [
  *(r for r in timm_vit(qkv=False) if r.ours != 'pos_embed'),
  *SCALE,
  *linear('blocks_{}/mlp/w12', 'blocks.{}.mlp.w1', 'blocks.{}.mlp.w2'),
  *linear('blocks_{}/mlp/w3', 'blocks.{}.mlp.w3'),
  Rule(f'{QKV}/bias', ('blocks.{}.attn.qkv.bias',)),
  *(Rule(f'{QKV}/bias_{n}', (f'blocks.{{}}.attn.qkv.bias_{n}',)) for n in 'qv'),
  MASK,
  Rule('register_tokens', ('storage_tokens',), 'row'),
]
TIMM = [
  *(r for r in timm_vit(qkv=False) if r.ours != 'pos_embed'),
  *(Rule(f'{QKV}/bias_{n}', (f'blocks.{{}}.attn.{n}_bias',)) for n in 'qv'),
  *(Rule(f'blocks_{{}}/ls{i}', (f'blocks.{{}}.gamma_{i}',)) for i in (1, 2)),
  *linear('blocks_{}/mlp/w12', 'blocks.{}.mlp.fc1_g', 'blocks.{}.mlp.fc1_x'),
  *linear('blocks_{}/mlp/w3', 'blocks.{}.mlp.gated.fc2'),
  Rule('register_tokens', ('reg_token',), 'row'),
]


def _read_timm_dinov3(tensors):
  gated = any(n.endswith('mlp.fc1_g.weight') for n in tensors)
  return {n.replace('.mlp.fc2', '.mlp.gated.fc2') if gated else n: x for n, x in tensors.items()}


def _write_timm_dinov3(tensors, config):
  return {n.replace('.mlp.gated.', '.mlp.'): x for n, x in tensors.items()}


DINOV3 = {
  'dinov3': Layout(
    at('encoder', OFFICIAL),
    'DINOv3 ViT, official',
    PATCH,
    named(r'^storage_tokens$', r'^rope_embed\.periods$'),
    unused=(HEAD, PERIODS, (r'^local_cls_norm\.', 'a norm of training')),
    options=ROPE,
    heads=heads_dinov3,
    says=_says_dinov3,
    read=_read_dinov3,
    write=_write_dinov3,
  ),
  'timm_dinov3': Layout(
    at('encoder', TIMM),
    'DINOv3 ViT, timm',
    PATCH,
    named(r'\.gamma_1$'),
    unused=(HEAD,),
    options=ROPE,
    heads=heads_dinov3,
    read=_read_timm_dinov3,
    write=_write_timm_dinov3,
  ),
}
