"""The task union: what the model predicts, with one head per task."""

import pkgutil
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from mtl_ray.config.base import NOT_ENCODED, Scalar, Section
from mtl_ray.config.formats import NumberFormat, Spelling
from mtl_ray.config.own_task_parts import NAMED, NAMED_OR_CUSTOM, CustomMetricConfig, OwnLoss, OwnMetric


def _catalog() -> Any:
    """Return `mtl_ray.evaluation.metrics`, which defines all metrics; by name, as it stands above this package."""
    return pkgutil.resolve_name("mtl_ray.evaluation.metrics")


def is_higher_better(key: str) -> bool:
    """Return whether a metric key `split/task/metric[/segment]` grows with quality; False for a loss.

    A metric that is not of this package is one of the user's, which does.
    """
    metric, parts = _catalog().metric_of_key(key), key.split("/")
    return bool(metric.higher_is_better) if metric else len(parts) > 2 and parts[2] != "loss"


MetricName = Annotated[Annotated[str, NAMED] | OwnMetric, NAMED_OR_CUSTOM]


class _TaskConfig(Section):
    column: str | None = None
    """Label column; the task's own name by default. An empty label masks the row for this task."""
    weight: Annotated[NonNegativeFloat | None, NOT_ENCODED] = None
    """Static weight in the total loss, relative to those of the other tasks: 1 by default, and divided by their sum."""
    where: dict[str, Scalar | list[Scalar]] | None = None
    """The population on which the task is defined: column -> value or values. Other rows are masked."""
    masked_input: Annotated[float, Field(ge=0, lt=1), NOT_ENCODED] = 0.0
    """Share of training rows in which the input that is also the label, and the id of the entity that owns it, are
    hidden; required if the label is also an input. The task learns, predicts and is evaluated on such rows alone."""
    after: str | None = None
    """For binary tasks, the binary task that precedes this one, as a click precedes a purchase: where it is 0, this one
    is 0 too. The architectures `esmm` and `aitm` build on it; the others do not need it."""
    metrics: Annotated[tuple[MetricName, ...], NOT_ENCODED] = ()
    """Metrics to report, by name or `custom`; the defaults of the kind when empty."""
    predicts_number: ClassVar[bool] = True
    """True if the prediction is one number, by which a user's items can be ranked; otherwise one per class."""
    estimates_label: ClassVar[bool] = True
    """True if the prediction is an estimate of a numeric label, so that both can be compared."""
    has_one_output: ClassVar[bool] = False
    """True if the tower has one output, to which the dot product of user and item can be added."""
    has_direction: ClassVar[bool] = False
    """True if a number added to all outputs moves the prediction up or down, as the bias of an id does."""
    is_probability: ClassVar[bool] = False
    """True if the prediction is the probability of one event, so that tasks can follow each other."""
    reads_context: ClassVar[bool] = True
    """True if features of the context are inputs."""
    compares_rows: ClassVar[bool] = False
    """True if the loss of a row depends on the other rows of the batch; such a loss is not defined on other rows."""

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, metrics: tuple[MetricName, ...]) -> tuple[MetricName, ...]:
        kind, facts = cls.model_fields["kind"].default, {"predicts_number": cls.predicts_number}
        own = [metric.key for metric in metrics if isinstance(metric, CustomMetricConfig)]
        for name in own:
            if own.count(name) > 1 or name in ("loss", "count") or _catalog().metric_of(name):
                raise ValueError(f"expected metrics with a name each; found two called {name!r}; set `name` of one")
        for metric in (metric for metric in metrics if isinstance(metric, str)):
            if not _catalog().is_known(metric, kind, **facts):
                expected = ", ".join(_catalog().expected_metrics(kind, **facts))
                raise ValueError(f"expected metrics among {expected}; found {metric!r}")
        return metrics

    @property
    def relevance_threshold(self) -> float | None:
        """Lowest label that counts as relevant; None if the settings do not say."""
        return 0.5


class RealTaskConfig(_TaskConfig, NumberFormat):
    """A task whose label and prediction are numbers."""

    range: tuple[float, float] | None = None
    """Lowest and highest possible label: labels outside are quarantined, predictions are clipped to it."""
    relevant: Annotated[float | None, NOT_ENCODED] = None
    """Lowest label that counts as relevant in `recall@K`; `ndcg@K` uses the label itself as gain."""

    @model_validator(mode="after")
    def _recall_of_what(self) -> "RealTaskConfig":
        for metric in (_catalog().metric_of(name) for name in self.metrics if isinstance(name, str)):
            if self.relevant is None and metric.reads_relevance:
                raise ValueError(
                    f"`{metric.pattern}` needs `relevant`, the lowest label that counts as relevant, e.g. 4"
                )
        return self

    @property
    def relevance_threshold(self) -> float | None:
        return self.relevant


class RegressionTaskConfig(RealTaskConfig):
    """A number, such as a rating, an age or a time."""

    kind: Literal["regression"] = "regression"
    implementation: ClassVar[str] = "mtl_ray.tasks.regression:Regression"
    has_one_output: ClassVar[bool] = True
    has_direction: ClassVar[bool] = True
    loss: Annotated[Annotated[Literal["mse", "mae", "huber"], NAMED] | OwnLoss, NAMED_OR_CUSTOM] = "mse"
    """Loss of the label in units of its standard deviation; `huber` is quadratic up to one deviation."""


class OrdinalTaskConfig(RealTaskConfig):
    """A number from a few ordered levels, such as stars; the levels are those seen in training."""

    kind: Literal["ordinal"] = "ordinal"
    implementation: ClassVar[str] = "mtl_ray.tasks.ordinal:Ordinal"
    has_direction: ClassVar[bool] = True


class CountTaskConfig(RealTaskConfig):
    """A number of events: 0, 1, 2, ..."""

    kind: Literal["count"] = "count"
    has_one_output: ClassVar[bool] = True
    has_direction: ClassVar[bool] = True
    implementation: ClassVar[str] = "mtl_ray.tasks.count:Count"


class ValueTaskConfig(RealTaskConfig):
    """An amount that is often zero and otherwise heavy-tailed, such as money spent."""

    kind: Literal["value"] = "value"
    implementation: ClassVar[str] = "mtl_ray.tasks.value:Value"


class BinaryTaskConfig(_TaskConfig, Spelling):
    """An event that happens or not; the prediction is its probability."""

    kind: Literal["binary"] = "binary"
    implementation: ClassVar[str] = "mtl_ray.tasks.binary:Binary"
    has_one_output: ClassVar[bool] = True
    has_direction: ClassVar[bool] = True
    is_probability: ClassVar[bool] = True
    loss: Annotated[Annotated[Literal["bce", "focal"], NAMED] | OwnLoss, NAMED_OR_CUSTOM] = "bce"
    """Cross-entropy, or focal loss: each row's loss times (1 - p of its label) ** gamma (Lin et al. 2017)."""
    gamma: NonNegativeFloat = 2.0
    """Exponent of the focal loss."""
    positive: Scalar | None = None
    """The value that means 1, any other means 0; by default labels are 0/1 or true/false."""


class RankingTaskConfig(_TaskConfig):
    """Items that a user takes: the dot product of a user vector and an item vector, learned by comparing each positive
    with the other items of the global batch."""

    kind: Literal["ranking"] = "ranking"
    implementation: ClassVar[str] = "mtl_ray.tasks.ranking:Ranking"
    estimates_label: ClassVar[bool] = False
    reads_context: ClassVar[bool] = False
    compares_rows: ClassVar[bool] = True
    loss: Literal["sampled_softmax", "bpr"] = "sampled_softmax"
    """Softmax over the items of the batch, corrected for how often each gets there (Yi et al. 2019), or the mean
    over them of the log-odds that the positive is above (BPR, Rendle et al. 2009)."""
    relevant: float | None = None
    """The label is a number, and rows at or above this one are positives; by default labels are 0/1 or true/false."""
    temperature: Annotated[PositiveFloat, NOT_ENCODED] = 1.0
    """Divisor of the scores in the loss."""
    dim: Annotated[PositiveInt, NOT_ENCODED] = 16
    """Width of the user's and the item's vector."""

    @model_validator(mode="after")
    def _sees_all_inputs(self) -> "RankingTaskConfig":
        if self.masked_input:
            raise ValueError("`masked_input` does not go with kind `ranking`, whose label belongs to no single entity")
        return self


class MulticlassTaskConfig(_TaskConfig, Spelling):
    """One of the classes seen in training; a label of another class is masked and counted in `quality.json`."""

    kind: Literal["multiclass"] = "multiclass"
    predicts_number: ClassVar[bool] = False
    estimates_label: ClassVar[bool] = False
    implementation: ClassVar[str] = "mtl_ray.tasks.multiclass:Multiclass"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a label's weight spread over all classes (Szegedy et al. 2016)."""


class MultilabelTaskConfig(_TaskConfig):
    """Any of the labels seen in training."""

    kind: Literal["multilabel"] = "multilabel"
    predicts_number: ClassVar[bool] = False
    estimates_label: ClassVar[bool] = False
    implementation: ClassVar[str] = "mtl_ray.tasks.multilabel:Multilabel"
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


def declared_weights(tasks: Mapping[str, TaskConfig]) -> dict[str, float]:
    """Return the declared weight of each task, 1 for a task without one."""
    return {name: 1.0 if task.weight is None else task.weight for name, task in tasks.items()}


def relative_weights(tasks: Mapping[str, TaskConfig]) -> dict[str, float]:
    """Return the static weight of each task: the declared one, divided by the sum of all."""
    weights = declared_weights(tasks)
    total = sum(weights.values()) or 1.0
    return {name: weight / total for name, weight in weights.items()}


def metric_names(task: TaskConfig) -> tuple[str, ...]:
    """Return the metrics that a task reports: the declared ones, or the defaults of its kind."""
    named = tuple(metric if isinstance(metric, str) else metric.key for metric in task.metrics)
    return named or _catalog().default_metrics(task.kind)


def own_metric(task: TaskConfig, name: str) -> CustomMetricConfig | None:
    """Return the settings of a task's `custom` metric of that name, if there is one."""
    own = (metric for metric in task.metrics if isinstance(metric, CustomMetricConfig))
    return next((metric for metric in own if metric.key == name), None)


def first_metric(task: TaskConfig) -> str:
    """Return the metric that stands for the task where one has to."""
    return metric_names(task)[0]


def directed_metrics(task: TaskConfig) -> tuple[str, ...]:
    """Return the metrics of a task of which one direction is better."""
    known = {name: _catalog().metric_of(name) for name in metric_names(task)}
    return tuple(name for name, metric in known.items() if metric is None or metric.higher_is_better is not None)


def kinds_where(fact: str) -> list[str]:
    """Return the task kinds of which a fact, a class attribute such as `has_one_output`, holds."""
    members = get_args(get_args(TaskConfig)[0])
    return [member.model_fields["kind"].default for member in members if getattr(member, fact)]
