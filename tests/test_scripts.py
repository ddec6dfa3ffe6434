"""The scripts that write result files, run whole on tiny runs."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from ssljax.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parent.parent
OTHER = {'method': 'other', 'mean': {}, 'seeds': [0]}
TINY = (
  '--config.steps=2', '--config.batch_size=8', '--config.eval_every=1', '--config.log_every=1',
  '--config.data.train_size=16', '--config.data.test_size=16', '--config.encoder.depth=1',
  '--config.report=False',
  "--config.eval.protocols=('knn-v1',)",
)  # fmt: skip


def script(name, *words):
  """Runs a script with these words on its command line, in this process."""
  spec = importlib.util.spec_from_file_location(name, ROOT / 'scripts' / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('sys.argv', [f'{name}.py', *map(str, words)])
    module.run(None)


def compare(folder, *words):
  out = folder / 'compared.json'
  given = '--methods=mae', '--data=scenes,preset=tiny', f'--runs={folder}', f'--out={out}'
  script('compare', *given, *words, '--', *TINY)
  return json.loads(out.read_text())


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
  """(folder of the run mae-0, what scripts/compare.py wrote)."""
  folder = tmp_path_factory.mktemp('scripts')
  (folder / 'compared.json').write_text(json.dumps({'rows': [OTHER]}))
  words = '--seeds=0', '--curves=rankme,loss,absent', '--note_mae=a remark'
  return folder, compare(folder, *words)


def test_compare_keeps_rows_and_curves(compared, capsys):
  folder, result = compared
  assert result['rows'][0] == OTHER and result['protocols'].keys() == {'knn-v1'}
  row = result['rows'][1]
  assert (row['method'], row['steps'], row['note'], row['seeds']) == ('mae', 2, 'a remark', [0])
  metrics = [json.loads(x) for x in (folder / 'mae-0' / 'metrics.jsonl').read_text().splitlines()]
  losses = [[line['step'], line['loss']] for line in metrics if 'loss' in line]
  assert row['curves']['loss'] == losses and len(losses) == 2
  assert row['curves']['rankme'] and row['curves'].keys() == {'loss', 'rankme'}
  assert {f'knn-v1/{kind}' for kind in ('learned', 'random', 'raw')} <= row['mean'].keys()
  again = compare(folder, '--seeds=0')['rows'][1]  # the run is done
  assert again['params_sha256'] == row['params_sha256'] and not again['curves']
  assert 'step 1/2' not in capsys.readouterr().out


def test_discover_and_dense_read_a_run(compared):
  folder, _ = compared
  pictures, found = folder / 'pictures', folder / 'found.json'
  words = f'--workdir={folder / "mae-0"}', '--scenes=3', f'--pictures={pictures}', f'--out={found}'
  script('discover', *words)
  rows = json.loads(found.read_text())['discovery']
  assert len(rows) == 1 + 3 * 3 * 2 and 'lost/learned/centred' in rows
  assert all(0 <= row['corloc'] <= 1 for row in rows.values())
  with Image.open(pictures / 'discovery.png') as picture:
    assert picture.width > 3 * 48

  rng = np.random.default_rng(0)
  # Left is dark and the table, right is bright and an object.
  label = np.tile(np.repeat(np.uint8([1, 30]), 12), (4, 24, 1))
  images = (rng.integers(0, 60, (4, 24, 24, 3)) + 150 * (label == 30)[..., None]).astype(np.uint8)
  data, out = folder / 'tabletop.npz', folder / 'dense.json'
  np.savez(data, train_rgb=images, train_label=label, test_rgb=images, test_label=label)
  script('dense', f'--workdir={folder / "mae-0"}', f'--data={data}', '--name=x', f'--out={out}')
  dense = json.loads(out.read_text())
  kinds = {name.split('/')[1] for name in dense['dense']}
  assert kinds == {'learned', 'random', 'raw'} and dense['images']['test'] == [4, 24, 24, 3]
  raw = [row for name, row in dense['dense'].items() if name.endswith('/raw')]
  assert all(row['miou'] > 0.9 for row in raw), raw
  assert dense['most frequent class everywhere']['miou'] < 0.5
  with pytest.raises(InputError, match='absent.npz: there is no such file'):
    script('dense', f'--workdir={folder / "mae-0"}', '--data=absent.npz', '--name=x')


def test_graph_reports_several_labels_by_share(tmp_path):
  """Of two groups of nodes, some nodes in both; an older row keeps what defines its scores."""
  rng = np.random.default_rng(0)
  pairs = rng.integers(30, size=(300, 2))
  edges = np.concatenate([pairs, 30 + pairs, [[0, 30]]])
  groups = np.array([[i, int(i >= 30)] for i in range(60)] + [[0, 1], [40, 0]])
  np.savez(tmp_path / 'blogcatalog_karate.npz', blog_n=60, blog_edges=edges, blog_groups=groups)
  out = tmp_path / 'graph.json'
  old = {**OTHER, 'data': 'cora'}
  out.write_text(json.dumps({'rows': [old], 'graph_protocols': {'older-v1': {'metric': 'any'}}}))
  words = f'--data={tmp_path}', f'--runs={tmp_path}', f'--out={out}'
  script('graph', *words, '--only=fastrp:BlogCatalog', '--seeds=0,1')
  result = json.loads(out.read_text())
  assert {'older-v1', 'multi-label-v1'} <= result['graph_protocols'].keys()
  kept, row = result['rows']
  assert kept == old and row['protocol'] == 'multi-label-v1' and row['seeds'] == [0, 1]
  assert row['mean'].keys() == {
    f'multi-label-v1-{kind}-{n}/learned' for kind in ('macro', 'micro') for n in (10, 50, 90)
  }
  assert row['mean']['multi-label-v1-micro-90/learned'] > 0.8
