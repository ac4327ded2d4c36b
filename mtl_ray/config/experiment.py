"""The whole experiment and the rules that hold between its sections."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from mtl_ray.config.balancing import (
    BalancingConfig,
    BanditBalancingConfig,
    GradientToTargetBalancingConfig,
    ScheduledBalancingConfig,
    StaticBalancingConfig,
)
from mtl_ray.config.base import Section, name_alone
from mtl_ray.config.comparison import CompareConfig
from mtl_ray.config.data import ColdSplitConfig, DataConfig
from mtl_ray.config.features import (
    FeatureConfig,
    IdFeatureConfig,
    ImageFeatureConfig,
    SequenceFeatureConfig,
    StatisticFeatureConfig,
    TextFeatureConfig,
    VectorFeatureConfig,
)
from mtl_ray.config.model import ArchitectureConfig, CNNEncoderConfig, SharedBottomConfig, TransformerEncoderConfig
from mtl_ray.config.promotion import PromotionConfig
from mtl_ray.config.tasks import DOT_KINDS, TaskConfig
from mtl_ray.config.training import EvaluationConfig, TrackingConfig, TrainingConfig
from mtl_ray.config.tuning import TuneConfig
from mtl_ray.config.validation import (
    check_cold_start,
    check_compile,
    check_compression,
    check_micro_batch,
    check_promotion,
    check_ranking,
    check_workers,
)

RESERVED = ("row", "loss", "shared", "user_support", "item_support", "segment")


class Experiment(Section):
    """One experiment: data, inputs, tasks, model, training and tracking."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the experiment; run folders and MLflow runs start with it."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the split, of initial weights, of the order of rows, of masks and of dropout."""
    data: DataConfig
    features: dict[str, Annotated[FeatureConfig, name_alone(FeatureConfig)]] = Field(min_length=1)
    tasks: dict[str, Annotated[TaskConfig, name_alone(TaskConfig)]] = Field(min_length=1)
    model: Annotated[ArchitectureConfig, name_alone(ArchitectureConfig)] = SharedBottomConfig()
    balancing: BalancingConfig = StaticBalancingConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    compare: CompareConfig | None = None
    """The grid of `mtl-ray compare`; other commands do not read it."""
    promotion: PromotionConfig = PromotionConfig()
    tune: TuneConfig | None = None
    """The search of `mtl-ray tune`; other commands do not read it."""

    @field_validator("model", mode="before")
    @classmethod
    def _shared_bottom_by_default(cls, model: Any) -> Any:
        return {"kind": "shared_bottom", **model} if isinstance(model, dict) else model

    @property
    def user(self) -> str:
        """Name of the feature that is the user's key."""
        return self._key_of("user")

    @property
    def item(self) -> str:
        """Name of the feature that is the item's key."""
        return self._key_of("item")

    @property
    def data_seed(self) -> int:
        """Seed of the split and of the stored order of training rows."""
        return self.seed if self.data.seed is None else self.data.seed

    def _key_of(self, entity: str) -> str:
        return next(n for n, f in self.features.items() if isinstance(f, IdFeatureConfig) and f.entity == entity)

    def column_of(self, name: str) -> str:
        """Raw column of a feature or, if there is no such feature, of a task."""
        entry = self.features.get(name) or self.tasks[name]
        if isinstance(entry, StatisticFeatureConfig) and entry.column is None:
            return self.column_of(self._key_of(entry.entity))
        return entry.column or name

    def weights(self) -> dict[str, float]:
        """Static weight of each task: the declared one, otherwise 1/T."""
        return {n: 1 / len(self.tasks) if t.weight is None else t.weight for n, t in self.tasks.items()}

    def inputs_of(self, task: str) -> list[str]:
        """Names of the input features that read the task's label column."""
        column = self.tasks[task].column or task
        inputs = (n for n, f in self.features.items() if not isinstance(f, SequenceFeatureConfig))
        return [n for n in inputs if self.column_of(n) == column]

    @model_validator(mode="after")
    def _one_key_an_entity(self) -> "Experiment":
        for entity in ("user", "item"):
            keys = [n for n, f in self.features.items() if isinstance(f, IdFeatureConfig) and f.entity == entity]
            if len(keys) != 1:
                found = ", ".join(f"features.{k}" for k in keys) or "none"
                raise ValueError(f"features: expected exactly one `id` feature of entity `{entity}`; found {found}")
        return self

    @model_validator(mode="after")
    def _names(self) -> "Experiment":
        for section, names in (("features", self.features), ("tasks", self.tasks)):
            for name in names:
                if name in RESERVED or "/" in name or "." in name:
                    raise ValueError(
                        f"{section}.{name}: expected a name without '/' and '.', not one of {', '.join(RESERVED)}"
                    )
        return self

    @model_validator(mode="after")
    def _no_label_among_the_inputs(self) -> "Experiment":
        for name, task in self.tasks.items():
            inputs = self.inputs_of(name)
            if inputs and not task.masked_input:
                raise ValueError(
                    f"tasks.{name}: its label column `{self.column_of(inputs[0])}` is also the input "
                    f"features.{inputs[0]}; remove one of them, or set tasks.{name}.masked_input to the share of "
                    "training rows in which that input is hidden and the task is learned"
                )
            if task.masked_input and not inputs:
                raise ValueError(
                    f"tasks.{name}.masked_input: no input reads its label column; add the feature or remove the key"
                )
            for feature in inputs:
                kind, entity = self.features[feature].kind, self.features[feature].entity
                if kind == "id" or entity == "context":
                    raise ValueError(
                        f"tasks.{name}.masked_input: expected an attribute of the user or the item as label; "
                        f"found features.{feature}, {kind} of entity {entity}"
                    )
        return self

    @model_validator(mode="after")
    def _statistics(self) -> "Experiment":
        for name, feature in self.features.items():
            for task in self.tasks if isinstance(feature, StatisticFeatureConfig) else ():
                if self.tasks[task].masked_input and self.column_of(task) == feature.of:
                    raise ValueError(
                        f"features.{name}.of: `{feature.of}` is what tasks.{task} has to tell with it hidden, and its "
                        "statistics would tell it; expected another column"
                    )
        return self

    @model_validator(mode="after")
    def _sequences(self) -> "Experiment":
        for name, feature in self.features.items():
            if not isinstance(feature, SequenceFeatureConfig):
                continue
            if feature.of != self.item:
                raise ValueError(
                    f"features.{name}.of: expected the item's id feature `{self.item}`; found `{feature.of}`"
                )
            if not self.features[self.item].embed:  # pyright: ignore[reportAttributeAccessIssue]
                raise ValueError(f"features.{name}: a history needs features.{self.item}.embed")
            if self.data.time is None:
                raise ValueError(f"features.{name}: a history needs `data.time`, the log's time column")
            if feature.known == "all" and self.data.split.kind == "time":
                raise ValueError(
                    f"features.{name}.known: `all` does not go with the time split, it would see the future"
                )
        split = self.data.split
        first = isinstance(split, ColdSplitConfig) and (split.shown_users or split.shown_items or split.evaluated_after)
        if (split.kind == "time" or first) and self.data.time is None:
            raise ValueError("data.split: what is earlier needs `data.time`, the log's time column")
        return self

    @model_validator(mode="after")
    def _one_width_where_vectors_meet(self) -> "Experiment":
        width, kind = self.model.embedding_dim, self.model.interaction.kind
        if kind in ("concat", "dcn_v2"):
            return self
        if kind == "dot" and not any(t.kind in DOT_KINDS and not t.masked_input for t in self.tasks.values()):
            raise ValueError(
                f"model.interaction: `dot` needs a task of kind {', '.join(DOT_KINDS)} that sees all inputs; found none"
            )
        for name, feature in self.features.items():
            if isinstance(feature, IdFeatureConfig) and not feature.embed:
                continue
            found = feature.dim or width
            if isinstance(feature, VectorFeatureConfig):
                found = [feature.size, *(feature.encoder.hidden if feature.encoder else ())][-1]
            if found != width:
                raise ValueError(f"features.{name}: model.interaction `{kind}` needs the width {width}; found {found}")
        return self

    @model_validator(mode="after")
    def _chains(self) -> "Experiment":
        for name, task in self.tasks.items():
            seen = [name]
            while (before := self.tasks[seen[-1]].after) is not None:
                if before in seen or before not in self.tasks or self.tasks[before].kind != "binary":
                    raise ValueError(
                        f"tasks.{seen[-1]}.after: expected a binary task that comes before it; found `{before}`"
                    )
                seen.append(before)
            if task.after and (task.kind != "binary" or task.where or task.masked_input):
                raise ValueError(
                    f"tasks.{name}.after: expected a binary task whose label is defined on all rows, without `where` "
                    f"and `masked_input`; found kind {task.kind}"
                )
        return self

    @model_validator(mode="after")
    def _layers_of_each_task(self) -> "Experiment":
        for name, feature in self.features.items():
            if not isinstance(feature, ImageFeatureConfig | TextFeatureConfig | SequenceFeatureConfig):
                continue
            encoder = feature.encoder
            if isinstance(encoder, CNNEncoderConfig) and encoder.shared_layers is not None:
                path = f"features.{name}.encoder.shared_layers"
                if not isinstance(feature, ImageFeatureConfig) or encoder.shared_layers >= len(encoder.channels):
                    raise ValueError(f"{path}: expected fewer layers than an image's encoder has")
                model = self.model
                if not isinstance(model, SharedBottomConfig) or (model.encoder.hidden and model.shared_layers != 0):
                    raise ValueError(
                        f"{path}: needs model.kind `shared_bottom` with model.shared_layers 0 (or no encoder layers), "
                        "since nothing above the layers of each task can be shared"
                    )
                if model.interaction.kind == "dot":
                    raise ValueError(f"{path}: does not go with model.interaction `dot`")
            if isinstance(encoder, TransformerEncoderConfig):
                width = feature.dim or self.model.embedding_dim
                if isinstance(feature, SequenceFeatureConfig):
                    width = self.features[feature.of].dim or self.model.embedding_dim
                if width % encoder.heads:
                    raise ValueError(f"features.{name}.encoder.heads: expected a divisor of the width {width}")
        return self

    @model_validator(mode="after")
    def _rows_that_meet_in_a_batch(self) -> "Experiment":
        check_ranking(self)
        check_cold_start(self)
        check_micro_batch(self)
        check_compression(self)
        check_compile(self)
        check_workers(self)
        return self

    @model_validator(mode="after")
    def _balancing_names_tasks(self) -> "Experiment":
        match self.balancing:
            case GradientToTargetBalancingConfig(target=target):
                named = {"target": (target,)}
            case BanditBalancingConfig(targets=targets):
                named = {"targets": targets}
            case ScheduledBalancingConfig(weights=weights):
                named = {"weights": tuple(weights)}
            case _:
                return self
        for key, names in named.items():
            for name in names:
                if name not in self.tasks:
                    raise ValueError(
                        f"balancing.{key}: expected tasks of this file ({', '.join(self.tasks)}); found `{name}`"
                    )
        return self

    @model_validator(mode="after")
    def _promotion(self) -> "Experiment":
        check_promotion(self)
        return self

    @model_validator(mode="after")
    def _early_stopping_metric(self) -> "Experiment":
        stopping = self.training.early_stopping
        if stopping is None or stopping.metric == "valid/loss":
            return self
        parts = stopping.metric.split("/")
        if len(parts) < 3 or parts[0] != "valid" or (parts[1] not in self.tasks):
            raise ValueError(
                "training.early_stopping.metric: expected `valid/loss` or `valid/TASK/METRIC[/SEGMENT]` with a task of "
                f"this file ({', '.join(self.tasks)}); found `{stopping.metric}`"
            )
        return self
