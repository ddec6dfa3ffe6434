"""The report is one whole file that says the right things; metrics.jsonl survives a kill."""

import html.parser
import io
import json
import math
import re
import sys

import numpy as np
import pytest

from ssljax import report
from ssljax.errors import InputError
from ssljax.report import embed2d, gallery, page, plots, results, tiles, words
from ssljax.report.metrics import MetricsWriter, read
from ssljax.report.progress import Progress

CLASSES = ('cat & dog', '<b>bird</b>', 'ship')
METRICS = {
  'knn-v1/learned': 0.712,
  'knn-v1/random': 0.472,
  'knn-v1/raw': 0.402,
  'linear-v1/learned': 0.6,
  'linear-v1/random': 0.5,
  'linear-v1/raw': 0.65,
  'rankme': 12.5,
  'loss': 1.25,
}
SUMMARY = {
  'method': 'simclr',
  'dataset': 'digits',
  'steps': 1200,
  'seed': 3,
  'params_sha256': 'ab' * 32,
  'versions': {'jax': '0.10.2', 'numpy': '2.4.6'},
  'seconds': 3725,
  'images_per_second': 2310.4,
  'peak_memory_bytes': 3 * 2**30,
  'metrics': METRICS,
}
CONFIG = {'batch_size': 64, 'encoder': {'name': 'resnet10'}, 'data': {'path': '<script>x</script>'}}
HISTORY = [{'step': s, 'loss': 3.0 - s / 100, 'chance_loss': 4.8} for s in range(10, 100, 10)]
HISTORY += [{'step': 50, 'knn-v1/learned': 0.5}, {'step': 100, 'knn-v1/learned': 0.712}]


def inputs(count=60):
  rng = np.random.default_rng(0)
  label = np.arange(count) % 3
  features = 4 * np.eye(8)[label] + rng.normal(size=(count, 8))
  images = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
  return {
    'summary': SUMMARY,
    'config': CONFIG,
    'history': HISTORY,
    'features': features,
    'labels': label,
    'classes': CLASSES,
    'images': images,
    'views': rng.random((4, 2, 8, 8, 3)),
    'pictures': {'image, kept, reconstruction': rng.random((4, 3, 8, 8, 1))},
    'looking': {'image, attention': rng.random((4, 2, 8, 8, 3))},
    'blocks': {'attention_nmi': np.array([0.5, 0.3, 0.1]), 'high_frequency': -np.arange(3.0)},
    'warnings': ['features use <2 directions'],
  }


class Page(html.parser.HTMLParser):
  """Checks that tags are balanced and collects what a page asks for."""

  EMPTY = ('meta', 'link', 'img', 'path', 'use')

  def __init__(self, text):
    super().__init__()
    self.open, self.attributes, self.titles, self.tags = [], [], [], []
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.attributes += attributes
    if tag not in ('meta', 'link', 'img'):
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.tags.append(tag)
    self.attributes += attributes

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] == 'h2':
      self.titles.append(data)


def written(tmp_path, **changes):
  path = tmp_path / 'report.html'
  report.write(path, **(inputs() | changes))
  assert [p.name for p in tmp_path.iterdir()] == ['report.html']
  return path.read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def full(tmp_path_factory):
  return written(tmp_path_factory.mktemp('report'))


def test_one_whole_page_that_needs_nothing(full):
  assert full.startswith('<!doctype html>') and full.count('<html') == 1
  assert 'width=device-width' in full and 'prefers-color-scheme: dark' in full
  parsed = Page(full)
  assert parsed.titles == [
    'Doctor', 'Probes', 'Without labels', 'Training', 'Feature map', 'Nearest neighbours',
    'Classes among classes', 'Views', 'What the method makes', 'What the encoder looks at',
    'Block by block', 'Spectrum', 'The run', 'Config',
  ]  # fmt: skip
  assert not re.search(r'https?:|//|@import', re.sub(r'base64,[\w+/=]*', '', full))
  assert 'script' not in parsed.tags
  ids = [value for name, value in parsed.attributes if name == 'id']
  assert len(ids) == len(set(ids))
  links = [value for name, value in parsed.attributes if name in ('src', 'href')]
  assert all(v.startswith('data:') or v.removeprefix('#') in ids for v in links)
  assert set(re.findall(r'url\(#(.*?)\)', full)) <= set(ids)
  # No colour of a figure is fixed but those of classes: the rest follow light and dark.
  assert not re.search(r'(fill|stroke): #', full)
  assert parsed.tags.count('figcaption') == parsed.tags.count('figure') >= 6


def test_says_what_the_numbers_say(full):
  text = re.sub(r'<[^>]+>', '', full)
  assert 'kNN 71.2%: +24.0 points over a random encoder, +31.0 points over raw pixels.' in text
  assert 'Not ahead of raw pixels by linear probe.' in text
  assert 'Always naming the most frequent class gives 33.3%.' in text
  assert '1 h 2 min' in text and '3.0 GiB' in text and '2,310' in text
  assert 'jax 0.10.2, numpy 2.4.6' in text
  best = re.findall(r'<td class="[^"]*best"[^>]*>(.*?)</td>', full)
  assert best == ['71.2%', '65.0%']


def test_text_is_escaped(full):
  assert '<script>x' not in full and '&lt;script&gt;x' in full
  assert '<b>bird' not in full and '&lt;b&gt;bird' in full
  assert 'features use &lt;2 directions' in full
  assert page.tag('p', 'a<b', page.tag('b', '&'), title='"') == (
    '<p title="&quot;">a&lt;b<b>&amp;</b></p>'
  )


@pytest.mark.parametrize(
  ('changes', 'missing'),
  [
    ({'features': None}, ['Feature map', 'Nearest', 'Classes among', 'Spectrum']),
    ({'labels': None}, ['Classes among']),
    ({'classes': None}, []),
    ({'images': None}, ['Nearest']),
    ({'images': inputs()['images'][:7]}, []),
    ({'views': None, 'pictures': None}, ['Views', 'What the method']),
    ({'looking': None, 'blocks': None}, ['What the encoder', 'Block by']),
    ({'looking': {}, 'blocks': {'high_frequency': np.zeros(1)}}, ['What the encoder', 'Block by']),
    ({'views': {'global': inputs()['views'], 'local': inputs()['views'][..., :4, :4, :]}}, []),
    ({'labels': np.zeros(60, int)}, ['Classes among']),
    ({'labels': np.full(60, -1)}, ['Classes among']),
    ({'features': np.ones((60, 8))}, ['Spectrum']),
    ({'features': np.outer(np.arange(1, 61), np.ones(8))}, []),
    (
      {'features': np.full((60, 8), np.nan)},
      ['Feature map', 'Nearest', 'Classes among', 'Spectrum'],
    ),
    ({'features': inputs()['features'][:, :1]}, ['Spectrum']),
    ({'features': np.ones((2, 8)), 'labels': None}, ['Feature map', 'Classes among', 'Spectrum']),
    ({'features': np.eye(5), 'labels': np.arange(5)}, []),
    ({'history': []}, ['Training']),
    ({'history': [{'step': 1, 'loss': 2.0}]}, ['Training']),
    ({'summary': {}}, ['Probes', 'Without', 'The run']),
    (
      {'summary': {'metrics': {'knn-v1/learned': 0.5, 'loss': math.nan, 'lidar': None}}},
      ['The run'],
    ),
    ({'config': {}}, ['Config']),
    ({'warnings': ()}, []),
  ],
)
def test_leaves_out_what_is_not_there(tmp_path, changes, missing):
  shown = 'Feature map', 'Nearest', 'Classes among', 'Views', 'What the method', 'Spectrum'
  shown += 'Training', 'Doctor', 'Probes', 'Without', 'The run', 'Config', 'What the encoder'
  shown += ('Block by',)
  titles = Page(written(tmp_path, **changes)).titles
  absent = [s for s in shown if not any(t.startswith(s) for t in titles)]
  wanted = {s for s in shown if any(s.startswith(m) for m in missing)}
  assert set(absent) == wanted and all(any(s.startswith(m) for s in shown) for m in missing)


def test_refuses_lengths_that_do_not_agree(tmp_path):
  with pytest.raises(ValueError, match=r'labels has shape \(59,\), wanted \(60,\)'):
    written(tmp_path, labels=np.zeros(59, int))
  with pytest.raises(ValueError, match=r'features has shape \(60,\)'):
    written(tmp_path, features=np.zeros(60))


def test_rows_that_are_not_finite_go_with_their_images(tmp_path):
  features = inputs()['features']
  features[3] = np.inf
  assert '59 examples' in written(tmp_path, features=features)


def test_collapse_is_said_in_words(tmp_path):
  said = 'All features point the same way'
  assert said in written(tmp_path, features=np.outer(np.arange(1, 61), np.ones(8)))
  assert said not in written(tmp_path)


def test_stays_small(tmp_path, monkeypatch):
  monkeypatch.setattr(embed2d, 'maps', lambda x: {})
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (80, 224, 224, 3), dtype=np.uint8)
  views = noise.reshape(8, 10, 224, 224, 3) / 255
  features, labels = rng.normal(size=(80, 16)), np.arange(80)
  text = written(
    tmp_path, images=noise, views=views, features=features, labels=labels, pictures={'a': views}
  )
  assert len(text) < 3e6
  assert 'most often mixed up' in text  # 80 classes make no readable square


def test_curves_name_what_is_not_finite_and_follow_the_range():
  lines = [{'step': s, 'loss': math.nan if s == 4 else 10.0**-s} for s in range(1, 6)]
  text = results.curves(lines + [{'step': 6, 'loss': None}], {})
  assert '2 not finite, the first at step 4' in text
  assert '>0.0001<' in text and '>0.01<' in text  # decades: a logarithmic axis
  levels = results.curves(HISTORY, METRICS)
  assert '>chance<' in levels and '>random<' in levels and '>raw<' in levels
  assert '60%' in levels and 'kNN (knn-v1)' in levels


def test_long_curves_are_thinned_without_losing_extremes():
  y = np.zeros(10000)
  y[5000], y[7000] = 40.0, math.nan
  x, mean, low, high = plots._stretches(np.arange(10000.0), y, 200)
  assert len(x) == 200 and high.max() == 40 and low.min() == 0 and mean.max() == 40 / 50
  assert len(plots.curve('long', np.arange(10000), y)) < 40000


def test_scatter_has_every_point_in_its_colour():
  points = np.random.default_rng(0).normal(size=(50, 2))
  svg = plots.scatter('map', points, ['red'] * 20 + ['blue'] * 30)
  found = {c: ''.join(re.findall(rf'stroke="{c}" d="(.*?)"', svg)) for c in ('red', 'blue')}
  assert found['red'].count('M') == 20 and found['blue'].count('M') == 30
  xy = np.array(re.findall(r'M([\d.]+) ([\d.]+)h0', found['red'] + found['blue']), float)
  assert xy.min() >= 8 and xy.max() <= 312
  scale = np.ptp(points, axis=0).max() / 304
  want = points - points[0]
  np.testing.assert_allclose((xy - xy[0]) * scale * [1, -1], want, atol=0.11 * scale)
  assert len(set(plots.palette(100))) == 100


def test_neighbours_and_confusion_of_known_features():
  angle = np.deg2rad([0, 10, 25, 90, 101, 118])
  x = np.stack([np.cos(angle), np.sin(angle)], 1) * np.array([[1, 9, 2, 3, 5, 1]]).T
  nearest, cosine = embed2d.neighbours(x, np.array([0, 4]), 2)
  np.testing.assert_array_equal(nearest, [[1, 2], [3, 5]])
  np.testing.assert_allclose(cosine, np.cos(np.deg2rad([[10, 25], [11, 17]])), atol=1e-6)
  classes, share = embed2d.confusion(x, np.array([7, 7, 7, 9, 9, 7]), k=2)
  np.testing.assert_array_equal(classes, [7, 9])
  # The last example of class 7 lies among class 9; those of class 9 have one neighbour of each.
  np.testing.assert_allclose(share, [[0.75, 0.25], [1.0, 0.0]])


def test_spectrum_and_pca_of_known_features():
  basis = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 3)) - 0.0)[0]
  basis = np.linalg.qr(basis - basis.mean(0))[0]
  x = basis * [8.0, 4.0, 1.0] + 5.0
  np.testing.assert_allclose(embed2d.spectrum(x), [1, 0.5, 0.125], atol=1e-6)
  _, share = embed2d.pca(x, 50)
  np.testing.assert_allclose(share, np.array([64, 16, 1]) / 81, atol=1e-6)
  assert '2 of 3 directions hold 90%' in gallery.spectrum(x)


def test_maps_put_like_with_like():
  given = inputs()
  with embed2d.one_thread():
    maps = embed2d.maps(given['features'])
  assert [name.split()[0] for name in maps][:2] == ['PCA', 't-SNE']
  for points in maps.values():
    _, share = embed2d.confusion(points - points.mean(0), given['labels'], k=5)
    assert points.shape == (60, 2) and np.trace(share) / 3 > 0.8


def test_tiles_keep_small_pictures_and_shrink_large_ones():
  from PIL import Image

  def decode(uri):
    import base64

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(',')[1]))))

  small = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
  np.testing.assert_array_equal(decode(tiles.data_uri(small)), small)
  np.testing.assert_array_equal(decode(tiles.data_uri(small / 255.0)), small)
  grey = decode(tiles.data_uri(small[..., :1]))
  np.testing.assert_array_equal(grey, np.repeat(small[..., :1], 3, -1))
  assert decode(tiles.data_uri(np.full((300, 200, 3), 2.0))).shape == (96, 64, 3)


def test_words():
  assert words.gain(0.5, 0.512) == '−1.2 points' and words.gain(30.0, 20.0) == '+10'
  assert words.protocol('linear-v12') == 'linear probe' and words.protocol('map-v1') == 'map-v1'
  said = [words.duration(s) for s in (0.4, 59.7, 3600, 90061, math.inf)]
  assert said == ['0 s', '1 min', '1 h', '1 d 1 h', '--']
  assert words.size(5 * 2**20) == '5.0 MiB' and words.number(12345.6) == '12,346'


def test_metrics_round_trip_as_strict_json(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  with MetricsWriter(path) as writer:
    writer.write({'step': np.int32(1), 'loss': np.float32(0.5), 'norm': math.inf})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
      'step': 1, 'loss': 0.5, 'norm': None,
    }  # fmt: skip
  assert read(path)[0]['step'] == 1 and math.isnan(read(path)[0]['norm'])
  assert read(tmp_path / 'absent') == []
  with MetricsWriter(None) as writer:
    writer.write({'step': 1})
    writer.truncate_after(0)


@pytest.mark.parametrize('torn', ['{"step": 4, "lo', '{"step": 4}', '{"step"', '4'])
def test_a_resumed_run_drops_later_and_torn_lines(tmp_path, torn):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": null}\n{"step": 3}\n' + torn)
  with MetricsWriter(path) as writer:
    assert path.read_text().endswith('}\n')
    writer.truncate_after(2)
    writer.write({'step': 3, 'loss': 1})
  assert [line['step'] for line in read(path)] == [1, 2, 3]
  assert read(path)[2]['loss'] == 1 and '"loss": null' in path.read_text()
  assert [p.name for p in tmp_path.iterdir()] == ['metrics.jsonl']


def test_a_foreign_line_is_named(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1}\nhello\n{"step": 2}\n')
  with pytest.raises(InputError, match=r'metrics.jsonl line 2 '):
    read(path)


def test_tensorboard_is_asked_for_by_name(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)
  with pytest.raises(InputError, match=r'pip install ssljax\[tensorboard\]'):
    MetricsWriter(tmp_path / 'metrics.jsonl', tensorboard=True)


def test_tensorboard_events_are_written(tmp_path):
  pytest.importorskip('tensorboardX')
  with MetricsWriter(tmp_path / 'metrics.jsonl', tensorboard=True) as writer:
    writer.write({'step': 1, 'loss': 0.5, 'norm': math.nan})
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert b'loss' in events.read_bytes() and b'norm' not in events.read_bytes()


def test_progress_speaks_now_and_then_and_at_the_end(monkeypatch):
  clock, said = [100.0], []
  monkeypatch.setattr('time.monotonic', lambda: clock[0])
  progress = Progress(200, 100, said.append)
  for step in range(101, 201):
    clock[0] += 60.0 if step == 101 else 1.0  # the first compiles
    progress({'step': step, 'loss': 2.0, 'images_per_second': 2310.4, 'data_wait_fraction': 0.004})
  assert said[0] == 'step 101/200: loss 2.0000, 2,310 images/s, data wait 0.4%'
  assert said[1] == 'step 111/200: loss 2.0000, 2,310 images/s, data wait 0.4%, 1 min 29 s left'
  assert said[-1].startswith('step 200/200:') and 'left' not in said[-1]
  assert len(said) == 11


def test_progress_draws_a_bar_on_a_terminal(monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  screen = Terminal()
  monkeypatch.setattr(sys, 'stdout', screen)
  monkeypatch.setenv('TERM', 'xterm')
  progress = Progress(4)
  for step in (2, 3, 4):
    progress({'step': step, 'loss': 0.25})
  progress.close()
  assert 'step 4/4' in screen.getvalue() and 'loss 0.2500' in screen.getvalue()
  assert screen.getvalue().rstrip().endswith('\x1b[?25h')  # the cursor is shown again
