"""What the commands share: flags, and errors as one sentence with exit code 2."""

import difflib
import keyword
import re
import sys
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import config_flags

from ssljax.errors import InputError


def run(command: Callable[[Sequence[str]], None]) -> None:
  """Runs `command(argv)`; whatever the user can mend ends in one sentence and exit code 2."""
  try:
    command(sys.argv)
  except InputError as error:
    print(f'ssljax: {error}', file=sys.stderr)
    sys.exit(2)


def parse(argv: Sequence[str], define: Callable[[flags.FlagValues], None], usage: str):
  """Flag values of `argv`, from what `define` declares; `--help` prints `usage` and exits 0."""
  values, argv = flags.FlagValues(), _quoted(argv)
  define(values)
  if {'--help', '-h', '--helpfull'} & set(argv[1:]):
    ours = [module for module in values.flags_by_module_dict() if module != 'absl.flags']
    print(usage.strip(), *map(values.module_help, ours), sep='\n')
    sys.exit(0)
  try:
    rest = values(list(argv))
    for name in values:
      getattr(values[name].value, 'items', None)  # a config that could not be loaded raises here
  except flags.UnrecognizedFlagError as error:
    near = difflib.get_close_matches(error.flagname, list(values), n=1)
    hint = f', did you mean --{near[0]}?' if near else ''
    raise InputError(f'there is no flag --{error.flagname}{hint}') from error
  except (flags.Error, InputError) as error:
    # config_flags wraps what a config file raises, with its traceback as text.
    if 'TypeError: get_config()' in (line := _last_line(error)):
      raise InputError(
        f'--config: {line.removeprefix("TypeError: ")}, wanted file.py:argument where it takes one'
      ) from error
    raise InputError(str(_first_input_error(error) or error)) from error
  except (AttributeError, KeyError) as error:  # how config_flags says that a field is unknown
    if "no attribute 'get_config'" in str(error):
      raise InputError('--config: the file has no function get_config, wanted one') from error
    seen, near = re.search(r"'(\w+)\\?'", str(error)), re.search(r'mean "(\w+)"', str(error))
    name = seen.group(1) if seen else str(error)
    hint = f', did you mean {near.group(1)}?' if near else ''
    raise InputError(f'the config has no field {name!r}{hint}') from error
  except ValueError as error:  # config_flags: what follows --config. is no path
    raise InputError(f'--config: {_last_line(error)}: wanted --config.field=value') from error
  except OSError as error:
    raise InputError(f'--config: {_last_line(error)}') from error
  if len(rest) > 1:
    raise InputError(f'{rest[1]!r} is no flag: wanted --name=value')
  for flag in (values[name] for name in values if values[name].present):
    _refuse_names(getattr(flag, 'override_values', {}))
  return values


def _refuse_names(given: dict) -> None:
  """What a config is composed of decides its other fields: its name alone says nothing."""
  wanted = {
    'method.name': '{},data',
    'data.name': 'method,{}',
    'encoder.name': 'method,data,encoder={}',
  }
  for field, argument in wanted.items():
    if field in given:
      raise InputError(
        f'{field} is {given[field]!r}, which a flag cannot change: give it in the argument, '
        f'configs/default.py:{argument.format(given[field])}'
      )


def _first_input_error(error: BaseException | None) -> InputError | None:
  found = None
  while error is not None:
    found = error if isinstance(error, InputError) else found
    error = error.__cause__ or error.__context__
  return found


def _last_line(error: Exception) -> str:
  return str(error).strip().splitlines()[-1].strip()


def define_config(values: flags.FlagValues, argv: Sequence[str]) -> None:
  """--config=file.py[:argument] and --config.any.field=value."""
  config_flags.DEFINE_config_file(
    'config',
    help_string='Config file and its argument, such as configs/default.py:simclr,digits',
    flag_values=values,
    lock_config=True,
    sys_argv=_quoted(argv),
  )


def _quoted(argv: Sequence[str]) -> list[str]:
  """The words with names that Python keeps for itself put as config_flags reads them:
  --config.method.views.global.size becomes --config.method.views["global"].size."""

  def quote(word):
    path, equals, value = word.partition('=')
    if not path.startswith('--config.'):
      return word
    names = path.split('.')
    path = names[0] + ''.join(f'["{n}"]' if keyword.iskeyword(n) else f'.{n}' for n in names[1:])
    return path + equals + value

  return [quote(word) for word in argv]


def required(values: flags.FlagValues, *names: str) -> None:
  """Raises InputError for the first of the named flags that was not given."""
  for name in names:
    if values[name].value is None:
      raise InputError(f'--{name} is missing: {values[name].help}')
