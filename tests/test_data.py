"""Sources, the order of examples, and the batches made of them."""

import functools
import io
import itertools
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from ssljax import data
from ssljax.data import digits, images, pipeline, tfds
from ssljax.data import source as sources
from ssljax.errors import InputError


def config_of(name, **fields):
  config = data.get_config(name)
  config.update(fields)
  return config


def ramp(n, side=8, channels=3):
  """Image i is flat grey of value i."""
  x = np.arange(n, dtype=np.uint8)[:, None, None, None]
  return np.broadcast_to(x, (n, side, side, channels)).copy()


def save_flat(path, value, mode='RGB', size=(12, 10)):
  path.parent.mkdir(parents=True, exist_ok=True)
  colour = (value,) * len(Image.new(mode, (1, 1)).getbands())
  Image.new(mode, size, colour if len(colour) > 1 else value).save(path)


def encoded(pixels, kind='PNG'):
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, kind)
  return buffer.getvalue()


def read_values(n, unreadable, i):
  if i in unreadable:
    raise sources.Unreadable(f'image {i} cannot be read')
  return {'image': np.full((4, 4, 1), i, np.uint8), 'label': np.int32(i % 3)}


def lazy(n, unreadable=()):
  return sources.LazySource(functools.partial(read_values, n, frozenset(unreadable)), n)


# ---- found by name


def test_names_are_the_modules_that_are_sources():
  wanted = ['communities', 'digits', 'folder', 'graph', 'motifs', 'npz', 'roles', 'scenes', 'tfds']
  assert data.names() == wanted


@pytest.mark.parametrize('name', ['digits', 'folder', 'npz', 'tfds', 'cifar10', 'imagenet2012'])
def test_every_config_has_the_common_fields(name):
  if name in ('cifar10', 'imagenet2012'):
    pytest.importorskip('tensorflow_datasets')
  config = data.get_config(name)
  assert config.name == name
  assert set(sources.base_config(name)) <= set(config)
  assert config.preset in ('tiny', 'cifar', 'imagenet')
  assert len(config.mean) == len(config.std) and len(config.mean) in (1, config.channels)


def test_size_of_a_tfds_set_is_its_own():
  pytest.importorskip('tensorflow_datasets')
  cifar, mnist, photos = map(data.get_config, ('cifar10', 'mnist', 'imagenet2012'))
  assert (cifar.image_size, cifar.channels, cifar.preset) == (32, 3, 'cifar')
  assert (mnist.image_size, mnist.channels, mnist.preset) == (28, 1, 'cifar')
  assert (photos.image_size, photos.channels, photos.preset) == (256, 3, 'imagenet')


def test_unknown_name_gets_the_nearest(monkeypatch):
  with pytest.raises(InputError, match='did you mean digits'):
    data.get_config('digit')
  if tfds.names():
    with pytest.raises(InputError, match="no data set 'cifer10', did you mean cifar10"):
      data.get_config('cifer10')
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  with pytest.raises(InputError, match=r"no data set 'cifar10'.*pip install ssljax\[tfds\]"):
    data.get_config('cifar10')
  with pytest.raises(InputError, match='did you mean folder'):
    data.get_config('folders')


@pytest.mark.parametrize(
  'field, value, message',
  [
    ('resident', 'maybe', "data.resident is 'maybe', wanted auto, yes or no"),
    ('mean', (0.1, 0.2), 'data.mean has 2 values, wanted 1 or one for each of 3'),
    ('std', (0.0,), 'data.std is .* above 0'),
    ('channels', 2, 'data.channels is 2, wanted 1 or 3'),
    ('workers', -1, 'data.workers is -1'),
    ('train_size', 1, 'data.train_size is 1, wanted 2 or more'),
    ('digit_pixels', (20.0, 10.0), r'data.digit_pixels is \(20.0, 10.0\), wanted two rising'),
    ('contrast', (0.5, 2.0), 'data.contrast is .* up to 1'),
  ],
)
def test_bad_fields(field, value, message):
  with pytest.raises(InputError, match=message):
    data.load(config_of('digits', **{field: value}), 'train')


def test_bad_split():
  with pytest.raises(InputError, match="split is 'valid', wanted train or test"):
    data.load(data.get_config('digits'), 'valid')


# ---- arrays


@pytest.mark.parametrize(
  'x, message',
  [
    (np.zeros((0, 4, 4, 3), np.uint8), 'x is empty'),
    (np.zeros((3, 4), np.uint8), r'x has shape \[3, 4\]'),
    (np.zeros((3, 3, 8, 8), np.uint8), r'x has shape \[3, 3, 8, 8\].*1 or 3 channels'),
    (np.zeros((3, 4, 4), bool), 'x is bool, wanted uint8'),
    (np.full((3, 4, 4), 300, np.uint16), 'x is uint16 and has the value 300 in row 0'),
    (np.full((3, 4, 4), -1, np.int64), 'x is int64 and has the value -1 in row 0'),
  ],
)
def test_bad_images(x, message):
  with pytest.raises(InputError, match=message):
    sources.check_images(x, 'x')


@pytest.mark.parametrize('bad', [np.nan, np.inf, -0.5, 1.5])
def test_bad_value_is_reported_with_its_first_row(bad):
  x = np.full((5, 4, 4, 3), 0.5, np.float32)
  x[3, 1, 2, 0] = x[4] = bad
  with pytest.raises(InputError, match=f'train_x is float32 and has the value {bad} in row 3'):
    sources.check_images(x, 'train_x')


def test_good_images():
  x = np.array([0, 0.1, 0.998, 1], np.float64).reshape(4, 1, 1)
  assert sources.check_images(x, 'x').tolist() == [[[[0]]], [[[26]]], [[[254]]], [[[255]]]]
  assert sources.check_images(np.full((2, 3, 3, 3), 200), 'x').dtype == np.uint8


@pytest.mark.parametrize(
  'y, message',
  [
    (np.zeros(4, int), r'y has shape \[4\], wanted \[3\]'),
    (np.zeros((3, 2), int), r'y has shape \[3, 2\]'),
    (np.zeros(3), 'y is float64'),
    (np.array([0, 1, -1]), 'y has the value -1 in row 2'),
  ],
)
def test_bad_labels(y, message):
  with pytest.raises(InputError, match=message):
    sources.check_labels(y, 3, 'y')


def test_labels_may_be_names_or_a_column():
  y, classes = sources.check_labels(np.array(['cat', 'ant', 'cat']), 3, 'y')
  assert y.tolist() == [1, 0, 1] and classes == ('ant', 'cat')
  assert sources.check_labels(np.array([[2], [0]], np.uint8), 2, 'y')[0].tolist() == [2, 0]


# ---- digits


@pytest.fixture(scope='module')
def small_digits():
  return config_of('digits', train_size=1500, test_size=600)


def test_digits_are_a_function_of_their_config(small_digits):
  first, again = (digits.load(small_digits, 'train').arrays for _ in range(2))
  np.testing.assert_array_equal(first['image'], again['image'])
  assert first['image'].shape == (1500, 32, 32, 3) and first['image'].dtype == np.uint8
  assert first['label'].dtype == np.int32 and set(first['label']) == set(range(10))
  other = digits.load(config_of('digits', train_size=1500, seed=1), 'train').arrays
  assert (first['image'] != other['image']).any(axis=(1, 2, 3)).all()


def test_digits_show_their_label():
  """Grey, in the middle and without clutter each is the glyph: a nearest neighbour knows it."""
  easy = config_of(
    'digits', train_size=1500, test_size=300, clutter=0, noise=0.0, slant=0.0, colour=0.0,
    digit_pixels=(32.0, 32.0),
  )  # fmt: skip
  train, test = (digits.load(easy, split).arrays for split in ('train', 'test'))
  assert nearest_neighbour(train, test) > 0.93


def test_raw_pixels_of_digits_say_little(small_digits):
  train, test = (digits.load(small_digits, split).arrays for split in ('train', 'test'))
  assert 0.1 < nearest_neighbour(train, test) < 0.25


def nearest_neighbour(train, test):
  """Accuracy by correlation of the raw pixels."""

  def unit(x):
    x = x.reshape(len(x), -1).astype(np.float32)
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  nearest = np.argmax(unit(test['image']) @ unit(train['image']).T, axis=1)
  return np.mean(train['label'][nearest] == test['label'])


def test_digits_are_lighter_than_their_ground():
  """In luma, whatever the colours: a view in greyscale is what all have in common."""
  pixels = {'digit_pixels': (31.0, 32.0), 'slant': 0.0, 'clutter': 0, 'noise': 0.0}
  x = digits.load(config_of('digits', train_size=300, **pixels), 'train').arrays['image']
  luma = x @ np.array([0.299, 0.587, 0.114])
  assert (luma.max(axis=(1, 2)) > luma[:, 0, 0] + 25).all()
  assert np.ptp(x[:, 0, 0].astype(int), axis=1).mean() > 50  # coloured


# ---- npz and npy


def test_npz_splits_and_labels(tmp_path):
  path = tmp_path / 'set.npz'
  x, y = ramp(9), np.arange(9) % 4
  np.savez(path, train_x=x, train_y=y, test_x=x[:3], test_y=y[:3], classes=list('abcd'))
  config = config_of('npz', path=str(path))
  train, test = data.load(config, 'train'), data.load(config, 'test')
  np.testing.assert_array_equal(train.arrays['image'], x)
  np.testing.assert_array_equal(train.arrays['label'], y)
  assert len(test) == 3 and train.classes == test.classes == ('a', 'b', 'c', 'd')
  assert train[2]['image'].shape == (8, 8, 3) and train[2]['label'].dtype == np.int32


@pytest.mark.parametrize(
  'image, label, test',
  [
    ('x', 'y', 'val_x'),
    ('images', 'labels', 'val_images'),
    ('image', 'label', 'test_image'),
    ('x_train', 'y_train', 'x_test'),
    ('train_images', 'train_labels', 'test_images'),
  ],
)
def test_npz_layouts(tmp_path, image, label, test):
  path = tmp_path / 'set.npz'
  np.savez(path, **{image: ramp(5, channels=1)[..., 0], label: np.arange(5), test: ramp(2)})
  config = config_of('npz', path=str(path))
  train = data.load(config, 'train')
  assert train[4]['image'].shape == (8, 8, 1) and train[4]['label'] == 4
  assert set(data.load(config, 'test').arrays) == {'image'}


def test_images_only(tmp_path):
  np.save(tmp_path / 'x.npy', ramp(4))
  np.savez(tmp_path / 'x.npz', ramp(4) / np.float32(255))
  for name in ('x.npy', 'x.npz'):
    config = config_of('npz', path=str(tmp_path / name))
    train = data.load(config, 'train')
    np.testing.assert_array_equal(train.arrays['image'], ramp(4))
    assert set(train.arrays) == {'image'} and train.classes is None
    assert data.load(config, 'test') is None


def test_npz_resized_and_in_colour(tmp_path):
  np.save(tmp_path / 'x.npy', ramp(4, side=9, channels=1))
  train = data.load(
    config_of('npz', path=str(tmp_path / 'x.npy'), image_size=6, channels=3), 'train'
  )
  np.testing.assert_array_equal(train.arrays['image'], ramp(4, side=6))


def jpegs(n=6):
  files = [encoded(np.full((10, 14), 30 * i, np.uint8), 'JPEG') for i in range(n)]
  offsets = np.cumsum([0] + [len(f) for f in files])
  return np.frombuffer(b''.join(files), np.uint8).copy(), offsets


def test_pool_of_jpegs(tmp_path):
  pool, offsets = jpegs()
  pool[offsets[0] : offsets[0] + 4] = 0  # the first and the fourth are damaged
  pool[offsets[3] : offsets[3] + 4] = 0
  np.savez(
    tmp_path / 'set.npz', train_jpeg=pool, train_offsets=offsets, train_y=np.arange(6),
    val_jpeg=pool[offsets[4] :], val_offsets=offsets[4:] - offsets[4], val_y=np.arange(2),
  )  # fmt: skip
  config = config_of('npz', path=str(tmp_path / 'set.npz'))
  train = data.load(config, 'train')
  assert len(train) == 6 and train[0]['image'].shape == (10, 14, 1)
  kept, skipped = pipeline.materialize(train)
  assert kept.arrays['label'].tolist() == [1, 2, 4, 5]
  np.testing.assert_allclose(kept.arrays['image'][:, 5, 5, 0], [30, 60, 120, 150], atol=1)
  assert ['image 0' in skipped[0], 'image 3' in skipped[1]] == [True, True] and len(skipped) == 2
  assert len(data.load(config, 'test')) == 2
  config.update(image_size=8, channels=3)
  assert data.load(config, 'train')[2]['image'].shape == (8, 8, 3)


def test_bad_npz(tmp_path):
  def refuses(message, name='bad.npz', **arrays):
    if arrays:
      np.savez(tmp_path / name, **arrays)
    with pytest.raises(InputError, match=message):
      data.load(config_of('npz', path=str(tmp_path / name)), 'train')

  refuses('there is no such file')
  refuses('wanted an .npz or .npy file', name='bad.csv')
  refuses('bad.npz has a, b: wanted train_x', a=ramp(2), b=ramp(2))
  refuses('bad.npz: x holds pickled objects', x=np.array([{}, []], object), y=np.arange(2))
  refuses('bad.npz: x is empty', x=ramp(0), y=np.arange(0))
  refuses(r'bad.npz: y has shape \[3\], wanted \[2\]', x=ramp(2), y=np.arange(3))
  refuses(r'classes has shape \[1\], wanted \[2\]', x=ramp(2), y=np.arange(2), classes=['a'])
  refuses('jpeg but no offsets', jpeg=jpegs()[0], other=1)
  refuses('offsets does not rise from 0', jpeg=jpegs()[0], offsets=[0, 9, 5])
  refuses('wanted uint8 bytes', jpeg=jpegs()[0][None], offsets=[0, 9])
  refuses('none of the 2 images of .*bad.npz: jpeg', jpeg=np.zeros(9, np.uint8), offsets=[0, 5, 9])
  np.savez(tmp_path / 'bad.npz', x=ramp(50))
  whole = (tmp_path / 'bad.npz').read_bytes()
  (tmp_path / 'bad.npz').write_bytes(whole[: len(whole) // 2])
  refuses('bad.npz cannot be read: it is damaged')
  (tmp_path / 'bad.npz').write_bytes(whole.replace(bytes(range(3, 4)) * 192, b'\0' * 192))
  refuses('bad.npz: x cannot be read: it is damaged')
  (tmp_path / 'bad.npy').write_bytes(b'not an array')
  refuses('cannot be read: it is damaged or is no NumPy file', name='bad.npy')
  np.save(tmp_path / 'bad.npy', np.array([{}], object), allow_pickle=True)
  refuses('holds pickled objects', name='bad.npy')


def test_real_pool(shared_data):
  config = config_of('npz', path=str(shared_data('medical_mnist64_jpeg.npz')))
  test = data.load(config, 'test')
  kept, skipped = pipeline.materialize(test)
  assert kept.arrays['image'].shape == (600, 64, 64, 1) and not skipped
  assert len(kept.classes) == 6 and np.bincount(kept.arrays['label']).tolist() == [100] * 6
  np.testing.assert_array_equal(kept[123]['image'], test[123]['image'])


# ---- folders


def test_flat_folder_of_every_kind(tmp_path):
  for kind in ('jpg', 'jpeg', 'png', 'webp', 'bmp', 'tif', 'TIFF'):
    save_flat(tmp_path / f'image.{kind}', 100)
  save_flat(tmp_path / 'grey.png', 100, 'L')
  (tmp_path / 'notes.txt').write_text('no image')
  save_flat(tmp_path / '.hidden.png', 0)
  config = config_of('folder', path=str(tmp_path), image_size=8)
  train = data.load(config, 'train')
  assert len(train) == 8 and train.classes is None and data.load(config, 'test') is None
  kept, skipped = pipeline.materialize(train)
  assert set(kept.arrays) == {'image'} and not skipped
  np.testing.assert_allclose(kept.arrays['image'].astype(int), 100, atol=2)


def test_class_folders_and_splits(tmp_path):
  for split, names in (('train', 'abc'), ('val', 'ac')):  # no b in val: numbers must not move
    for k, name in enumerate(names):
      save_flat(tmp_path / split / name / 'deep' / '1.png', 10 * k)
      save_flat(tmp_path / split / name / '2.png', 10 * k)
  save_flat(tmp_path / 'test' / '1.png', 0)  # hidden labels, as ImageNet's
  config = config_of('folder', path=str(tmp_path), image_size=8)
  train, test = data.load(config, 'train'), data.load(config, 'test')
  assert train.classes == test.classes == ('a', 'b', 'c')
  assert [int(x['label']) for x in train] == [0, 0, 1, 1, 2, 2]
  assert [int(x['label']) for x in test] == [0, 0, 2, 2]
  alone = data.load(config_of('folder', path=str(tmp_path / 'train'), image_size=8), 'train')
  assert [int(x['label']) for x in alone] == [0, 0, 1, 1, 2, 2]
  single = data.load(config_of('folder', path=str(tmp_path / 'train/a'), image_size=8), 'train')
  assert 'label' not in single[0]


def test_bad_folders(tmp_path):
  def refuses(message, path):
    with pytest.raises(InputError, match=message):
      data.load(config_of('folder', path=str(path)), 'train')

  refuses("data.path is '', and there is no such folder", '')
  refuses('there is no such folder', tmp_path / 'missing')
  refuses('has no images: wanted at least 2', tmp_path)
  save_flat(tmp_path / 'one' / '1.png', 0)
  refuses('one has 1 image: wanted at least 2', tmp_path / 'one')
  refuses('1.png, a file: wanted a folder', tmp_path / 'one' / '1.png')
  (tmp_path / 'one' / '1.png').write_bytes(b'')
  (tmp_path / 'one' / '2.png').write_bytes(b'\x89PNG\r\n')
  refuses('none of the 2 images of .*one can be read, the last: .*2.png', tmp_path / 'one')


def test_unreadable_images_are_skipped_counted_and_named(tmp_path, caplog):
  for i in range(6):
    save_flat(tmp_path / f'{i}.png', 10 * i)
  (tmp_path / '0.png').write_bytes(b'no image')
  noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
  (tmp_path / '3.jpg').write_bytes(encoded(noise, 'JPEG')[:2000])
  train = data.load(config_of('folder', path=str(tmp_path), image_size=8), 'train')
  assert [pathlib.Path(name).name for name in train.names[:3]] == ['1.png', '0.png', '2.png']
  kept, skipped = pipeline.materialize(train)
  assert kept.arrays['image'][:, 0, 0, 0].tolist() == [10, 20, 30, 40, 50]
  assert len(skipped) == 2
  assert '0.png is not an image' in skipped[0] and '3.jpg' in skipped[1]

  batch = next(pipeline.stream(train, batch_size=14, seed=0))
  order = pipeline.index_batch(7, 14, 0, 0)
  # 1.png comes first, then 0.png: its turn goes to 2.png, and that of 3.jpg to 3.png
  np.testing.assert_array_equal(batch['index'], np.array([0, 2, 2, 4, 4, 5, 6])[order])
  np.testing.assert_array_equal(batch['skipped'], np.array([0, 1, 0, 1, 0, 0, 0])[order])
  assert 'label' not in batch and '3.jpg' in caplog.text

  (batch,) = pipeline.eval_batches(train, 8)
  assert batch['valid'].tolist() == [True, False, True, False, True, True, True, False]
  assert batch['image'][:, 0, 0, 0].tolist() == [10, 0, 20, 0, 30, 40, 50, 0]


# ---- pixels


def read_png(pixels, size=None, channels=0, kind='PNG'):
  return images.decode(encoded(pixels, kind), 'x', size=size, channels=channels)


def test_depth_and_transparency():
  grey = np.array([[0, 128], [200, 255]], np.uint8)
  np.testing.assert_array_equal(read_png(grey), grey[..., None])
  np.testing.assert_array_equal(read_png(grey, channels=3), np.repeat(grey[..., None], 3, 2))
  deep = grey.astype(np.uint16) * 257
  np.testing.assert_array_equal(read_png(deep), grey[..., None])
  np.testing.assert_array_equal(read_png(deep, kind='TIFF'), grey[..., None])
  np.testing.assert_array_equal(
    read_png(grey.astype(np.float32) / 255, kind='TIFF'), grey[..., None]
  )
  with pytest.raises(sources.Unreadable, match='not all from 0 to 1'):
    read_png(grey.astype(np.float32), kind='TIFF')
  clear = np.zeros((2, 2, 4), np.uint8)  # black and invisible, but for one pixel half there
  clear[0, 0] = (0, 0, 0, 128)
  assert read_png(clear)[..., 0].tolist() == [[127, 255], [255, 255]]
  red = np.zeros((2, 2, 3), np.uint8)
  red[..., 0] = 255
  assert read_png(red, channels=1).tolist() == [[[76], [76]], [[76], [76]]]  # 0.299 * 255


def test_palette_with_transparency():
  image = Image.new('P', (2, 1))
  image.putpalette([255, 0, 0, 0, 0, 255])
  image.putpixel((1, 0), 1)
  buffer = io.BytesIO()
  image.save(buffer, 'PNG', transparency=b'\x00\xff')
  found = images.decode(buffer.getvalue(), 'x', size=None, channels=3)
  assert found.tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_exif_turns_photos_upright():
  pixels = np.zeros((16, 32, 3), np.uint8)
  pixels[:, :16] = 255  # bright on the left
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned a quarter to the right: bright at the top
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, 'JPEG', exif=exif)
  upright = images.decode(buffer.getvalue(), 'x', size=None, channels=0)
  assert upright.shape == (32, 16, 3)
  assert upright[:12].min() > 240 and upright[-12:].max() < 15


def test_short_side_is_resized_with_antialias_and_the_centre_kept():
  stripes = np.zeros((40, 80, 3), np.uint8)
  stripes[:, ::2] = 255  # finer than the result can show: grey
  stripes[:, :18] = stripes[:, -18:] = 0  # outside of the centre
  for found in (
    read_png(stripes, size=(10, 10)),
    images.fit(stripes, size=(10, 10), channels=3),
  ):
    assert found.shape == (10, 10, 3)
    np.testing.assert_allclose(found.astype(int), 127, atol=6)
  up = images.fit(stripes, size=(80, 160), channels=3)
  assert up.shape == (80, 160, 3)
  np.testing.assert_array_equal(images.fit(stripes, size=(40, 80), channels=0), stripes)


# ---- order and batches


@pytest.mark.parametrize('n, size', [(10, 4), (7, 7), (5, 12)])
def test_every_epoch_has_every_example_once(n, size):
  indices = np.concatenate([pipeline.index_batch(n, size, 3, step) for step in range(n)])
  assert indices.dtype == np.int32 and len(indices) == n * size
  epochs = indices.reshape(size, n)
  assert (np.sort(epochs, axis=1) == np.arange(n)).all()
  assert len({tuple(e) for e in epochs.tolist()}) > 1


def test_order_depends_on_seed_and_epoch_alone():
  before = pipeline.index_batch(1000, 64, 0, 40)
  pipeline.epoch_order.cache_clear()
  np.testing.assert_array_equal(before, pipeline.index_batch(1000, 64, 0, 40))
  orders = [pipeline.epoch_order(1000, s, e).tolist() for s, e in ((0, 0), (0, 1), (1, 0))]
  assert all(a != b for a, b in itertools.combinations(orders, 2))
  with pytest.raises(ValueError, match='read-only'):
    pipeline.epoch_order(1000, 0, 0)[0] = 1


def test_fits_and_materialize():
  source = sources.ArraySource({'image': ramp(10)})
  config = config_of('npz', resident_bytes=10 * 8 * 8 * 3)
  assert pipeline.fits(source, config)
  config.resident_bytes -= 1
  assert not pipeline.fits(source, config)
  config.resident = 'yes'
  assert pipeline.fits(source, config)
  config.resident = 'no'
  assert not pipeline.fits(sources.ArraySource({'image': ramp(1)}), config)
  assert pipeline.materialize(source) == (source, [])


def test_shapes_must_not_change():
  def read(i):
    return {'image': np.zeros((4, 4 + (i == 5), 1), np.uint8)}

  for use in (pipeline.materialize, lambda s: list(pipeline.eval_batches(s, 4))):
    with pytest.raises(InputError, match=r'image of example 5 has shape \[4, 5, 1\], wanted'):
      use(sources.LazySource(read, 8))


def take(stream, count):
  return [next(stream) for _ in range(count)]


def assert_same(batches, others):
  for batch, other in zip(batches, others, strict=True):
    assert batch.keys() == other.keys()
    for name in batch:
      np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


@pytest.mark.parametrize('kind', ['arrays', 'lazy'])
def test_stream_is_the_order_looked_up(kind):
  source = lazy(11) if kind == 'lazy' else pipeline.materialize(lazy(11))[0]
  batches = take(pipeline.stream(source, batch_size=4, seed=5), 6)
  for step, batch in enumerate(batches):
    index = pipeline.index_batch(11, 4, 5, step)
    assert batch.keys() == {'image', 'index', 'skipped'}
    np.testing.assert_array_equal(batch['index'], index)
    assert batch['index'].dtype == batch['skipped'].dtype == np.int32
    np.testing.assert_array_equal(batch['image'], [source[i]['image'] for i in index])
    assert not batch['skipped'].any()


def test_restart_in_mid_epoch_continues():
  source = lazy(11, unreadable=(3, 4, 10))
  whole = take(pipeline.stream(source, batch_size=4, seed=5), 9)
  assert sum(b['skipped'].sum() for b in whole) > 3
  assert_same(take(pipeline.stream(source, batch_size=4, seed=5, start_step=5), 4), whole[5:])


def test_processes_share_the_global_batch():
  source = lazy(11, unreadable=(3, 4))
  whole = take(pipeline.stream(source, batch_size=6, seed=1), 4)
  shares = [
    take(pipeline.stream(source, batch_size=6, seed=1, process_index=i, process_count=3), 4)
    for i in range(3)
  ]
  joined = [
    {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for parts in zip(*shares, strict=True)
  ]
  assert_same(joined, whole)
  with pytest.raises(InputError, match='batch_size is 7, wanted a multiple of 3 processes'):
    pipeline.stream(source, batch_size=7, seed=1, process_count=3)


def test_workers_change_nothing(tmp_path):
  for i in range(9):
    save_flat(tmp_path / f'{i}.png', 10 * i)
  (tmp_path / '4.png').write_bytes(b'')
  source = data.load(config_of('folder', path=str(tmp_path), image_size=8), 'train')
  plain = take(pipeline.stream(source, batch_size=4, seed=2, start_step=3), 6)
  worked = pipeline.stream(source, batch_size=4, seed=2, start_step=3, workers=2)
  assert_same(take(worked, 6), plain)


def test_eval_batches_cover_the_source_in_order():
  source = lazy(10, unreadable=(6,))
  batches = list(pipeline.eval_batches(source, 4))
  assert [b['image'].shape for b in batches] == [(4, 4, 4, 1)] * 3
  valid = np.concatenate([b['valid'] for b in batches])
  assert valid.tolist() == [True] * 6 + [False] + [True] * 3 + [False] * 2
  for name, wanted in (('index', np.arange(10)), ('label', np.arange(10) % 3)):
    got = np.concatenate([b[name] for b in batches])
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got[valid], np.delete(wanted, 6))


def test_limit_takes_a_fixed_spread():
  source = sources.ArraySource({'image': ramp(200), 'label': np.arange(200) // 20})
  batches = list(pipeline.eval_batches(source, 32, limit=100))
  index = np.concatenate([b['index'][b['valid']] for b in batches])
  assert len(index) == 100 and (np.diff(index) > 0).all()
  counts = np.bincount(source.arrays['label'][index], minlength=10)
  assert counts.min() >= 4  # all classes of a set sorted by class
  again = list(pipeline.eval_batches(source, 32, limit=100))
  assert_same(batches, again)
  assert sum(b['valid'].sum() for b in pipeline.eval_batches(source, 32, limit=1000)) == 200


# ---- TFDS


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A set prepared by TFDS itself: flat images of their number, 12 to train and 6 to test on."""
  tf = pytest.importorskip('tensorflow_datasets')

  class FlatSquares(tf.core.GeneratorBasedBuilder):
    VERSION = tf.core.Version('1.0.0')

    def _info(self):
      return tf.core.DatasetInfo(
        builder=self,
        features=tf.features.FeaturesDict(
          {
            'image': tf.features.Tensor(shape=(8, 8, 3), dtype=np.uint8),
            'label': tf.features.ClassLabel(names=['red', 'green', 'blue']),
          }
        ),
      )

    def _split_generators(self, manager):
      return {
        'train': self._generate_examples(12),
        'test': self._generate_examples(6),
        'extra': self._generate_examples(6, labelled=False),
      }

    def _generate_examples(self, n, labelled=True):
      for i in range(n):
        yield i, {'image': np.full((8, 8, 3), i, np.uint8), 'label': i % 3 if labelled else -1}

  folder = tmp_path_factory.mktemp('tfds')
  FlatSquares(data_dir=folder, file_format='array_record').download_and_prepare()
  return str(folder)


def test_tfds_set(prepared, monkeypatch):
  config = config_of('tfds', dataset='flat_squares', data_dir=prepared, image_size=4)
  train, test = data.load(config, 'train'), data.load(config, 'test')
  assert (len(train), len(test)) == (12, 6) and train.classes == ('red', 'green', 'blue')
  kept, _ = pipeline.materialize(train)
  assert kept.arrays['image'].shape == (12, 4, 4, 3)
  np.testing.assert_array_equal(kept.arrays['label'], kept.arrays['image'][:, 0, 0, 0] % 3)
  assert kept.arrays['label'].dtype == np.int32
  assert sorted(kept.arrays['image'][:, 0, 0, 0]) == list(range(12))
  batch = next(pipeline.stream(train, batch_size=12, seed=0))
  np.testing.assert_array_equal(batch['image'], kept.arrays['image'][batch['index']])
  config.update(test_split='train[75%:]', channels=1, mean=(0.5,), std=(0.5,), image_size=0)
  held_out = data.load(config, 'test')
  assert len(held_out) == 3 and held_out[0]['image'].shape == (8, 8, 1)
  for fields in ({'test_split': 'extra'}, {'label_key': 'none'}):
    other = config_of('tfds', dataset='flat_squares', data_dir=prepared, **fields)
    unlabelled = data.load(other, 'test')
    assert set(unlabelled[0]) == {'image'} and unlabelled.classes is None
  # A set of one's own is found by its name alone where TFDS looks (TFDS_DATA_DIR).
  monkeypatch.setattr('tensorflow_datasets.core.constants.DATA_DIR', prepared)
  named = data.get_config('flat_squares')
  assert (named.image_size, named.preset) == (8, 'cifar') and len(data.load(named, 'train')) == 12


def test_bad_tfds(prepared, tmp_path, monkeypatch):
  def refuses(message, **fields):
    with pytest.raises(InputError, match=message):
      data.load(
        config_of('tfds', **{'dataset': 'flat_squares', 'data_dir': prepared} | fields), 'train'
      )

  refuses('data.dataset is empty', dataset='')
  refuses("TFDS has no set 'no_such_set'", dataset='no_such_set')
  refuses("data.train_split is 'half', and flat_squares has", train_split='half')
  refuses("data.image_key is 'picture', and flat_squares has image, label", image_key='picture')
  refuses(
    r"cifar10 is not prepared in .*: run python -c .*tfds.data_source\('cifar10', data_dir='.*"
    'tensorflow and importlib_resources installed',
    dataset='cifar10',
    data_dir=str(tmp_path),
  )
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  refuses(r'pip install ssljax\[tfds\]')
