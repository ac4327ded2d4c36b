"""What the model predicts: one head a task."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from mtl_ray.config.base import NOT_ENCODED, Section

Scalar = bool | int | float | str

METRICS: dict[str, tuple[str, ...]] = {
    "regression": ("rmse", "mae"),
    "ordinal": ("rmse", "mae", "accuracy"),
    "count": ("rmse", "mae", "deviance", "ratio"),
    "value": ("rmse", "mae", "ratio"),
    "binary": ("auc", "log_loss", "gauc", "ece", "ratio"),
    "ranking": ("ndcg@10", "recall@10", "auc"),
    "multiclass": ("accuracy", "macro_f1", "log_loss"),
    "multilabel": ("micro_auc", "macro_auc", "log_loss"),
}
"""Default metrics of each task kind. `ndcg@K` and `recall@K` can be added to tasks with one number as prediction."""

RANKED = ("regression", "ordinal", "count", "value", "binary", "ranking")
"""Kinds whose prediction is one number, by which a user's items can be ranked."""

DOT_KINDS = ("regression", "binary", "count")
"""Kinds whose tower has one output, to which the dot path adds."""

HIGHER_IS_BETTER = frozenset({"auc", "gauc", "accuracy", "macro_f1", "micro_auc", "macro_auc", "ndcg", "recall"})


def is_higher_better(key: str) -> bool:
    """Whether a metric key `split/task/metric[/segment]` grows with quality."""
    parts = key.split("/")
    return len(parts) > 2 and parts[2].partition("@")[0] in HIGHER_IS_BETTER


def is_order_metric(key: str) -> bool:
    """Whether a metric key depends on the order of the predictions alone, not on their scale."""
    parts = key.split("/")
    return len(parts) > 2 and parts[2].partition("@")[0] in ("auc", "gauc", "ndcg", "recall")


class _TaskConfig(Section):
    column: str | None = None
    """Label column; the task's own name by default. An empty label masks the row for this task."""
    weight: Annotated[NonNegativeFloat | None, NOT_ENCODED] = None
    """Static weight in the total loss; 1/T by default."""
    where: dict[str, Scalar | list[Scalar]] | None = None
    """The population on which the task is defined: column -> value or values. Other rows are masked."""
    masked_input: Annotated[float, Field(ge=0, lt=1), NOT_ENCODED] = 0.0
    """Needed when the label is also an input: the share of training rows in which that input and the id of the entity
    that owns it are hidden. The task learns, is evaluated and predicts on such rows alone."""
    after: str | None = None
    """Binary tasks: the binary task that comes before, as a click comes before a purchase: where that is 0, this is 0
    too. The architectures `esmm` and `aitm` build on it; the others do not need it."""
    metrics: Annotated[tuple[str, ...], NOT_ENCODED] = ()
    """Metrics to report; the defaults of the kind when empty."""

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        kind = cls.model_fields["kind"].default
        for metric in metrics:
            name, _, k = metric.partition("@")
            ranking = name in ("ndcg", "recall") and k.isdigit() and int(k) > 0 and kind in RANKED
            if metric not in METRICS[kind] and not ranking:
                expected = [*METRICS[kind], *(["ndcg@K", "recall@K"] if kind in RANKED else [])]
                raise ValueError(f"expected metrics among {', '.join(expected)}; found {metric!r}")
        return metrics


class RealTaskConfig(_TaskConfig):
    """A task whose label is a number and whose prediction is one, too."""

    range: tuple[float, float] | None = None
    """Lowest and highest possible label: labels outside are quarantined, predictions are clipped to it."""
    relevant: Annotated[float | None, NOT_ENCODED] = None
    """Labels at or above it count as relevant in `recall@K`; `ndcg@K` uses the label itself as gain."""

    @model_validator(mode="after")
    def _recall_of_what(self) -> "RealTaskConfig":
        if self.relevant is None and any(m.startswith("recall@") for m in self.metrics):
            raise ValueError("`recall@K` needs `relevant`, the lowest label that counts as relevant, e.g. 4")
        return self


class RegressionTaskConfig(RealTaskConfig):
    kind: Literal["regression"] = "regression"
    loss: Literal["mse", "mae", "huber"] = "mse"
    """Of the label in units of its standard deviation; `huber` is quadratic up to one deviation."""


class OrdinalTaskConfig(RealTaskConfig):
    """A number from a few ordered levels, such as stars; the levels are those seen in training."""

    kind: Literal["ordinal"] = "ordinal"


class CountTaskConfig(RealTaskConfig):
    """A number of events: 0, 1, 2, ..."""

    kind: Literal["count"] = "count"


class ValueTaskConfig(RealTaskConfig):
    """An amount that is often zero and otherwise heavy-tailed, such as money spent."""

    kind: Literal["value"] = "value"


class BinaryTaskConfig(_TaskConfig):
    kind: Literal["binary"] = "binary"
    loss: Literal["bce", "focal"] = "bce"
    """Cross-entropy, or focal loss: each row's loss times (1 - p of its label) ** gamma (Lin et al. 2017)."""
    gamma: NonNegativeFloat = 2.0
    """Focal loss only."""
    positive: Scalar | None = None
    """The value that means 1, any other means 0; by default labels are 0/1 or true/false."""


class RankingTaskConfig(_TaskConfig):
    """Which items a user takes: the dot product of a vector of the user and one of the item, learned by setting each
    positive against the other items of the global batch."""

    kind: Literal["ranking"] = "ranking"
    loss: Literal["sampled_softmax", "bpr"] = "sampled_softmax"
    """Softmax over the items of the batch, corrected for how often each gets there (Yi et al. 2019), or the mean
    over them of the log-odds that the positive is above (BPR, Rendle et al. 2009)."""
    relevant: float | None = None
    """The label is a number, and rows at or above this one are positives; by default labels are 0/1 or true/false."""
    temperature: Annotated[PositiveFloat, NOT_ENCODED] = 1.0
    """Scores are divided by it in the loss."""
    dim: Annotated[PositiveInt, NOT_ENCODED] = 16
    """Width of the user's and the item's vector."""

    @model_validator(mode="after")
    def _sees_all_inputs(self) -> "RankingTaskConfig":
        if self.masked_input:
            raise ValueError("`masked_input` does not go with kind `ranking`, whose label belongs to no single entity")
        return self


class MulticlassTaskConfig(_TaskConfig):
    """One of the classes seen in training; a label of another class is masked and counted in `quality.json`."""

    kind: Literal["multiclass"] = "multiclass"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a label's weight spread over all classes (Szegedy et al. 2016)."""


class MultilabelTaskConfig(_TaskConfig):
    """Any of the labels seen in training."""

    kind: Literal["multilabel"] = "multilabel"
    separator: str = "|"


TaskConfig = Annotated[
    RegressionTaskConfig
    | OrdinalTaskConfig
    | CountTaskConfig
    | ValueTaskConfig
    | BinaryTaskConfig
    | RankingTaskConfig
    | MulticlassTaskConfig
    | MultilabelTaskConfig,
    Field(discriminator="kind"),
]


def metric_names(task: TaskConfig) -> tuple[str, ...]:
    """The declared metrics, or those of its kind."""
    return task.metrics or METRICS[task.kind]


def first_metric(task: TaskConfig) -> str:
    """The metric that stands for the task where one has to."""
    return metric_names(task)[0]
