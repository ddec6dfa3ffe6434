"""Hugging Face's names, as in the published files; `spelling` has those of its newer code."""

from ssljax.convert.layouts import HEAD, IJEPA_OPTIONS, QKV, Layout
from ssljax.convert.layouts_dinov3 import ROPE, heads_dinov3
from ssljax.convert.rules import Rule, at, linear, norm

QKV_NAMES = ('query', 'key', 'value')


def _attention(block):
  return [
    *linear(QKV, *(f'{block}.attention.attention.{name}' for name in QKV_NAMES)),
    *linear('blocks_{}/attn/proj', f'{block}.attention.output.dense'),
  ]


def _vit_block(block):
  return [
    *_attention(block),
    *norm('blocks_{}/norm1', f'{block}.layernorm_before'),
    *norm('blocks_{}/norm2', f'{block}.layernorm_after'),
    *linear('blocks_{}/mlp/fc1', f'{block}.intermediate.dense'),
    *linear('blocks_{}/mlp/fc2', f'{block}.output.dense'),
  ]


def _embeddings(root=''):
  return [
    *linear('patch_embed', f'{root}embeddings.patch_embeddings.projection', kind='patch'),
    Rule('cls_token', (f'{root}embeddings.cls_token',), 'token'),
    Rule('pos_embed', (f'{root}embeddings.position_embeddings',), 'row'),
    *norm('norm', f'{root}layernorm'),
  ]


def _scale(block):
  return [Rule(f'blocks_{{}}/ls{i}', (f'{block}.layer_scale{i}.lambda1',)) for i in (1, 2)]


LAYER = 'encoder.layer.{}'
VIT = [*_embeddings(), *_vit_block(LAYER), Rule('mask_token', ('embeddings.mask_token',), 'token')]
DINOV2 = [
  *_embeddings(),
  *_attention(LAYER),
  *_scale(LAYER),
  *norm('blocks_{}/norm1', f'{LAYER}.norm1'),
  *norm('blocks_{}/norm2', f'{LAYER}.norm2'),
  *linear('blocks_{}/mlp/fc1', f'{LAYER}.mlp.fc1'),
  *linear('blocks_{}/mlp/fc2', f'{LAYER}.mlp.fc2'),
  *linear('blocks_{}/mlp/w12', f'{LAYER}.mlp.weights_in'),
  *linear('blocks_{}/mlp/w12', f'{LAYER}.mlp.gate_proj', f'{LAYER}.mlp.up_proj'),
  *linear('blocks_{}/mlp/w3', f'{LAYER}.mlp.weights_out'),
  Rule('mask_token', ('embeddings.mask_token',), 'row'),
  Rule('register_tokens', ('embeddings.register_tokens',), 'row'),
]
MAE_DECODER = [
  *_vit_block('decoder.decoder_layers.{}'),
  *linear('embed', 'decoder.decoder_embed'),
  *norm('norm', 'decoder.decoder_norm'),
  *linear('pred', 'decoder.decoder_pred'),
  Rule('mask_token', ('decoder.mask_token',), 'token'),
  Rule('pos_embed', ('decoder.decoder_pos_embed',), 'row'),
]
DINOV3 = [
  *linear('patch_embed', 'embeddings.patch_embeddings', kind='patch'),
  Rule('cls_token', ('embeddings.cls_token',), 'token'),
  Rule('mask_token', ('embeddings.mask_token',), 'token'),
  Rule('register_tokens', ('embeddings.register_tokens',), 'row'),
  *norm('norm', 'norm'),
  *norm('blocks_{}/norm1', 'layer.{}.norm1'),
  *norm('blocks_{}/norm2', 'layer.{}.norm2'),
  *_scale('layer.{}'),
  Rule(f'{QKV}/kernel', tuple(f'layer.{{}}.attention.{n}_proj.weight' for n in 'qkv'), 'linear'),
  Rule(f'{QKV}/bias', tuple(f'layer.{{}}.attention.{n}_proj.bias' for n in 'qkv')),
  *(Rule(f'{QKV}/bias_{n}', (f'layer.{{}}.attention.{n}_proj.bias',)) for n in 'qv'),
  *linear('blocks_{}/attn/proj', 'layer.{}.attention.o_proj'),
  *linear('blocks_{}/mlp/w12', 'layer.{}.mlp.gate_proj', 'layer.{}.mlp.up_proj'),
  *linear('blocks_{}/mlp/w3', 'layer.{}.mlp.gated.down_proj'),
  *linear('blocks_{}/mlp/fc1', 'layer.{}.mlp.up_proj'),
  *linear('blocks_{}/mlp/fc2', 'layer.{}.mlp.down_proj'),
]


def _read_dinov3(tensors):
  gated = any(n.endswith('mlp.gate_proj.weight') for n in tensors)
  return {n.replace('.mlp.down', '.mlp.gated.down') if gated else n: x for n, x in tensors.items()}


def _write_dinov3(tensors, config):
  return {n.replace('.mlp.gated.', '.mlp.'): x for n, x in tensors.items()}


PROJECTIONS = (
  *((rf'\.attention\.{n[0]}_proj\.', f'.attention.attention.{n}.') for n in QKV_NAMES),
  (r'\.attention\.o_proj\.', '.attention.output.dense.'),
)
DINOV2_SPELLING = (*PROJECTIONS, (r'\.mlp\.down_proj\.', '.mlp.weights_out.'))
VIT_SPELLING = (
  (r'^(vit\.)?layers\.', r'\1encoder.layer.'),
  (r'^decoder\.decoder_encoder\.layer\.', 'decoder.decoder_layers.'),
  *PROJECTIONS,
  (r'\.mlp\.fc1\.', '.intermediate.dense.'),
  (r'\.mlp\.fc2\.', '.output.dense.'),
)
KEY = 'embeddings.patch_embeddings.projection.weight'


def _is(wanted, *needed):
  def when(names, model_type):
    fits = all(any(n.endswith(part) for n in names) for part in needed)
    return model_type == wanted if model_type else fits

  return when


HF = {
  'hf_mae': Layout(
    at('encoder', [*_embeddings('vit.'), *_vit_block('vit.' + LAYER)]) + at('decoder', MAE_DECODER),
    'ViTMAEForPreTraining',
    'vit.' + KEY,
    _is('vit_mae', 'decoder.decoder_embed.weight'),
    spelling=VIT_SPELLING,
    unused=(HEAD,),
    model_type='vit_mae',
  ),
  'hf_dinov2_registers': Layout(
    at('encoder', DINOV2),
    'Dinov2WithRegistersModel',
    KEY,
    _is('dinov2_with_registers', 'register_tokens', 'encoder.layer.0.layer_scale1.lambda1'),
    spelling=DINOV2_SPELLING,
    unused=(HEAD,),
    options={'position_antialias': True},
    model_type='dinov2_with_registers',
  ),
  'hf_dinov2': Layout(
    at('encoder', [r for r in DINOV2 if r.ours != 'register_tokens']),
    'Dinov2Model',
    KEY,
    _is('dinov2', 'layer_scale1.lambda1'),
    spelling=DINOV2_SPELLING,
    unused=(HEAD,),
    model_type='dinov2',
  ),
  'hf_dinov3': Layout(
    at('encoder', DINOV3),
    'DINOv3ViTModel',
    'embeddings.patch_embeddings.weight',
    _is('dinov3_vit', 'layer_scale1.lambda1'),
    spelling=((r'^model\.layer\.', 'layer.'),),
    unused=(HEAD,),
    options=ROPE,
    heads=heads_dinov3,
    read=_read_dinov3,
    write=_write_dinov3,
    model_type='dinov3_vit',
  ),
  'hf_ijepa': Layout(
    at('encoder', [r for r in VIT if r.ours not in ('cls_token', 'mask_token')]),
    'IJepaModel',
    KEY,
    lambda names, model_type: (
      model_type == 'ijepa' or (not model_type and 'embeddings.cls_token' not in names)
    ),
    spelling=VIT_SPELLING,
    unused=(HEAD,),
    options=IJEPA_OPTIONS,
    model_type='ijepa',
  ),
  'hf_vit': Layout(
    at('encoder', VIT),
    'ViTModel and ViTMAEModel: DINO, MAE without its decoder, and others',
    KEY,
    lambda names, model_type: model_type in ('', 'vit', 'vit_mae'),
    spelling=VIT_SPELLING,
    unused=(HEAD,),
    model_type='vit',
  ),
}
