"""Probes of nodes, graphs and pairs of nodes, as the papers on graphs do them."""

import functools
import warnings

import numpy as np

from ssljax.errors import InputError
from ssljax.evaluators import links

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)  # C of scikit-learn: inverse strengths
NEWTON_STEPS = 100
SVM_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
SPLITS, TRAIN_SHARE, VALIDATION_SHARE, FOLDS, INNER_FOLDS = 20, 0.1, 0.1, 10, 5
TRAIN_PERCENTS = (10, 50, 90)  # of nodes with several labels
ADAM_RATE, ADAM_STEPS, ADAM_STARTS = 1e-2, 300, 5
DECAYS = {'node-adam-v1': (1e-2, 1e-4, 0.0), 'node-adam-v2': (1e-2, 5e-3, 1e-4, 0.0)}


def _adam(name):
  return {
    'classifier': f'linear layer, {ADAM_STEPS} steps of Adam on all training nodes at {ADAM_RATE}',
    'splits': f"the data's own training, validation and test nodes; {ADAM_STARTS} starts",
    'L2_grid': list(DECAYS[name]),
    'L2_and_step_chosen_by': 'validation accuracy, ties to the weaker penalty and the later step',
    'transform': 'none',
    'metric': 'mean accuracy on the test nodes; -std: the standard deviation over starts',
  }


DEFINITIONS = {
  'node-public-v1': {
    'classifier': 'multinomial logistic regression, L-BFGS, L2',
    'splits': "the data's own training, validation and test nodes",
    'C_grid': list(PENALTIES),
    'C_chosen_by': 'validation accuracy, ties to the stronger penalty',
    'transform': 'L2-normalised rows',
    'metric': 'accuracy on the test nodes',
  },
  'node-random-v1': {
    'classifier': 'multinomial logistic regression, L-BFGS, L2',
    'splits': f'{SPLITS} random ones, 10% training, 10% validation, 80% test, drawn by seed',
    'C_grid': list(PENALTIES),
    'C_chosen_by': 'validation accuracy, ties to the stronger penalty',
    'transform': 'L2-normalised rows',
    'metric': 'mean accuracy on the test nodes; -std: the standard deviation over splits',
  },
  **{name: _adam(name) for name in DECAYS},
  'node-argmax-v1': {
    'classifier': "the method's own: the largest of its logits (eval.feature=logits)",
    'splits': "the data's own test nodes",
    'metric': 'accuracy on the test nodes',
  },
  'graph-svm-v2': {
    'classifier': 'support vector machine, radial kernel of width by variance',
    'splits': f'{FOLDS} stratified folds, shuffled by seed',
    'C_grid': list(SVM_PENALTIES),
    'C_chosen_by': f'cross-validation over {INNER_FOLDS} folds of all graphs but the tested',
    'transform': 'none',
    'metric': 'mean accuracy over folds; -std: the standard deviation over folds',
  },
  'graph-linear-svm-v2': {
    'classifier': 'linear support vector machine',
    'iterations': f'at most {NEWTON_STEPS} of Newton',
    'splits': f'{FOLDS} stratified folds, shuffled by seed',
    'C_grid': list(SVM_PENALTIES),
    'C_chosen_by': f'cross-validation over {INNER_FOLDS} folds of all graphs but the tested',
    'transform': 'none',
    'metric': 'mean accuracy over folds; -std: the standard deviation over folds',
  },
  'link-v1': {
    'classifier': 'none: inner products of the features of two nodes',
    'splits': 'edges that training did not see, and as many random pairs without one',
    'transform': 'none',
    'metric': 'auc: area under the ROC curve, ap: average precision',
  },
  'multi-label-v1': {
    'classifier': 'one logistic regression (liblinear) for each label, as in DeepWalk and node2vec',
    'given': 'to each test node as many of its likeliest labels as it has',
    'splits': 'one for each share of training nodes, drawn by seed, all others test',
    'train_percents': list(TRAIN_PERCENTS),
    'transform': 'none',
    'metric': 'macro-N, micro-N: F1, the mean of labels and over all of them, N percent training',
  },
}
LABEL_FREE = ('link-v1',)


def _rows(x):
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def fit_nodes(x, y, train, val, test) -> float:
  """Test accuracy of logistic regression on rows at length one, its penalty chosen on `val`."""
  from sklearn.exceptions import ConvergenceWarning
  from sklearn.linear_model import LogisticRegression

  x, best = _rows(x), (-1.0, None)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ConvergenceWarning)  # a weak penalty needs no last digit
    for penalty in PENALTIES:
      model = LogisticRegression(C=penalty, max_iter=300).fit(x[train], y[train])
      score = model.score(x[val], y[val])
      if score > best[0]:
        best = score, model
  return float(best[1].score(x[test], y[test]))


def _own_split(protocol, split):
  """Places of the training, validation and test nodes; raises InputError if the data has none."""
  missing = [name for name in ('train', 'val', 'test') if name not in split]
  if missing:
    raise InputError(f'{protocol} needs a split of the nodes, and {missing[0]} is missing')
  return [split[name] for name in ('train', 'val', 'test')]


def node_public_v1(x, y, split, *, seed: int = 0) -> dict[str, float]:
  """Accuracy of `fit_nodes` on the data's own split.

  Raises InputError if the data has none.
  """
  return {'accuracy': fit_nodes(x, y, *_own_split('node-public-v1', split))}


def _node_adam(name, x, y, split, *, seed: int = 0) -> dict[str, float]:
  """Mean and deviation over 5 starts of a linear layer's accuracy on the data's own test nodes.

  name: of the protocol, by its decays. Raises InputError if the data has no split.
  """
  import jax
  import jax.numpy as jnp
  import optax

  from ssljax.models.heads import torch_linear

  parts = _own_split(name, split)
  (x_train, y_train), *others = [(jnp.asarray(x[i], jnp.float32), y[i]) for i in parts]
  classes = int(y.max()) + 1

  def accuracies(key, decay):
    """[steps] on validation and on test nodes."""
    kernel = torch_linear(key, (classes, x.shape[1]))
    params = {'kernel': kernel, 'bias': jnp.zeros(classes)}
    tx = optax.chain(optax.add_decayed_weights(decay), optax.adam(ADAM_RATE))

    def logits(params, x):
      return x @ params['kernel'].T + params['bias']

    def loss(params):
      found = logits(params, x_train)
      return optax.softmax_cross_entropy_with_integer_labels(found, y_train).mean()

    def step(carried, _):
      params, opt_state = carried
      updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
      params = optax.apply_updates(params, updates)
      right = [(logits(params, x).argmax(-1) == y).mean() for x, y in others]
      return (params, opt_state), right

    return jax.lax.scan(step, (params, tx.init(params)), length=ADAM_STEPS)[1]

  over = jax.vmap(jax.vmap(accuracies, (None, 0)), (0, None))
  keys = jax.random.split(jax.random.key(seed), ADAM_STARTS)
  val, test = (
    np.asarray(a).reshape(ADAM_STARTS, -1) for a in jax.jit(over)(keys, jnp.array(DECAYS[name]))
  )
  last = val.shape[1] - 1 - val[:, ::-1].argmax(1)
  scores = test[np.arange(ADAM_STARTS), last]
  return {'accuracy': float(scores.mean()), 'std': float(scores.std())}


def node_argmax_v1(x, y, split, *, seed: int = 0) -> dict[str, float]:
  """Accuracy on the data's test nodes of the largest of x [N, C], logits of the classes."""
  if 'test' not in split:
    raise InputError('node-argmax-v1 needs a split of the nodes, and test is missing')
  test = split['test']
  return {'accuracy': float(np.mean(np.argmax(x[test], 1) == y[test]))}


def node_random_v1(x, y, split, *, seed: int = 0) -> dict[str, float]:
  """Mean and deviation of `fit_nodes` over 20 random splits of the labelled nodes, 10/10/80%."""
  labelled, scores = np.flatnonzero(y >= 0), []
  first, second = (
    max(1, int(len(labelled) * share)) for share in (TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE)
  )
  for i in range(SPLITS):
    order = np.random.default_rng([seed, i]).permutation(labelled)
    scores.append(fit_nodes(x, y, *np.split(order, [first, second])))
  return {'accuracy': float(np.mean(scores)), 'std': float(np.std(scores))}


def graph_svm_v2(x, y, split, *, seed: int = 0) -> dict[str, float]:
  """Mean and deviation over 10 stratified folds of a support vector machine's accuracy."""
  from sklearn.metrics.pairwise import euclidean_distances
  from sklearn.model_selection import GridSearchCV, StratifiedKFold
  from sklearn.svm import SVC

  x = np.asarray(x, np.float64)
  distances, scores = euclidean_distances(x, squared=True), []
  folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
  for train, test in folds.split(x, y):
    width = x.shape[1] * x[train].var()
    kernel = np.exp(-distances / (width if width > 0 else 1.0))
    search = GridSearchCV(SVC(kernel='precomputed'), {'C': SVM_PENALTIES}, cv=INNER_FOLDS)
    search.fit(kernel[np.ix_(train, train)], y[train])
    scores.append(search.score(kernel[np.ix_(test, train)], y[test]))
  return {'accuracy': float(np.mean(scores)), 'std': float(np.std(scores))}


def graph_linear_svm_v2(x, y, split, *, seed: int = 0) -> dict[str, float]:
  """Mean and deviation over 10 stratified folds of a linear support vector machine's accuracy."""
  from sklearn.exceptions import ConvergenceWarning
  from sklearn.model_selection import GridSearchCV, StratifiedKFold
  from sklearn.svm import LinearSVC

  x, scores = np.asarray(x, np.float64), []
  with warnings.catch_warnings():
    # With a weak penalty the last digits take minutes and change no score by a standard deviation.
    warnings.simplefilter('ignore', ConvergenceWarning)
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y):
      model = LinearSVC(dual=False, max_iter=NEWTON_STEPS)
      search = GridSearchCV(model, {'C': SVM_PENALTIES}, cv=INNER_FOLDS)
      scores.append(search.fit(x[train], y[train]).score(x[test], y[test]))
  return {'accuracy': float(np.mean(scores)), 'std': float(np.std(scores))}


def link_v1(x, y, split, *, seed: int = 0) -> dict[str, float]:
  """`links.link_scores` of the edges that were held out; raises InputError if none were."""
  if 'links' not in split:
    raise InputError('link-v1 needs edges that training does not see: set data.held_out_links')
  return links.link_scores(x, split['links'], split['no_links'])


def multi_label_v1(x, y, split, *, seed: int = 0) -> dict[str, float]:
  """`multi_label_f1` of y bool [N, C] with 10, 50 and 90% of the nodes training.

  Raises InputError if y is not that.
  """
  if np.ndim(y) != 2 or np.asarray(y).dtype != bool:
    raise InputError('multi-label-v1 needs nodes with several labels each, wanted y bool [N, C]')
  found = {}
  for percent in TRAIN_PERCENTS:
    scores = multi_label_f1(x, y, percent / 100, seed=seed)
    found |= {f'{kind}-{percent}': scores[f'{kind}_f1'] for kind in ('macro', 'micro')}
  return found


PROTOCOLS = {
  'node-public-v1': node_public_v1,
  'node-random-v1': node_random_v1,
  **{name: functools.partial(_node_adam, name) for name in DECAYS},
  'node-argmax-v1': node_argmax_v1,
  'graph-svm-v2': graph_svm_v2,
  'graph-linear-svm-v2': graph_linear_svm_v2,
  'link-v1': link_v1,
  'multi-label-v1': multi_label_v1,
}


# What a protocol gives besides, or in the place of, an accuracy.
METRICS = {
  'kmeans-v1': ('accuracy', 'nmi', 'ari'),
  'link-v1': ('auc', 'ap'),
  'multi-label-v1': tuple(f'{kind}-{n}' for n in TRAIN_PERCENTS for kind in ('macro', 'micro')),
}


def written(name: str) -> dict[str, str]:
  """The names under which `run` gives a protocol's numbers, deviations aside -> which these are.

  Raises InputError for a name that is none.
  """
  if name not in (*PROTOCOLS, 'kmeans-v1'):
    raise InputError(
      f'protocol: {name!r} seen, one of {", ".join([*PROTOCOLS, "kmeans-v1"])} wanted'
    )
  metrics = METRICS.get(name, ('accuracy',))
  return {name if metric == 'accuracy' else f'{name}-{metric}': metric for metric in metrics}


def fitting(level: str, split) -> tuple[str, ...]:
  """The protocols of a set of graphs, or of nodes: those of the data's own split if it has one, and
  of links if some were held out."""
  if level == 'graph':
    return ('graph-svm-v2',)
  own = all(name in split for name in ('train', 'val', 'test'))
  nodes = ('node-public-v1', 'node-random-v1') if own else ('node-random-v1',)
  return (*nodes, 'link-v1') if 'links' in split else nodes


def run(
  x, y, split, names, *, seed: int = 0, num_classes: int | None = None, deviations: bool = False
) -> dict[str, float]:
  """Scores of features x [N, D] by protocols, and 'kmeans-v1' -> {name: number}.

  Further numbers of a protocol have theirs behind the name: 'kmeans-v1-nmi', and with `deviations`
  'node-random-v1-std'.

  Raises InputError for a name that is none of these.
  """
  from ssljax.evaluators import clustering

  found = {}
  for name in names:
    keys = written(name)
    if name == 'kmeans-v1':
      known = y >= 0
      classes = num_classes or int(y.max()) + 1
      numbers = clustering.kmeans_v1(
        x[known], y[known], x[known], y[known], num_classes=classes, seed=seed
      )
    else:
      numbers = PROTOCOLS[name](x, y, split, seed=seed)
    found |= {key: numbers[metric] for key, metric in keys.items()}
    if deviations and 'std' in numbers:
      found[f'{name}-std'] = numbers['std']
  return found


def multi_label_f1(x, groups, train_share: float, *, seed: int = 0) -> dict[str, float]:
  """Micro- and macro-F1 of one-against-rest logistic regression, as in DeepWalk's evaluation.

  groups: bool [N, C]. As many of the likeliest labels are given to a test node as it has, as in
  the papers (Perozzi et al. 2014, section 5).
  """
  from sklearn.linear_model import LogisticRegression
  from sklearn.metrics import f1_score
  from sklearn.multiclass import OneVsRestClassifier

  order = np.random.default_rng(seed).permutation(len(x))
  train, test = np.split(order, [int(train_share * len(x))])
  present = groups[train].any(0)
  model = OneVsRestClassifier(LogisticRegression(solver='liblinear'))
  model.fit(x[train], groups[train][:, present])
  chance = np.full((len(test), groups.shape[1]), -np.inf)
  chance[:, present] = model.predict_proba(x[test])
  given = np.zeros_like(groups[test])
  ranks = np.argsort(-chance, axis=1)
  for row, count in enumerate(groups[test].sum(1)):
    given[row, ranks[row, :count]] = True
  return {
    f'{kind}_f1': float(f1_score(groups[test], given, average=kind, zero_division=0))
    for kind in ('micro', 'macro')
  }
