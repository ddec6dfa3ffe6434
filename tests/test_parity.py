"""Small random networks of transformers and torch against ours with their converted weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import convert, models
from ssljax.convert import reading
from ssljax.convert.files import Tensor, Weights
from ssljax.models import decoders

PARITY = 'wanted pip install ssljax[parity]'
torch = pytest.importorskip('torch', reason=PARITY)
transformers = pytest.importorskip('transformers', reason=PARITY)

SMALL = {
  'hidden_size': 32,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'intermediate_size': 80,
  'image_size': 24,
  'patch_size': 4,
  'initializer_range': 0.2,
}
DECODER = {
  'decoder_hidden_size': 16,
  'decoder_num_hidden_layers': 2,
  'decoder_num_attention_heads': 2,
  'decoder_intermediate_size': 64,
}
# Layout -> name of the model and of its config, and options.
CASES = {
  'hf_vit': ('ViT', 'Model', {}),
  'hf_dinov2': ('Dinov2', 'Model', {}),
  'hf_dinov2 gated': ('Dinov2', 'Model', {'use_swiglu_ffn': True, 'layer_norm_eps': 1e-5}),
  'hf_dinov2_registers': ('Dinov2WithRegisters', 'Model', {'num_register_tokens': 3}),
  'hf_dinov3': ('DINOv3ViT', 'Model', {'num_register_tokens': 3, 'rope_theta': 50.0}),
  'hf_dinov3 gated': (
    'DINOv3ViT',
    'Model',
    {'num_register_tokens': 4, 'use_gated_mlp': True, 'hidden_act': 'silu'},
  ),
  'hf_ijepa': ('IJepa', 'Model', {}),
  'hf_mae': ('ViTMAE', 'ForPreTraining', DECODER),
}


def make(name):
  start, end, options = CASES[name]
  config = getattr(transformers, f'{start}Config')(**{**SMALL, **options})
  torch.manual_seed(0)
  model = getattr(transformers, f'{start}{end}')(config).eval()
  if name == 'hf_mae':  # whose constructor leaves the fixed tables at zero
    model.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
    model.vit.embeddings.initialize_weights()
    model.decoder.initialize_weights(36)
  with torch.no_grad():  # what begins as zeros or ones would hide mistakes
    for key, x in model.named_parameters():
      if not (name == 'hf_mae' and 'pos' in key):
        x.add_(torch.randn(x.shape) * 0.1)
  return model


def images(size, n=2):
  x = np.random.default_rng(size).standard_normal((n, size, size, 3), np.float32)
  return jnp.asarray(x), torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


@pytest.fixture(scope='module', params=CASES)
def saved(request, tmp_path_factory):
  model = make(request.param)
  folder = tmp_path_factory.mktemp('weights')
  model.save_pretrained(folder)
  return request.param.split()[0], model, folder


def all_tokens(out):
  first = [out['cls'][:, None]] if 'cls' in out else []
  first += [out['registers']] if 'registers' in out else []
  return np.concatenate([*first, out['tokens']], axis=1)


def check_tokens(model, config, params, size):
  ours, theirs = images(size)
  encoder = models.make(config, dtype=jnp.float32)
  apply = jax.jit(lambda p, x: encoder.apply(p, {}, x, train=False)[0])
  seen = all_tokens(apply(params['encoder'], ours))
  resizes = type(model).__name__ in ('ViTModel', 'IJepaModel')  # only if told to
  options = {'interpolate_pos_encoding': True} if resizes else {}
  with torch.no_grad():
    wanted = model(theirs, **options).last_hidden_state.numpy()
  np.testing.assert_allclose(seen, wanted, atol=1e-4, rtol=1e-4)
  assert wanted.std() > 0.1


@pytest.mark.parametrize('size', [24, 32, 16])
def test_all_tokens_equal_those_of_transformers(saved, size):
  layout, model, folder = saved
  if layout == 'hf_mae':
    pytest.skip('its encoder alone hides patches: test_mae_with_its_decoder')
  config, params, report = convert.load(folder)
  assert report.layout == layout and not report.count('missing')
  check_tokens(model, config, params, size)


def test_names_of_the_newer_code_and_torchs_files_are_read_too(saved, tmp_path):
  """The state_dict of transformers 5, whose published files have other names, as a .bin."""
  layout, model, folder = saved
  torch.save(model.state_dict(), tmp_path / 'pytorch_model.bin')
  (tmp_path / 'config.json').write_text((folder / 'config.json').read_text())
  config, params, report = convert.load(tmp_path)
  wanted, other, _ = convert.load(folder)
  assert report.layout == layout and config == wanted
  jax.tree.map(np.testing.assert_array_equal, params, other)


def test_what_we_write_is_loaded_by_transformers(saved, tmp_path):
  layout, model, folder = saved
  config, params, report = convert.load(folder)
  convert.save(tmp_path / 'out', config, params, layout=layout, decoder=report.decoder)
  again, info = type(model).from_pretrained(tmp_path / 'out', output_loading_info=True)
  assert not info['unexpected_keys'] and not info['mismatched_keys']
  assert not {k for k in info['missing_keys'] if 'pooler' not in k}
  wanted = model.state_dict()
  for name, x in again.state_dict().items():
    if 'pooler' in name:
      continue
    if 'pos' in name:  # a fixed table is computed again
      torch.testing.assert_close(x, wanted[name], atol=1e-5, rtol=0)
    else:
      assert torch.equal(x, wanted[name]), name


def test_mae_with_its_decoder():
  model = make('hf_mae')
  state = {k: v.numpy() for k, v in model.state_dict().items()}
  tensors = {k: Tensor(v.shape, lambda v=v: v) for k, v in state.items()}
  config, params, report = reading.convert(Weights('mae', tensors, model.config.to_dict(), {}))
  report.check()
  assert config.positions == 'sincos' and report.decoder['depth'] == 2
  encoder = models.make(config, dtype=jnp.float32)
  decoder = decoders.mae_decoder(num_patches=36, patch_dim=48, **report.decoder)
  ours, theirs = images(24)
  noise = np.random.default_rng(1).uniform(size=(2, 36)).astype(np.float32)
  with torch.no_grad():
    wanted = model(theirs, noise=torch.from_numpy(noise))
  order = np.argsort(noise, axis=1)
  keep, restore = order[:, :9], np.argsort(order, axis=1)
  np.testing.assert_array_equal(restore, wanted.ids_restore.numpy())
  out, _ = encoder.apply(params['encoder'], {}, ours, train=False, keep=keep)
  pred, _ = decoder.apply(params['decoder'], {}, all_tokens(out), restore, train=False)
  np.testing.assert_allclose(pred, wanted.logits.numpy(), atol=1e-4, rtol=1e-4)
  for size in (24, 32):  # nothing hidden, at the table's size and another
    ours, theirs = images(size)
    out, _ = encoder.apply(params['encoder'], {}, ours, train=False)
    with torch.no_grad():
      projected = model.vit.embeddings.patch_embeddings.projection(theirs)
      embedded = projected.flatten(2).transpose(1, 2)
      table = model.vit.embeddings.interpolate_pos_encoding(
        torch.cat([embedded[:, :1], embedded], 1), size, size
      )
      x = embedded + table[:, 1:]
      cls = model.vit.embeddings.cls_token + table[:, :1]
      x = torch.cat([cls.expand(len(x), -1, -1), x], 1)
      for layer in model.vit.layers:
        x = layer(x)
      x = model.vit.layernorm(x)
    np.testing.assert_allclose(all_tokens(out), x.numpy(), atol=1e-4, rtol=1e-4)


class TorchBlock(torch.nn.Module):
  def __init__(self, inner, outer, stride):
    super().__init__()
    self.conv1 = torch.nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
    self.bn1 = torch.nn.BatchNorm2d(outer)
    self.conv2 = torch.nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
    self.bn2 = torch.nn.BatchNorm2d(outer)
    self.downsample = None
    if stride > 1:
      conv = torch.nn.Conv2d(inner, outer, 1, stride, bias=False)
      self.downsample = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(outer))

  def forward(self, x):
    y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
    return (y + (x if self.downsample is None else self.downsample(x))).relu()


class TorchResNet18(torch.nn.Module):
  def __init__(self):
    super().__init__()
    self.conv1 = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    self.bn1 = torch.nn.BatchNorm2d(64)
    widths = [64, 64, 128, 256, 512]
    for i in range(1, 5):
      blocks = (
        TorchBlock(widths[i - 1], widths[i], 2 if i > 1 else 1),
        TorchBlock(*widths[i:][:1] * 2, 1),
      )
      setattr(self, f'layer{i}', torch.nn.Sequential(*blocks))
    self.fc = torch.nn.Linear(512, 10)

  def forward(self, x):
    x = torch.nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
    return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


@pytest.mark.parametrize('prefix', ['', 'module.encoder_q.'])
def test_resnet_18(tmp_path, prefix):
  torch.manual_seed(0)
  model = TorchResNet18().train()
  with torch.no_grad():
    model(torch.randn(4, 3, 64, 64))  # statistics that are not zeros and ones
  model.eval()
  state = {prefix + name: x for name, x in model.state_dict().items()}
  torch.save({'epoch': 3, 'state_dict': state}, tmp_path / 'resnet.pth')
  config, params, report = convert.load(tmp_path / 'resnet.pth')
  assert (config.name, report.layout) == ('resnet18', 'torchvision')
  assert {row.ours for row in report.rows if row.status == 'skipped'} == {
    'a head', 'a count of batches',
  }  # fmt: skip
  encoder = models.make(config, dtype=jnp.float32)
  for size in (64, 48):
    ours, theirs = images(size)
    out, _ = encoder.apply(params['encoder'], params['stats'], ours, train=False)
    with torch.no_grad():
      wanted = model(theirs).numpy()
    np.testing.assert_allclose(out['features'], wanted, atol=1e-4, rtol=1e-4)
  convert.save(tmp_path / 'out.safetensors', config, params, layout='torchvision')
  load_file = pytest.importorskip('safetensors.torch').load_file
  other = TorchResNet18()
  missing, unexpected = other.load_state_dict(load_file(tmp_path / 'out.safetensors'), strict=False)
  assert not unexpected
  assert not [m for m in missing if not m.startswith('fc.') and 'num_batches' not in m]
  for name, x in other.state_dict().items():
    if not name.startswith('fc.') and 'num_batches' not in name:
      assert torch.equal(x, model.state_dict()[name]), name
