"""What the model predicts: one head a task."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, field_validator

from mtl_ray.experiment.section import Section

Scalar = bool | int | float | str

METRICS: dict[str, tuple[str, ...]] = {
    "regression": ("rmse", "mae"),
    "binary": ("auc", "log_loss", "gauc"),
    "multiclass": ("accuracy", "macro_f1", "log_loss"),
    "multilabel": ("micro_auc", "macro_auc", "log_loss"),
}
"""Default metrics of each task kind. `ndcg@K` and `recall@K` can be added to regression and binary tasks."""

HIGHER_IS_BETTER = frozenset({"auc", "gauc", "accuracy", "macro_f1", "micro_auc", "macro_auc", "ndcg", "recall"})


def is_higher_better(key: str) -> bool:
    """Whether a metric key `split/task/metric[/segment]` grows with quality."""
    parts = key.split("/")
    return len(parts) > 2 and parts[2].partition("@")[0] in HIGHER_IS_BETTER


def is_order_metric(key: str) -> bool:
    """Whether a metric key depends on the order of the predictions alone, not on their scale."""
    parts = key.split("/")
    return len(parts) > 2 and parts[2].partition("@")[0] in ("auc", "gauc", "ndcg", "recall")


class _Task(Section):
    column: str | None = None
    """Label column; the task's own name by default. An empty label masks the row for this task."""
    weight: NonNegativeFloat | None = None
    """Static weight in the total loss; 1/T by default."""
    where: dict[str, Scalar | list[Scalar]] | None = None
    """The population on which the task is defined: column -> value or values. Other rows are masked."""
    masked_input: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Needed when the label is also an input: the share of training rows in which that input and the id of the entity
    that owns it are hidden. The task learns, is evaluated and predicts on such rows alone."""
    metrics: tuple[str, ...] = ()
    """Metrics to report; the defaults of the kind when empty."""

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        kind = cls.model_fields["kind"].default
        for metric in metrics:
            name, _, k = metric.partition("@")
            ranking = name in ("ndcg", "recall") and k.isdigit() and int(k) > 0 and kind in ("regression", "binary")
            if metric not in METRICS[kind] and not ranking:
                expected = [*METRICS[kind], *(["ndcg@K", "recall@K"] if kind in ("regression", "binary") else [])]
                raise ValueError(f"expected metrics among {', '.join(expected)}; found {metric!r}")
        return metrics


class RegressionTask(_Task):
    kind: Literal["regression"] = "regression"
    range: tuple[float, float] | None = None
    """Lowest and highest possible label: labels outside are quarantined, predictions are clipped to it."""
    relevant: float | None = None
    """Labels at or above it count as relevant in `recall@K`; `ndcg@K` uses the label itself as gain."""


class BinaryTask(_Task):
    kind: Literal["binary"] = "binary"
    positive: Scalar | None = None
    """The value that means 1, any other means 0; by default labels are 0/1 or true/false."""


class MulticlassTask(_Task):
    """One of the classes seen in training; a label of another class is masked and counted in `quality.json`."""

    kind: Literal["multiclass"] = "multiclass"


class MultilabelTask(_Task):
    """Any of the labels seen in training."""

    kind: Literal["multilabel"] = "multilabel"
    separator: str = "|"


Task = Annotated[RegressionTask | BinaryTask | MulticlassTask | MultilabelTask, Field(discriminator="kind")]
