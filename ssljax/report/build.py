"""report.html: one file that shows what a run learned, with no need of a network."""

import numbers
import os
import pathlib

import numpy as np

from ssljax.report import embed2d, gallery, page, results


def write(
  path: str | os.PathLike,
  *,
  summary: dict,
  config: dict,
  history: list[dict],
  features: np.ndarray | None = None,
  labels: np.ndarray | None = None,
  classes=None,
  images: np.ndarray | None = None,
  views=None,
  pictures: dict | None = None,
  looking: dict | None = None,
  blocks: dict | None = None,
  warnings=(),
) -> None:
  """Writes the report in one move, so that no reader sees half of it.

  summary: what summary.json holds; `metrics` in it flat, such as 'knn-v1/learned'. An `about` in it
    is one line on the method.
  config: nested fields. history: lines of metrics.jsonl.
  features [N, D], of test examples; labels [N] int, negative for unknown; classes: names by label;
    images [M, H, W, C] uint8 of the first M examples.
  views: [n, V, H, W, C] in [0, 1], or {name: such}; pictures: {title: [n, k, H, W, C]} in [0, 1],
    the title naming the k pictures of an image. looking: such of a ViT's patches, and blocks
    {name: [depth]}, as `ssljax.looking.look` gives both. warnings: sentences.

  A section is left out where its input is missing. Raises ValueError where lengths do not agree.
  """
  x, label, images = _examples(features, labels, images)
  metrics = {k: v for k, v in summary.get('metrics', {}).items() if isinstance(v, numbers.Real)}
  raw = 'raw input' if images is None else 'raw pixels'
  with embed2d.one_thread():
    text = page.document(
      results.title(summary),
      results.headline(summary | {'metrics': metrics}, config, raw),
      results.doctor(warnings),
      results.probe_table(metrics, raw, _chance(label)),
      results.metric_table(metrics),
      results.curves(history, metrics),
      gallery.maps(x, label, classes),
      gallery.neighbours(x, label, classes, images),
      gallery.confusion(x, label, classes),
      gallery.views(views),
      gallery.pictures(pictures),
      gallery.pictures(looking, 'What the encoder looks at'),
      gallery.blocks(blocks),
      gallery.spectrum(x),
      results.facts(summary),
      results.config_table(config),
    )
  _replace(pathlib.Path(path), text)


def _examples(features, labels, images):
  """The examples whose features are finite, as arrays; of length 0 where there are none."""
  x = np.zeros((0, 1), np.float32) if features is None else np.asarray(features, np.float32)
  if x.ndim != 2:
    raise ValueError(f'features has shape {x.shape}, wanted [N, D]')
  label = None if labels is None or features is None else np.asarray(labels, int)
  if label is not None and label.shape != x.shape[:1]:
    raise ValueError(f'labels has shape {label.shape}, wanted {x.shape[:1]} as features')
  images = None if images is None else np.asarray(images)
  finite = np.isfinite(x).all(axis=1)
  if not finite.all():
    x, label = x[finite], None if label is None else label[finite]
    images = None if images is None else images[: len(finite)][finite[: len(images)]]
  return x, label, images


def _chance(label) -> float | None:
  """Accuracy of always naming the most frequent class."""
  known = None if label is None else label[label >= 0]
  return None if known is None or not len(known) else float(np.bincount(known).max() / len(known))


def _replace(path: pathlib.Path, text: str) -> None:
  partial = path.with_name(path.name + '.partial')
  partial.write_text(text, encoding='utf-8')
  os.replace(partial, path)
