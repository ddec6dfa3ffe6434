"""Named tensors in files: safetensors, torch's .pth, .pt and .bin, and folders of Hugging Face."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ssljax.convert import torch_zip
from ssljax.errors import InputError

# In a folder, the first of these that is there.
NAMES = (
  'model.safetensors.index.json',
  'model.safetensors',
  'pytorch_model.bin.index.json',
  'pytorch_model.bin',
)


class Tensor(NamedTuple):
  """shape, and `load` for the array itself, which is not read before it is needed."""

  shape: tuple[int, ...]
  load: Callable[[], np.ndarray]


class Weights(NamedTuple):
  """tensors: by name, those of nested dicts with dots; config: of a config.json beside them;
  metadata: of a safetensors file."""

  path: pathlib.Path
  tensors: dict[str, Tensor]
  config: dict[str, Any]
  metadata: dict[str, str]


def read(path: str | pathlib.Path) -> Weights:
  """Opens a file, or a folder as Hugging Face's libraries write it.

  Raises InputError if there is none, or if it is damaged or may run code.
  """
  path = pathlib.Path(path).expanduser()
  if path.is_dir():
    found = next((path / name for name in NAMES if (path / name).is_file()), None)
    if found is None:
      raise InputError(f'{path} has no weights, wanted one of {", ".join(NAMES)} in it')
    path = found
  if not path.is_file():
    raise InputError(f'there is no file {path}')
  beside = path.parent / 'config.json'
  in_folder = path.name in NAMES or path.name.startswith(('model-', 'pytorch_model-'))
  config = _json(beside) if in_folder and beside.is_file() else {}
  if not path.name.endswith('.index.json'):
    tensors, metadata = _read_one(path)
    return Weights(path, tensors, config, metadata)
  tensors = {}
  for name in sorted(set(_json(path).get('weight_map', {}).values())):
    if pathlib.Path(name).name != name:
      raise InputError(f'{path} names {name!r}, wanted a file beside it')
    tensors |= _read_one(path.parent / name)[0]
  return Weights(path, tensors, config, {})


def _read_one(path):
  if not path.is_file():
    raise InputError(f'there is no file {path}')
  if path.suffix == '.safetensors':
    return _read_safetensors(path)
  tree, load = torch_zip.open_zip(path)
  tensors = {}

  def visit(name, node):
    if isinstance(node, torch_zip.Tensor):
      tensors[name] = Tensor(node.shape, lambda: load(node))
    elif isinstance(node, dict):
      for key, value in node.items():
        visit(f'{name}.{key}' if name else str(key), value)

  visit('', tree)
  if not tensors:
    raise InputError(f'{path} has no tensors by name, wanted a state_dict')
  return tensors, {}


def _read_safetensors(path):
  from safetensors import SafetensorError, safe_open

  try:
    file = safe_open(path, 'np')
    tensors = {}
    for name in file.keys():  # noqa: SIM118
      load = lambda name=name: file.get_tensor(name)  # noqa: E731
      tensors[name] = Tensor(tuple(file.get_slice(name).get_shape()), load)
    return tensors, file.metadata() or {}
  except (SafetensorError, OSError) as error:
    line = str(error).splitlines()[0]
    raise InputError(f'{path} is damaged or cut off ({line}): wanted a whole file') from None


def _json(path):
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise InputError(f'{path} is no JSON ({error})') from None
  if not isinstance(found, dict):
    raise InputError(f'{path} is no JSON object')
  return found


def write(path: str | pathlib.Path, tensors, *, metadata, config=None, overwrite=False):
  """Writes a safetensors file, or a folder with one and its config.json, all or nothing.

  Raises InputError if it is there already and `overwrite` is not said, or cannot be written.
  """
  from safetensors import SafetensorError
  from safetensors.numpy import save_file

  path = pathlib.Path(path).expanduser()
  folder = path.suffix != '.safetensors'
  if folder and path.suffix in ('.pth', '.pt', '.bin'):
    raise InputError(f'{path} has the suffix {path.suffix}, wanted .safetensors or a folder')
  target = path / 'model.safetensors' if folder else path
  beside = target.with_name('config.json') if folder and config else None
  for file in filter(None, (target, beside)):
    if file.exists() and not overwrite:
      raise InputError(f'{file} exists already: wanted a new file, or overwrite')
  try:
    if folder:
      path.mkdir(exist_ok=True)
    part = target.with_name(target.name + '.part')
    whole = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    save_file(whole, part, metadata={'format': 'pt', **metadata})
    os.replace(part, target)
    if beside:
      beside.write_text(json.dumps(config, indent=2) + '\n', encoding='utf-8')
  except (SafetensorError, OSError) as error:
    raise InputError(f'{path} cannot be written: {error}') from None
  return target
