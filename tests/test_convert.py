"""Weights in and out, without torch: the layouts, the files, what is refused, and runs begun so."""

import json
import pickle
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import small
from safetensors.numpy import load_file, save_file

from ssljax import convert, models, program, sharding
from ssljax.convert import checking, trees
from ssljax.errors import InputError
from ssljax.models import decoders, positions

KEY = jax.random.key(0)
ROPE = {'positions': 'rope', 'layer_norm_eps': 1e-5, 'layer_scale': 0.1, 'registers': 2}
DINOV2 = {'layer_scale': 0.1, 'mask_token': True}
GATED = {'mlp': 'swiglu'}
IJEPA = {'class_token': False, 'pool': 'mean', 'positions': 'sincos'}
# Layout -> options of an encoder that it can hold.
CASES = {
  'dino': {},
  'timm': {'layer_scale': 0.1, 'registers': 2, **GATED},
  'dinov2': {**DINOV2, 'registers': 2, **GATED},
  'dinov3': {**ROPE, **GATED, 'swiglu_align': 64, 'qkv_bias': 'no_key', 'mask_token': True},
  'timm_dinov3': {**ROPE, 'qkv_bias': 'none'},
  'mae': {'positions': 'sincos'},
  'moco_v3': {'positions': 'sincos_rows'},
  'ijepa': IJEPA,
  'hf_vit': {'layer_norm_eps': 1e-12},
  'hf_dinov2': DINOV2,
  'hf_dinov2_registers': {**DINOV2, **GATED, 'registers': 3},
  'hf_dinov3': {**ROPE, **GATED, 'mask_token': True, 'qkv_bias': 'no_key', 'rope_base': 50.0},
  'hf_ijepa': IJEPA,
  'hf_mae': {'positions': 'sincos'},
  'torchvision': {'name': 'resnet10', 'width': 8},
}
DECODER = {'dim': 32, 'depth': 1, 'heads': 2, 'layer_norm_eps': 1e-6}


def make(layout):
  """An encoder's config and parameters without zeros and ones, and a decoder's options or {}."""
  options = dict(CASES[layout])
  config = models.get_config(options.pop('name', 'vit_micro'))
  if layout != 'torchvision':
    config.update(image_size=16, dim=32, depth=2, heads=2)
  config.update(options)
  encoder = models.make(config, dtype=jnp.float32)
  params = dict(
    zip(('encoder', 'stats'), encoder.init(KEY, jnp.zeros((1, 16, 16, 3))), strict=True)
  )
  decoder = {}
  if layout.endswith('mae'):
    decoder = DECODER
    net = decoders.mae_decoder(num_patches=16, patch_dim=48, **decoder)
    params['decoder'], _ = net.init(
      KEY, jnp.zeros((1, 17, 32)), jnp.zeros((1, 16), jnp.int32) + jnp.arange(16)
    )
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(0)
  leaves = [np.abs(x + 0.1 * rng.standard_normal(x.shape)).astype(np.float32) for x in leaves]
  return config, jax.tree.unflatten(tree, leaves), decoder


def write(folder, layout, **options):
  config, params, decoder = make(layout)
  path = convert.save(folder, config, params, layout=layout, decoder=decoder, **options)
  return config, params, decoder, path


def test_every_layout_has_a_case():
  assert set(CASES) == set(convert.LAYOUTS)


@pytest.mark.parametrize('layout', CASES)
def test_out_and_back_is_bit_equal_and_the_options_are_found(tmp_path, layout):
  config, params, decoder, path = write(tmp_path / 'out.safetensors', layout)
  again, found, report = convert.load(path)
  assert (report.layout, report.decoder) == (layout, decoder)
  checking.compare(config, params, decoder, path, layout, 'float32')
  assert jax.tree.structure(found) == jax.tree.structure(params)
  x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 16, 16, 3), np.float32))
  out = [
    models.make(c, dtype=jnp.float32).apply(p['encoder'], p['stats'], x, train=False)[0]
    for c, p in ((config, params), (again, found))
  ]
  # timm adds one array to another, so not to the bit.
  np.testing.assert_allclose(out[0]['features'], out[1]['features'], atol=1e-5, rtol=1e-5)
  # And the file itself comes out the same.
  convert.save(tmp_path / 'again.safetensors', again, found, layout=layout, decoder=decoder)
  first, second = load_file(path), load_file(tmp_path / 'again.safetensors')
  assert first.keys() == second.keys()
  for name in first:
    np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize('layout', [name for name in CASES if name not in ('moco_v3',)])
def test_the_layout_is_found_by_names_alone(tmp_path, layout):
  config, _, _, path = write(tmp_path / 'out.safetensors', layout)
  # Heads are not in the names: as if each had 64 channels, so they are said here.
  tensors = {f'module.backbone.{name}': x for name, x in load_file(path).items()}
  save_file(tensors, tmp_path / 'bare.safetensors')
  heads = None if layout == 'torchvision' else 2
  found, _, report = convert.load(tmp_path / 'bare.safetensors', heads=heads, decoder_heads=2)
  assert (report.layout, report.prefix) == (layout, 'module.backbone.')
  for field in ('dim', 'depth', 'mlp', 'positions', 'registers', 'qkv_bias', 'depths', 'width'):
    if field in config:
      assert found[field] == config[field], field


def test_a_teacher_is_taken_before_a_student_and_moco_is_known_by_its_prefix(tmp_path):
  path = write(tmp_path / 'one.safetensors', 'dino')[-1]
  tensors = load_file(path)
  both = {f'student.module.backbone.{n}': x + 1 for n, x in tensors.items()}
  both |= {f'teacher.backbone.{n}': x for n, x in tensors.items()}
  save_file(both, tmp_path / 'both.safetensors')
  for part, plus in ((None, 0), ('student', 1)):
    _, params, report = convert.load(tmp_path / 'both.safetensors', part=part, heads=2)
    np.testing.assert_array_equal(params['encoder']['norm']['bias'], tensors['norm.bias'] + plus)
    assert report.count('used') == report.count('skipped') == len(tensors)
  moco = {f'state_dict.module.base_encoder.{n}': x for n, x in tensors.items()}
  save_file(moco, tmp_path / 'moco.safetensors')
  assert convert.load(tmp_path / 'moco.safetensors', heads=2)[2].layout == 'moco_v3'


@pytest.mark.parametrize(
  ('layout', 'offset', 'antialias'), [('dino', 0.1, False), ('timm', 0.0, True)]
)
def test_each_library_resizes_positions_its_own_way(tmp_path, layout, offset, antialias):
  _, params, _, path = write(tmp_path / 'out.safetensors', 'dino')
  tensors = load_file(path)
  save_file(tensors, tmp_path / 'bare.safetensors')
  config, _, _ = convert.load(tmp_path / 'bare.safetensors', layout=layout, heads=2)
  assert (config.position_offset, config.position_antialias) == (offset, antialias)
  table = params['encoder']['pos_embed'][1:]
  resized = positions.resize_positions(table, (4, 4), (3, 3), offset=offset, antialias=antialias)
  assert resized.shape == (9, 32)


def test_periods_of_dinov3_say_its_heads_and_base(tmp_path):
  config, params, _ = make('dinov3')
  config.update(rope_base=30.0)
  path = convert.save(tmp_path / 'out.safetensors', config, params, layout='dinov3')
  save_file(load_file(path), tmp_path / 'bare.safetensors')
  found, _, _ = convert.load(tmp_path / 'bare.safetensors')
  assert found.heads == 2
  np.testing.assert_allclose(found.rope_base, 30, rtol=1e-5)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_is_read_as_float32(tmp_path, dtype):
  config, params, decoder, path = write(tmp_path / 'out.safetensors', 'dino', dtype=dtype)
  checking.compare(config, params, decoder, path, 'dino', dtype)
  found = convert.load(path)[1]['encoder']['norm']['bias']
  wanted = params['encoder']['norm']['bias'].astype(getattr(ml_dtypes, dtype, dtype))
  np.testing.assert_array_equal(found, wanted.astype(np.float32))


# ---- files


def torch_file(path, data_pkl, storages=()):
  """What torch.save writes, put together by hand."""
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', data_pkl)
    archive.writestr('archive/byteorder', 'little')
    for key, array in enumerate(storages):
      archive.writestr(f'archive/data/{key}', array.tobytes())
  return path


def rebuild(key, size, offset, shape, strides, storage=b'FloatStorage'):
  """The opcodes of one tensor, in the pickle language itself."""
  number = lambda n: b'I%d\n' % n  # noqa: E731
  numbers = lambda ns: b'(' + b''.join(map(number, ns)) + b't'  # noqa: E731
  saved = b"((S'storage'\nctorch\n%s\nS'%d'\nS'cpu'\n%stQ" % (storage, key, number(size))
  body = saved + number(offset) + numbers(shape) + numbers(strides) + b'I00\nccollections\n'
  return b'ctorch._utils\n_rebuild_tensor_v2\n' + body + b'OrderedDict\n(tRtR'


def state_dict(**tensors):
  return b'(d' + b''.join(b"S'%s'\n" % n.encode() + x + b's' for n, x in tensors.items()) + b'.'


def test_tensors_of_torch_without_torch(tmp_path):
  from ssljax.convert import files

  values = np.arange(12, dtype=np.float32)
  saved = state_dict(
    whole=rebuild(0, 12, 0, (3, 4), (4, 1)),
    turned=rebuild(0, 12, 2, (2, 2), (1, 4)),
    half=rebuild(1, 2, 0, (2,), (1,), b'BFloat16Storage'),
  )
  halves = np.array([1.5, -2], ml_dtypes.bfloat16)
  found = files.read(torch_file(tmp_path / 'x.pth', saved, [values, halves])).tensors
  np.testing.assert_array_equal(found['whole'].load(), values.reshape(3, 4))
  np.testing.assert_array_equal(found['turned'].load(), [[2, 6], [3, 7]])
  np.testing.assert_array_equal(found['half'].load(), halves)


@pytest.mark.parametrize(
  ('content', 'sentence'),
  [
    (b"cposix\nsystem\n(S'touch SEEN'\ntR.", r'posix.system in its pickle, which could run code'),
    (b"cbuiltins\neval\n(S'1'\ntR.", 'builtins.eval'),
    (b'cargparse\nNamespace\n(tR.', 'argparse.Namespace'),
    (state_dict(a=rebuild(0, 4, 0, (9, 9), (9, 1))), 'exceeds its storage'),
    (state_dict(a=rebuild(0, 4, 0, (2,), (-1,))), 'exceeds its storage'),
    (state_dict(a=rebuild(7, 4, 0, (2,), (1,))), 'damaged or cut off'),
    (b"(S'a'\n", 'damaged or cut off'),
    (b'(d.', 'no tensors by name'),
  ],
)
def test_what_a_torch_file_must_not_hold(tmp_path, monkeypatch, content, sentence):
  from ssljax.convert import files

  monkeypatch.chdir(tmp_path)
  path = torch_file(tmp_path / 'x.pth', content, [np.zeros(4, np.float32)])
  with pytest.raises(InputError, match=sentence) as error:
    for tensor in files.read(path).tensors.values():
      tensor.load()
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'SEEN').exists()


def test_other_files_are_refused(tmp_path):
  (tmp_path / 'old.pth').write_bytes(pickle.dumps({'a': 1}))
  (tmp_path / 'text.pth').write_text('hello')
  (tmp_path / 'empty').mkdir()
  path = write(tmp_path / 'whole.safetensors', 'dino')[-1]
  whole = path.read_bytes()
  (tmp_path / 'cut.safetensors').write_bytes(whole[:-100])
  (tmp_path / 'noise.safetensors').write_bytes(b'\xff' * 64 + whole)
  cut = torch_file(tmp_path / 'cut.pth', state_dict(a=rebuild(0, 4, 0, (4,), (1,))))
  cut.write_bytes(cut.read_bytes()[:-30])
  for name, sentence in {
    'old.pth': 'torch wrote before 1.6',
    'text.pth': 'no zip file',
    'cut.pth': 'damaged or cut off',
    'cut.safetensors': 'damaged or cut off',
    'noise.safetensors': 'damaged or cut off',
    'empty': 'has no weights',
    'none.pth': 'there is no file',
  }.items():
    with pytest.raises(InputError, match=sentence) as error:
      convert.load(tmp_path / name)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    (
      lambda t: t.pop('blocks.1.attn.proj.bias'),
      'does not fit layout dino: encoder/blocks_1/attn/proj/bias is missing',
    ),
    (lambda t: t.update({'blocks.1.extra': np.zeros(2, np.float32)}), 'no place'),
    (lambda t: t.update({'norm.bias': np.zeros(5, np.float32)}), r'shape \[5\], wanted \[32\]'),
    (lambda t: t.update({'norm.bias': np.zeros(32, np.int32)}), 'is int32'),
    (lambda t: t.update({'cls_token': np.zeros(32, np.float32)}), 'wanted 3 axes'),
    (lambda t: t.update({'pos_embed': np.zeros((1, 12, 32), np.float32)}), 'those of a square'),
    (lambda t: t.pop('patch_embed.proj.weight'), 'no encoder'),
    (lambda t: t.update({'cls': np.zeros(2, np.float32)}), 'cls is wrong, it has no place'),
    (lambda t: t.update({'cls_norm.weight': np.ones(32, np.float32)}), 'no place'),
  ],
)
def test_a_tensor_that_does_not_fit_is_an_error(tmp_path, change, sentence):
  tensors = load_file(write(tmp_path / 'out.safetensors', 'dino')[-1])
  change(tensors)
  save_file(tensors, tmp_path / 'changed.safetensors')
  with pytest.raises(InputError, match=sentence) as error:
    convert.load(tmp_path / 'changed.safetensors', heads=2)
  assert '\n' not in str(error.value)


def test_heads_are_skipped_and_said(tmp_path):
  tensors = load_file(write(tmp_path / 'out.safetensors', 'torchvision')[-1])
  heads = ('projection_head.0.weight', 'prototypes.weight', 'fc.weight')
  named = {f'module.{n}': x for n, x in tensors.items()}
  named |= {f'module.{n}': np.ones((2, 3), np.float32) for n in heads}
  save_file(named, tmp_path / 'swav.safetensors')
  report = convert.load(tmp_path / 'swav.safetensors')[2]
  assert report.count('used') == len(tensors)
  assert [row.ours for row in report.rows if row.status == 'skipped'] == ['a head'] * 3


@pytest.mark.parametrize(
  ('metadata', 'sentence'),
  [
    ('{', 'did not write'),
    ('[1]', 'did not write'),
    ('{"encoder": 3}', 'did not write'),
    ('{"encoder": {"heads": "many"}}', "heads of the encoder is 'many', wanted int"),
    ('{"encoder": {"heads": 0}}', 'heads is 0, wanted a divisor'),
    ('{"layout": "keras"}', "layout is 'keras', wanted one of"),
  ],
)
def test_metadata_that_is_not_ours(tmp_path, metadata, sentence):
  tensors = load_file(write(tmp_path / 'out.safetensors', 'dino')[-1])
  save_file(tensors, tmp_path / 'changed.safetensors', {'ssljax': metadata})
  with pytest.raises(InputError, match=sentence):
    convert.load(tmp_path / 'changed.safetensors')


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    ({'patch_size': 8}, 'has patch_size 4, and the config.json beside it patch_size 8'),
    ({'num_hidden_layers': 3}, 'has depth 2, and the config.json beside it num_hidden_layers 3'),
    ({'image_size': [32, 32]}, 'has image_size 16'),
    ({'num_attention_heads': 'two'}, "num_attention_heads 'two', wanted a number"),
    ({'num_attention_heads': 3}, 'heads is 3, wanted a divisor'),
    ({'hidden_act': 'relu'}, "hidden_act 'relu'"),
  ],
)
def test_a_config_json_of_another_network_is_refused(tmp_path, change, sentence):
  write(tmp_path / 'one', 'hf_vit')
  path = tmp_path / 'one/config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(InputError, match=sentence):
    convert.load(tmp_path / 'one')


def test_the_fixed_table_of_moco_v3_has_the_row_first():
  seen = np.asarray(positions.sincos_positions(2, 3, 8, rows_first=True))
  row, column, w = 1, 2, 1 / 100
  angles = np.array([row, row * w, column, column * w])
  wanted = [f(a) for pair in (angles[:2], angles[2:]) for f in (np.sin, np.cos) for a in pair]
  np.testing.assert_allclose(seen[row * 3 + column], wanted, rtol=1e-5)


def test_a_layout_that_cannot_hold_the_encoder_is_refused(tmp_path):
  config, params, decoder = make('dinov2')
  with pytest.raises(InputError, match='layout dino has no place for encoder/blocks_0/ls1'):
    convert.save(tmp_path / 'x.safetensors', config, params, layout='dino')
  with pytest.raises(InputError, match='wanted one of'):
    convert.save(tmp_path / 'x.safetensors', config, params, layout='keras')
  path = convert.save(tmp_path / 'x.safetensors', config, params, layout='dinov2')
  with pytest.raises(InputError, match='exists already'):
    convert.save(path, config, params, layout='dinov2')
  convert.save(path, config, params, layout='dinov2', overwrite=True)
  with pytest.raises(InputError, match='x.safetensors cannot be written: .*No such file'):
    convert.save(tmp_path / 'missing' / 'x.safetensors', config, params, layout='dinov2')
  config, params, _ = make('torchvision')
  params['stats'] = {}
  with pytest.raises(InputError, match='torchvision needs the batch statistics stats/batch_stats'):
    convert.save(tmp_path / 'r.safetensors', config, params, layout='torchvision')


def test_a_folder_in_several_files(tmp_path):
  config, params, _, path = write(tmp_path / 'one', 'hf_dinov2')
  tensors = load_file(path)
  names = sorted(tensors)
  for i in (0, 1):
    save_file({n: tensors[n] for n in names[i::2]}, tmp_path / f'model-{i}.safetensors')
  weight_map = {n: f'model-{i % 2}.safetensors' for i, n in enumerate(names)}
  index = tmp_path / 'model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': weight_map}))
  (tmp_path / 'config.json').write_text((tmp_path / 'one/config.json').read_text())
  found, other, _ = convert.load(tmp_path)
  assert (found.heads, found.layer_norm_eps) == (2, config.layer_norm_eps)
  jax.tree.map(np.testing.assert_array_equal, params, other)


# ---- runs


def begin(path, parts=('encoder',), scan=False, name='byol', **encoder):
  """A small run's train state that begins with a file."""
  from ssljax import restore

  config = small.small_config(name)
  with config.unlocked():
    config.encoder = models.get_config('vit_micro')
  size = config.method.views.size
  config.encoder.update(image_size=size, dim=32, depth=2, heads=2, scan=scan)
  config.encoder.update(encoder)
  made = program.make_program(config, sharding.make_mesh(1), small.SOURCE, steps=8)
  said = []
  state = restore.start_from(
    f'hf:{path}', parts, made.init(small.key()), said.append, encoder=config.encoder
  )
  return made, state, said, size


@pytest.mark.parametrize('scan', [False, True])
def test_a_run_begins_with_weights(tmp_path, scan):
  _, params, _, path = write(tmp_path / 'out.safetensors', 'dino')
  made, state, said, size = begin(path, scan=scan)
  for encoder in (state.params['encoder'], state.state['target']['params']['encoder']):
    block = encoder['blocks']['block'] if scan else encoder['blocks_1']
    seen = block['attn']['qkv']['kernel']
    seen = seen[1] if scan else seen
    np.testing.assert_array_equal(seen, params['encoder']['blocks_1']['attn']['qkv']['kernel'])
    table = params['encoder']['pos_embed']
    side = size // 4
    wanted = positions.resize_positions(table[1:], (4, 4), (side, side), offset=0.1)
    np.testing.assert_array_equal(encoder['pos_embed'][1:], wanted)
  assert 'layout dino' in said[0]
  if not scan:
    small.run(made, state, 0, 1)


@pytest.mark.parametrize(
  ('options', 'sentence'),
  [
    ({'heads': 4}, 'has heads 2, wanted 4'),
    ({'registers': 2}, 'has registers 0, wanted 2'),
    ({'layer_norm_eps': 1e-5}, 'has layer_norm_eps 1e-06, wanted 1e-05'),
    ({'depth': 3}, 'has nothing for params/encoder/blocks_2'),
    ({'depth': 1}, 'which this encoder does not have'),
    ({'dim': 64}, r'wanted \[.*64'),
    ({'parts': ('decoder',)}, "init_parts has 'decoder'"),
  ],
)
def test_a_run_of_another_encoder_is_refused(tmp_path, options, sentence):
  path = write(tmp_path / 'out.safetensors', 'dino')[-1]
  with pytest.raises(InputError, match=sentence):
    begin(path, **options)


# ---- the command


def command(*words):
  return subprocess.run(
    [sys.executable, '-m', 'ssljax.convert', *map(str, words)], capture_output=True, text=True
  )


def test_the_command(tmp_path):
  path = write(tmp_path / 'out.safetensors', 'dinov2')[-1]
  to = f'--to={tmp_path / "hf"}'
  done = command(f'--from={path}', to, '--layout=hf_dinov2_registers', '--check')
  assert done.returncode == 0, done.stderr
  for words in ('equal bit for bit', 'features of a test image', 'skipped', 'blocks.0.ls1.gamma'):
    assert words in done.stdout
  assert json.loads((tmp_path / 'hf/config.json').read_text())['num_register_tokens'] == 2
  assert 'which the file does not say' not in done.stdout
  done = command(f'--from={path}', to, '--layout=hf_dinov2_registers')
  assert done.returncode == 2 and 'exists already' in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1


def test_the_runs_of_ours_are_written_too(tmp_path):
  from ssljax import checkpoint, workdir
  from ssljax.convert import runs

  config = small.small_config('byol')
  with config.unlocked():
    config.encoder = models.get_config('resnet10')
  config.encoder.update(width=8, stem='small')
  made = program.make_program(config, sharding.make_mesh(1), small.SOURCE, steps=8)
  state, _ = small.run(made, made.init(small.key()), 0, 1)
  fields = workdir.to_fields(config)
  workdir.write_json(tmp_path / 'config.json', fields)
  with checkpoint.open_folder(tmp_path / 'checkpoints', fields, versions={}) as checkpoints:
    checkpoints.save(1, state)
  assert runs.is_run(tmp_path)
  for part, wanted in (
    (None, state.params),
    ('teacher', state.state['target']['params']),
  ):
    encoder, params, decoder = runs.read(tmp_path, part)
    jax.tree.map(np.testing.assert_array_equal, params['encoder'], wanted['encoder'])
    path = convert.save(tmp_path / f'{part}.safetensors', encoder, params, layout='torchvision')
    found, again, _ = convert.load(path)
    assert found.stem == 'small'
    assert trees.flat(again).keys() == trees.flat(params).keys()
