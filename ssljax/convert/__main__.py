"""Weights from one layout to another: python -m ssljax.convert --from=FILE --to=FILE --layout=NAME

  python -m ssljax.convert --from=dinov2_vits14_pretrain.pth
  python -m ssljax.convert --from=mae_visualize_vit_base.pth --to=mae/ --layout=hf_mae --check
  python -m ssljax.convert --from=runs/dino --part=teacher --to=dino.safetensors --layout=timm

--from is a file, a folder of Hugging Face, or the workdir of a run; --to a .safetensors file, or a
folder for one with its config.json. Without --to the tensors are listed and nothing is written.
"""

import pathlib
from collections.abc import Sequence

from absl import flags
from rich.console import Console
from rich.table import Table

from ssljax import cli
from ssljax.errors import InputError


def main(argv: Sequence[str]) -> None:
  def define(values):
    flags.DEFINE_string('from', None, 'File, folder or workdir to read', flag_values=values)
    flags.DEFINE_string('to', None, 'The .safetensors file or folder to write', flag_values=values)
    flags.DEFINE_string('layout', None, 'Layout to write; that of --from if it has one', values)
    flags.DEFINE_string('from_layout', None, 'Layout of --from, if not found', flag_values=values)
    flags.DEFINE_string('part', None, 'Which network of --from, as teacher', flag_values=values)
    flags.DEFINE_integer('heads', None, 'Attention heads, if not known', flag_values=values)
    flags.DEFINE_integer('decoder_heads', None, "Those of MAE's decoder", flag_values=values)
    flags.DEFINE_string('dtype', 'float32', 'float32, bfloat16 or float16', flag_values=values)
    flags.DEFINE_bool('encoder_only', False, "Write no decoder of MAE's", flag_values=values)
    flags.DEFINE_bool('check', False, 'Read again, compare and run', flag_values=values)
    flags.DEFINE_bool('overwrite', False, 'Replace what --to names', flag_values=values)
    flags.DEFINE_bool('list', False, 'List the layouts', flag_values=values)

  values = cli.parse(argv, define, __doc__)
  from ssljax import convert
  from ssljax.convert import checking, files, reading, runs

  console = Console()
  if values['list'].value:
    table = Table('layout', 'what')
    for name, layout in convert.LAYOUTS.items():
      table.add_row(name, layout.about)
    console.print(table)
    return
  cli.required(values, 'from')
  if values.to is None and values.layout:
    raise InputError('--layout is for what --to writes, and --to is missing')
  source = pathlib.Path(values['from'].value)
  if runs.is_run(source):
    config, params, decoder = runs.read(source, values.part)
    layout = values.layout
  else:
    config, params, report = reading.convert(
      files.read(source),
      layout=values.from_layout,
      part=values.part,
      heads=values.heads,
      decoder_heads=values.decoder_heads,
    )
    console.print(_table(report))
    report.check()
    if 'heads' in config and 'heads' not in report.known:
      console.print(f'heads: {config.heads}, which the file does not say; --heads changes it')
    decoder, layout = report.decoder, values.layout or report.layout
  if values.encoder_only:
    decoder = {}
    params.pop('decoder', None)
  if values.to:
    if not layout:
      raise InputError(f'--layout is missing, wanted one of {", ".join(convert.LAYOUTS)}')
    written = convert.save(
      values.to,
      config,
      params,
      layout=layout,
      decoder=decoder,
      dtype=values.dtype,
      overwrite=values.overwrite,
    )
    console.print(f'{written}: layout {layout}, {values.dtype}')
  if values.check:
    if values.to:
      said = checking.compare(config, params, decoder, written, layout, values.dtype)
      console.print(said)
    console.print(checking.forward(config, params))


def _table(report):
  title = f'{report.path}: {report.layout}' + (f', under {report.prefix!r}' * bool(report.prefix))
  counts = ', '.join(
    f'{report.count(status)} {status}' for status in ('used', 'skipped', 'missing', 'wrong')
  )
  table = Table('tensor', 'shape', 'status', 'ours, or why', title=title, caption=counts)
  for row in report.rows:
    table.add_row(row.name, 'x'.join(map(str, row.shape)), row.status, row.ours)
  return table


if __name__ == '__main__':
  cli.run(main)
