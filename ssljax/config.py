"""One run's config, composed of a method's settings and a data set's."""

import math

import ml_collections
from ml_collections import ConfigDict, config_dict

from ssljax import data, methods, models, optim
from ssljax.augment import image
from ssljax.errors import InputError


def _parse(arg: str) -> tuple[str, str, dict[str, str]]:
  names, options = [], {}
  for part in filter(None, (p.strip() for p in arg.split(','))):
    key, equals, value = part.partition('=')
    if equals:
      options[key] = value
    else:
      names.append(part)
  unknown = set(options) - {'preset', 'encoder'}
  if len(names) != 2 or unknown:
    raise InputError(
      f'config argument {arg!r}: wanted method,dataset[,preset=...][,encoder=...], '
      'for example simclr,digits'
    )
  return names[0], names[1], options


def get_config(arg: str = 'simclr,digits') -> ConfigDict:
  """The config of `method,dataset`, every field with its default.

  arg: a method (`python -m ssljax.list`) and a data set (a source in ssljax/data or the name of a
    TFDS set), and if wanted `preset=tiny|cifar|imagenet`, the size of image whose settings the
    method takes (the data set's own otherwise; a method may have further ones in `PRESETS`), and
    `encoder=` another network than the preset's, of its own size and with the options of the
    preset's that it has too.

  The method gives `method`, `optim`, `encoder`, `batch_size` and `epochs`; the data set gives
  `data`. Raises InputError for a name that is not known, with the nearest that is.
  """
  method_name, dataset, options = _parse(arg)
  module = methods.load(method_name)
  source = data.get_config(dataset)
  preset = options.get('preset', source.preset)
  presets = methods.presets(method_name)
  if preset not in presets:
    raise InputError(f'preset is {preset!r}, wanted one of {", ".join(presets)}')
  settings = module.get_config(preset)
  on_graphs = methods.available()[method_name] == 'graph'
  config = ConfigDict(
    {
      'seed': 0,
      'steps': config_dict.placeholder(int),  # if not given, `epochs` decides
      'epochs': float(settings.epochs),
      'batch_size': settings.batch_size,
      'init_from': '',  # workdir whose newest `init_parts` this run begins with, or 'hf:' weights
      'init_parts': ('encoder',),
      'micro_batches': 1,  # > 1: exact gradient accumulation, see method.make_gradient
      'compute_dtype': 'float32',
      'log_every': 10,
      'eval_every': 0,  # 0: only after the last step
      'checkpoint_every': 500,
      'checkpoint': {'keep_last': 2, 'keep_best': ''},
      'mesh': {'data': -1, 'fsdp': 1, 'fsdp_min_size': 2**16},
      'distributed': {'coordinator': '', 'num_processes': 0, 'process_id': -1},
      'compilation_cache': 'auto',
      'report': True,
      'tensorboard': False,
      'eval': {
        # (), of graphs: those that fit the data, see evaluators.graphs.fitting
        'protocols': () if on_graphs else ('knn-v1', 'linear-v1'),
        'train_examples': 10000,
        'test_examples': 10000,
        'batch_size': 256,
        'feature': 'features',  # or what else the method gives: 'cls', of a ViT 'block_3'
        'baselines': ('random', 'raw'),  # by the same protocols: an untrained encoder, the input
      },
      'data': source,
      'encoder': _encoder(options.get('encoder', settings.encoder.name), settings.encoder),
      'optim': optim.get_config(**settings.optim),
      'method': {'name': method_name, **settings.method},
    }
  )
  with config.unlocked():
    if 'views' in config.method:
      _fit_views(config.method.views, config)
    if 'patch_size' in config.method:
      if 'patch_size' not in config.encoder:
        raise InputError(
          f'encoder is {config.encoder.name}, but {method_name} hides patches: wanted one that has '
          'them, for example encoder=vit_tiny'
        )
      config.method.patch_size = config.encoder.get_ref('patch_size')
    if 'depth' in config.method:
      config.method.depth = config.encoder.get_ref('depth')
  return config


# What makes an encoder larger or smaller, and is never of a preset for another one.
SIZES = (
  'block', 'depth', 'depths', 'dim', 'group_width', 'groups', 'heads', 'hidden', 'last_heads',
  'mlp', 'mlp_hidden', 'mlp_ratio', 'remat', 'se_ratio', 'stem_width', 'swiglu_align', 'width',
  'widths',
)  # fmt: skip


def _encoder(name: str, preset: ConfigDict) -> ConfigDict:
  """The options of an encoder, with those of the preset's encoder that are for it too."""
  config = models.get_config(name)
  if name == preset.name:
    config.update(preset)
  else:
    # Of one type: 'pool' is a word of a ViT, and a number of a scattering network.
    shared = set(preset) & set(config) - {'name', *SIZES}
    same = [field for field in shared if type(preset[field]) is type(config[field])]
    config.update({field: preset[field] for field in same})
  return config


def _fit_views(views: ConfigDict, config: ConfigDict) -> None:
  """Ties what views, data and encoder must agree on; a flag that changes one changes all."""
  several = [views] if 'size' in views else list(views.values())
  for view in several:
    if config.data.image_size:
      view.size = min(view.size, config.data.image_size)
    for field in ('mean', 'std'):
      view[field] = config.data.get_ref(field)
  if 'image_size' in config.encoder:
    config.encoder.image_size = image.main(views).get_ref('size')


def from_json(fields: dict) -> ConfigDict:
  """A config read back from a run's config.json.

  Options of the optimizer, the encoder and the data that came after the run have their defaults.
  """

  def tuples(value):
    if isinstance(value, dict):
      return {k: tuples(v) for k, v in value.items()}
    return tuple(tuples(v) for v in value) if isinstance(value, list) else value

  config = ml_collections.ConfigDict(tuples(fields))
  defaults = {
    'optim': optim.get_config(),
    'encoder': models.get_config(config.encoder.name),
    'data': data.get_config(config.data.name),
  }
  for part, options in defaults.items():
    options.update(config[part])
    config[part] = options
  return config


def total_steps(config: ConfigDict, num_examples: int) -> int:
  """How many optimizer steps the run has; raises InputError where the fields cannot be met."""
  for field, least in {
    'log_every': 1,
    'checkpoint_every': 1,
    'micro_batches': 1,
    'eval_every': 0,
    'seed': 0,
  }.items():
    if config[field] < least:
      raise InputError(f'{field} is {config[field]}, wanted at least {least}')
  if config.batch_size < 1 or config.batch_size > num_examples:
    raise InputError(
      f'batch_size is {config.batch_size}, wanted 1 to {num_examples}, the number of training '
      f'examples of {config.data.name}'
    )
  if config.steps is not None:
    steps, said = config.steps, f'steps is {config.steps}'
  elif not math.isfinite(config.epochs):
    raise InputError(f'epochs is {config.epochs}, wanted a finite number')
  else:
    steps = round(config.epochs * num_examples / config.batch_size)
    said = f'epochs is {config.epochs}, which makes {steps} steps'
  if steps < 1:
    raise InputError(f'{said}, wanted at least 1 step')
  return steps
