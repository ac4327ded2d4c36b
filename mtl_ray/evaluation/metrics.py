"""Metrics of one task per segment, from rows already gathered over ranks: exact, with row counts beside them."""

import math

import torch
from torch import Tensor

from mtl_ray.config.tasks import RealTaskConfig, TaskConfig, metric_names
from mtl_ray.evaluation.roc_auc import SortedRows
from mtl_ray.schema import Segment

# TorchMetrics loads matplotlib, and most of what imports this module computes nothing.
# ruff: noqa: PLC0415


def segment_masks(user_support: Tensor, item_support: Tensor, segments: list[Segment]) -> dict[str, Tensor]:
    """(n,) bool by segment name, from the training interactions of each row's user and item."""
    masks = {}
    for segment in segments:
        mask = torch.ones(len(user_support), dtype=torch.bool)
        for support, bounds in ((user_support, segment.users), (item_support, segment.items)):
            if bounds is not None:
                low, high = bounds
                mask &= (support >= low) & ((support < high) if high is not None else True)
        masks[segment.name] = mask
    return masks


def evaluate_task(
    name: str,
    task: TaskConfig,
    *,
    prediction: Tensor,
    label: Tensor,
    mask: Tensor,
    users: Tensor,
    segments: dict[str, Tensor],
) -> tuple[dict[str, float], dict[str, int]]:
    """Metrics `task/metric[/segment]` and row counts `task/count[/segment]`.

    A metric that a segment does not define (no row, one class only) is left out; the count says why.

    Args:
        name: the task's name.
        task: its settings; `metrics` or the defaults of its kind are computed.
        prediction: (n,) or (n, C) on the natural scale.
        label: (n,) or (n, C).
        mask: (n,) bool, rows that have a label.
        users: (n,) int64 number of each row's user, from 0.
        segments: (n,) bool by segment.
    """
    values: dict[str, float] = {}
    counts: dict[str, int] = {}
    labelled = torch.nonzero(mask)[:, 0]
    whole = SortedRows(prediction[labelled].double(), label[labelled], users[labelled])
    for segment, inside in {"": None, **segments}.items():
        suffix = f"/{segment}" if segment else ""
        rows = whole if inside is None else whole.part(inside[labelled])
        counts[f"{name}/count{suffix}"] = len(rows)
        for metric in metric_names(task):
            value = _compute(metric, task, rows) if len(rows) else None
            if value is not None and not math.isnan(value):
                values[f"{name}/{metric}{suffix}"] = value
    return values, counts


def compute(metric: str, task: TaskConfig, prediction: Tensor, label: Tensor, users: Tensor) -> float | None:
    """One metric of rows that all have a label, from their users' keys; None where it is not defined."""
    return _compute(metric, task, SortedRows(prediction, label, torch.unique(users, return_inverse=True)[1]))


def _compute(metric: str, task: TaskConfig, rows: SortedRows) -> float | None:
    name, _, k = metric.partition("@")
    prediction, label = rows.prediction, rows.label
    match name:
        case "rmse":
            return float((prediction - label.double()).square().mean().sqrt())
        case "mae":
            return float((prediction - label.double()).abs().mean())
        case "auc":
            return rows.auc()
        case "gauc":
            return rows.gauc()
        case "deviance":
            return _poisson_deviance(prediction, label.double())
        case "ece":
            from torchmetrics.functional.classification import binary_calibration_error

            return float(binary_calibration_error(prediction, (label > 0.5).long(), n_bins=15, validate_args=False))
        case "ratio":
            observed = float(label.double().sum())
            return float(prediction.sum()) / observed if observed else None
        case "accuracy" if prediction.ndim == 1:
            levels = torch.unique(label.double())
            nearest = levels[(prediction[:, None] - levels).abs().argmin(1)]
            return float((nearest == label.double()).double().mean())
        case "accuracy":
            return float((prediction.argmax(1) == label).double().mean())
        case "macro_f1":
            from torchmetrics.functional.classification import multiclass_f1_score

            num_classes = prediction.shape[1]
            if num_classes < 2:
                return None
            return float(multiclass_f1_score(prediction, label.long(), num_classes=num_classes, average="macro"))
        case "log_loss":
            return _log_loss(task, prediction, label)
        case "micro_auc":
            return _auc(prediction.flatten(), label.flatten())
        case "macro_auc":
            from torchmetrics.functional.classification import multilabel_auroc

            both = (label.amax(0) == 1) & (label.amin(0) == 0)
            if not both.any():
                return None
            kept = int(both.sum())
            if kept == 1:
                return _auc(prediction[:, both][:, 0], label[:, both][:, 0])
            return float(multilabel_auroc(prediction[:, both], label[:, both].long(), num_labels=kept, average="macro"))
        case "ndcg" | "recall":
            return _ranking(name, int(k), task, prediction, label, rows.users)
        case _:
            raise AssertionError(metric)


def _poisson_deviance(rate: Tensor, label: Tensor) -> float:
    """Mean of 2 (y log(y / rate) - y + rate)."""
    return float(2 * (torch.xlogy(label, label / rate) - label + rate).mean())


def _auc(score: Tensor, label: Tensor) -> float | None:
    return SortedRows(score, label, torch.zeros(len(score), dtype=torch.int64)).auc()


def _log_loss(task: TaskConfig, prediction: Tensor, label: Tensor) -> float:
    tiny = torch.finfo(torch.float32).tiny
    if task.kind == "multiclass":
        return float(-prediction.clamp(min=tiny).log().gather(1, label.long()[:, None]).mean())
    positive = prediction.clamp(min=tiny).log()
    negative = (1 - prediction).clamp(min=tiny).log()
    return float(-torch.where(label > 0.5, positive, negative).mean())


def _ranks(score: Tensor) -> Tensor:
    """(n,) int64 numbers from 0 in the order of the scores, equal for equal scores."""
    return torch.unique(score, return_inverse=True)[1]


def _ranks_within(user: Tensor, score: Tensor) -> Tensor:
    """(n,) float64 numbers from 1 in the order of the scores of each user; `user` is numbered from 0."""
    ranks = _ranks(score)
    ranks = _ranks(user * (ranks.max() + 1) + ranks)
    first = torch.full((int(user.max()) + 1,), len(user)).scatter_reduce(0, user, ranks, "amin")
    return (ranks - first[user] + 1).double()


def _ranking(name: str, k: int, task: TaskConfig, prediction: Tensor, label: Tensor, users: Tensor) -> float | None:
    """NDCG@k or recall@k per user over the user's evaluated rows, averaged over users that have a relevant row."""
    from torchmetrics.retrieval import RetrievalNormalizedDCG, RetrievalRecall

    user = torch.unique(users, return_inverse=True)[1]
    # Small numbers above 0 in the same order: torchmetrics reads float32 and counts no item whose score is not above 0.
    prediction = _ranks_within(user, prediction)
    if name == "ndcg":
        gain = label.double() - label.double().min().clamp(max=0)
        if not (gain > 0).any():  # torchmetrics would answer 0
            return None
        return float(RetrievalNormalizedDCG(top_k=k, empty_target_action="skip")(prediction, gain, indexes=user))
    threshold = task.relevant if isinstance(task, RealTaskConfig) else 0.5
    assert threshold is not None  # the experiment asks for it beside recall@K
    relevant = label >= threshold
    if not relevant.any():
        return None
    return float(RetrievalRecall(top_k=k, empty_target_action="skip")(prediction, relevant, indexes=user))
