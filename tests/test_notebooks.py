"""The notebooks are stored clean, run from top to bottom and show what their text speaks of."""

import base64
import io
import os
import pathlib

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from matplotlib.image import imread
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / 'notebooks').glob('*.ipynb'))}

# How many pictures a notebook draws, and words that its cells must put out.
SHOWN = {
  'graphs': (3, ('nodes', 'loss', 'learned', 'random', 'words')),
  'losses_elsewhere': (2, ('8 devices', 'gradient off by', 'MiB chunked')),
  'quickstart': (5, ('knn-v1', 'learned', 'random', 'raw', 'same digit', '<iframe srcdoc=')),
  'what_a_vit_sees': (5, ('trained', 'even shares', 'CorLoc', 'most_localization', 'square')),
}


def test_every_notebook_has_its_wanted_output():
  assert set(NOTEBOOKS) == set(SHOWN)


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_stored_clean(name):
  text = NOTEBOOKS[name].read_text()
  notebook = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
  nbformat.validate(notebook)
  assert set(notebook.metadata) == {'kernelspec', 'language_info'}
  assert notebook.metadata.kernelspec.name == 'python3'
  assert notebook.metadata.language_info == {'name': 'python'}
  assert not any(cell.metadata for cell in notebook.cells)
  code = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert not any(cell.outputs or cell.execution_count for cell in code)
  assert len(text) < 40_000


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_runs_and_shows(name, tmp_path, monkeypatch):
  write_kernel_spec(tmp_path / 'jupyter' / 'kernels' / 'python3')  # of this very interpreter
  monkeypatch.setenv('JUPYTER_PATH', str(tmp_path / 'jupyter'))
  monkeypatch.setenv('JUPYTER_RUNTIME_DIR', str(tmp_path / 'runtime'))
  monkeypatch.setenv('IPYTHONDIR', str(tmp_path / 'ipython'))
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
  monkeypatch.delenv('XLA_FLAGS')  # one device, unless the notebook makes more
  monkeypatch.setenv('SSLJAX_SHORT', '1')
  monkeypatch.delenv('MPLBACKEND', raising=False)

  notebook = nbformat.read(NOTEBOOKS[name], as_version=nbformat.NO_CONVERT)
  folder = tmp_path / 'work'
  folder.mkdir()
  resources = {'metadata': {'path': str(folder)}}
  NotebookClient(notebook, kernel_name='python3', timeout=300, resources=resources).execute()

  code = [cell for cell in notebook.cells if cell.cell_type == 'code']
  outputs = [output for cell in code for output in cell.outputs]
  data = [output.data for output in outputs if 'data' in output]
  pictures = [
    imread(io.BytesIO(base64.b64decode(d['image/png']))) for d in data if 'image/png' in d
  ]
  said = ''.join(d.get('text/html', '') for d in data) + ''.join(o.get('text', '') for o in outputs)
  wanted, words = SHOWN[name]
  assert len(pictures) == wanted
  assert all(picture[..., :3].std() > 0.01 for picture in pictures)
  assert not [word for word in words if word not in said]
  assert 'Warning' not in said.partition('<iframe')[0]
