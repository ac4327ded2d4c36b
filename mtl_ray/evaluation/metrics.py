"""Every metric as one object: its name, the tasks that report it, its function and the direction that is better.

To add a metric, add a function and a `Metric` to `METRICS`. Functions get rows that all have a label. Settings are
validated against this module, so it loads neither torch nor TorchMetrics until a metric is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_ray.config.tasks import TaskConfig
    from mtl_ray.evaluation.roc_auc import SortedRows

# ruff: noqa: PLC0415

Compute = Callable[["SortedRows", "TaskConfig", int], "float | None"]
"""From labelled rows, the task's settings and the cut-off K to the value; None or NaN where it is not defined."""


@dataclass(frozen=True)
class Metric:
    """A metric and all that other modules need to know of it.

    Example:
        >>> ndcg = metric_of("ndcg@10")
        >>> ndcg.pattern, ndcg.higher_is_better, ndcg.matches("ndcg@5")
        ('ndcg@K', True, True)
    """

    name: str
    text: str
    """Short description, for reports."""
    compute: Compute
    kinds: tuple[str, ...]
    """Task kinds that report it by default."""
    higher_is_better: bool | None
    """None where neither direction is better."""
    cutoff: int = 0
    """Default K of a metric `name@K`; 0 for a metric without a cut-off."""
    for_every_number: bool = False
    """True if every task that predicts one number may name it."""
    is_mean_over_users: bool = False
    """True if it is the mean of one value per user."""
    reads_order_alone: bool = False
    """True if only the order of the predictions matters, not their scale."""
    reads_relevance: bool = False
    """True if it needs the lowest label that counts as relevant."""

    @property
    def default(self) -> str:
        """Name under which it is reported by default."""
        return f"{self.name}@{self.cutoff}" if self.cutoff else self.name

    @property
    def pattern(self) -> str:
        """Name as it stands in messages: `ndcg@K`."""
        return f"{self.name}@K" if self.cutoff else self.name

    def matches(self, name: str) -> bool:
        """Return whether a name is that of this metric, with a cut-off of at least 1 where it has one."""
        base, _, k = name.partition("@")
        return base == self.name and (k.isdigit() and int(k) > 0 if self.cutoff else name == self.name)


def rmse(rows: SortedRows, task: TaskConfig, k: int) -> float:
    """Return the root of the mean squared error."""
    return float((rows.prediction - rows.label.double()).square().mean().sqrt())


def mae(rows: SortedRows, task: TaskConfig, k: int) -> float:
    """Return the mean absolute error."""
    return float((rows.prediction - rows.label.double()).abs().mean())


def auc(rows: SortedRows, task: TaskConfig, k: int) -> float | None:
    """Return the area under the ROC curve, see `SortedRows.auc`."""
    return rows.auc()


def gauc(rows: SortedRows, task: TaskConfig, k: int) -> float | None:
    """Return the AUC within users, see `SortedRows.gauc`."""
    return rows.gauc()


def deviance(rows: SortedRows, task: TaskConfig, k: int) -> float:
    """Return the mean Poisson deviance, 2 (y log(y / rate) - y + rate)."""
    import torch

    rate, label = rows.prediction, rows.label.double()
    return float(2 * (torch.xlogy(label, label / rate) - label + rate).mean())


def ece(rows: SortedRows, task: TaskConfig, k: int) -> float:
    """Return the expected calibration error over 15 bins of equal width."""
    from torchmetrics.functional.classification import binary_calibration_error

    positive = (rows.label > 0.5).long()
    return float(binary_calibration_error(rows.prediction, positive, n_bins=15, validate_args=False))


def ratio(rows: SortedRows, task: TaskConfig, k: int) -> float | None:
    """Return the sum of the predictions over the sum of the labels."""
    observed = float(rows.label.double().sum())
    return float(rows.prediction.sum()) / observed if observed else None


def accuracy(rows: SortedRows, task: TaskConfig, k: int) -> float:
    """Return the share of rows whose most probable class, or nearest level, is the label."""
    import torch

    prediction, label = rows.prediction, rows.label
    if prediction.ndim > 1:
        return float((prediction.argmax(1) == label).double().mean())
    levels = torch.unique(label.double())
    nearest = levels[(prediction[:, None] - levels).abs().argmin(1)]
    return float((nearest == label.double()).double().mean())


def macro_f1(rows: SortedRows, task: TaskConfig, k: int) -> float | None:
    """Return the mean F1 score of the classes."""
    from torchmetrics.functional.classification import multiclass_f1_score

    num_classes = rows.prediction.shape[1]
    if num_classes < 2:
        return None
    return float(multiclass_f1_score(rows.prediction, rows.label.long(), num_classes=num_classes, average="macro"))


def log_loss(rows: SortedRows, task: TaskConfig, k: int) -> float:
    """Return the mean negative log-probability of the label: of its class, or of each of two outcomes."""
    import torch

    prediction, label, tiny = rows.prediction, rows.label, torch.finfo(torch.float32).tiny
    if prediction.ndim > label.ndim:
        return float(-prediction.clamp(min=tiny).log().gather(1, label.long()[:, None]).mean())
    positive = prediction.clamp(min=tiny).log()
    negative = (1 - prediction).clamp(min=tiny).log()
    return float(-torch.where(label > 0.5, positive, negative).mean())


def micro_auc(rows: SortedRows, task: TaskConfig, k: int) -> float | None:
    """Return the AUC over all pairs of a row and a label."""
    return _auc(rows.prediction.flatten(), rows.label.flatten())


def macro_auc(rows: SortedRows, task: TaskConfig, k: int) -> float | None:
    """Return the mean AUC of the labels that some rows have and others do not."""
    from torchmetrics.functional.classification import multilabel_auroc

    prediction, label = rows.prediction, rows.label
    both = (label.amax(0) == 1) & (label.amin(0) == 0)
    if not both.any():
        return None
    kept = int(both.sum())
    if kept == 1:
        return _auc(prediction[:, both][:, 0], label[:, both][:, 0])
    return float(multilabel_auroc(prediction[:, both], label[:, both].long(), num_labels=kept, average="macro"))


def ndcg(rows: SortedRows, task: TaskConfig, k: int) -> float | None:
    """Return NDCG@K over each user's evaluated rows, averaged over users that have a relevant row."""
    from torchmetrics.retrieval import RetrievalNormalizedDCG

    gain = rows.label.double() - rows.label.double().min().clamp(max=0)
    if not (gain > 0).any():  # torchmetrics would answer 0
        return None
    user, ranks = _ranks_by_user(rows)
    return float(RetrievalNormalizedDCG(top_k=k, empty_target_action="skip")(ranks, gain, indexes=user))


def recall(rows: SortedRows, task: TaskConfig, k: int) -> float | None:
    """Return recall@K over each user's evaluated rows, averaged over users that have a relevant row."""
    from torchmetrics.retrieval import RetrievalRecall

    assert task.relevance_threshold is not None  # the experiment asks for it beside recall@K
    relevant = rows.label >= task.relevance_threshold
    if not relevant.any():
        return None
    user, ranks = _ranks_by_user(rows)
    return float(RetrievalRecall(top_k=k, empty_target_action="skip")(ranks, relevant, indexes=user))


def _auc(score: Tensor, label: Tensor) -> float | None:
    import torch

    from mtl_ray.evaluation.roc_auc import SortedRows

    return SortedRows(score, label, torch.zeros(len(score), dtype=torch.int64)).auc()


def _ranks_by_user(rows: SortedRows) -> tuple[Tensor, Tensor]:
    """Return (n,) numbers of the users from 0, and (n,) float64 ranks from 1 of each user's predictions.

    TorchMetrics reads float32 and skips items whose score is not above 0, so ranks stand for the predictions.
    """
    import torch

    user = torch.unique(rows.users, return_inverse=True)[1]
    ranks = torch.unique(rows.prediction, return_inverse=True)[1]
    ranks = torch.unique(user * (ranks.max() + 1) + ranks, return_inverse=True)[1]
    first = torch.full((int(user.max()) + 1,), len(user)).scatter_reduce(0, user, ranks, "amin")
    return user, (ranks - first[user] + 1).double()


NUMBERS = ("regression", "ordinal", "count", "value")

METRICS = (
    Metric(
        "ndcg",
        "order of a user's rows, by normalised gain",
        ndcg,
        kinds=("ranking",),
        higher_is_better=True,
        cutoff=10,
        for_every_number=True,
        is_mean_over_users=True,
        reads_order_alone=True,
    ),
    Metric(
        "recall",
        "share of a user's relevant rows that are among the first K",
        recall,
        kinds=("ranking",),
        higher_is_better=True,
        cutoff=10,
        for_every_number=True,
        is_mean_over_users=True,
        reads_order_alone=True,
        reads_relevance=True,
    ),
    Metric("rmse", "root of the mean squared error", rmse, NUMBERS, higher_is_better=False),
    Metric("mae", "mean absolute error", mae, NUMBERS, higher_is_better=False),
    Metric(
        "auc", "area under the ROC curve", auc, ("ranking", "binary"), higher_is_better=True, reads_order_alone=True
    ),
    Metric("accuracy", "share of labels predicted", accuracy, ("ordinal", "multiclass"), higher_is_better=True),
    Metric("macro_f1", "mean F1 score of the classes", macro_f1, ("multiclass",), higher_is_better=True),
    Metric("micro_auc", "AUC over all rows and labels", micro_auc, ("multilabel",), higher_is_better=True),
    Metric("macro_auc", "mean AUC of the labels", macro_auc, ("multilabel",), higher_is_better=True),
    Metric("deviance", "mean Poisson deviance", deviance, ("count",), higher_is_better=False),
    Metric("log_loss", "cross-entropy", log_loss, ("binary", "multiclass", "multilabel"), higher_is_better=False),
    Metric("gauc", "AUC within users", gauc, ("binary",), higher_is_better=True, reads_order_alone=True),
    Metric("ece", "expected calibration error", ece, ("binary",), higher_is_better=False),
    Metric("ratio", "sum of predictions over sum of labels", ratio, ("count", "value", "binary"), None),
)
"""All metrics; a task reports its own in this order."""


def metric_of(name: str) -> Metric | None:
    """Return the metric of a name, or None if there is none.

    Args:
        name: such as `auc` or `ndcg@10`.

    Example:
        >>> metric_of("auc").text
        'area under the ROC curve'
    """
    return next((metric for metric in METRICS if metric.matches(name)), None)


def metric_of_key(key: str) -> Metric | None:
    """Return the metric of a key `split/task/metric[/segment]`, or None if the key names none."""
    parts = key.split("/")
    return metric_of(parts[2]) if len(parts) > 2 else None


def default_metrics(kind: str) -> tuple[str, ...]:
    """Return the names of the metrics that a task kind reports by default; the first stands for the task."""
    return tuple(metric.default for metric in METRICS if kind in metric.kinds)


def expected_metrics(kind: str, *, predicts_number: bool) -> Collection[str]:
    """Return the names and patterns of all metrics that a task may name."""
    named = [metric.pattern for metric in METRICS if metric.for_every_number and predicts_number]
    return [*default_metrics(kind), *named]


def is_known(name: str, kind: str, *, predicts_number: bool) -> bool:
    """Return whether a task of a kind may name a metric."""
    metric = metric_of(name)
    return metric is not None and (name in default_metrics(kind) or (metric.for_every_number and predicts_number))
