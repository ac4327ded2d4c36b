"""The whole experiment and the rules that hold between its sections."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from mtl_ray.experiment.balancing import Balancing, StaticBalancing
from mtl_ray.experiment.compare import Compare
from mtl_ray.experiment.data import Data
from mtl_ray.experiment.features import Feature, IdFeature, NumericFeature, SequenceFeature
from mtl_ray.experiment.model import Architecture, SharedBottom
from mtl_ray.experiment.section import Section
from mtl_ray.experiment.tasks import Task
from mtl_ray.experiment.training import Evaluation, Tracking, Training

RESERVED = ("row", "loss", "user_support", "item_support", "segment")


class Experiment(Section):
    """One experiment: data, inputs, tasks, model, training and tracking."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the experiment; run folders and MLflow runs start with it."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the split, of initial weights, of the order of rows, of masks and of dropout."""
    data: Data
    features: dict[str, Feature] = Field(min_length=1)
    tasks: dict[str, Task] = Field(min_length=1)
    model: Architecture = SharedBottom()
    balancing: Balancing = StaticBalancing()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    tracking: Tracking = Tracking()
    compare: Compare | None = None
    """The grid of `mtl-ray compare`; other commands do not read it."""

    @field_validator("features", "tasks", mode="before")
    @classmethod
    def _bare_entries(cls, entries: Any) -> Any:
        """`click: {kind: binary}` may be written `click: binary`."""
        if not isinstance(entries, dict):
            return entries
        return {name: {"kind": entry} if isinstance(entry, str) else entry for name, entry in entries.items()}

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
        return next(n for n, f in self.features.items() if isinstance(f, IdFeature) and f.entity == entity)

    def column_of(self, name: str) -> str:
        """Raw column of a feature or, if there is no such feature, of a task."""
        entry = self.features.get(name) or self.tasks[name]
        return entry.column or name

    def weights(self) -> dict[str, float]:
        """Static weight of each task: the declared one, otherwise 1/T."""
        return {n: 1 / len(self.tasks) if t.weight is None else t.weight for n, t in self.tasks.items()}

    def input_of(self, task: str) -> str | None:
        """Name of the input feature that reads the task's label column, if any."""
        column = self.tasks[task].column or task
        inputs = (n for n, f in self.features.items() if not isinstance(f, SequenceFeature))
        return next((n for n in inputs if self.column_of(n) == column), None)

    @model_validator(mode="after")
    def _one_key_an_entity(self) -> "Experiment":
        for entity in ("user", "item"):
            keys = [n for n, f in self.features.items() if isinstance(f, IdFeature) and f.entity == entity]
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
            feature = self.input_of(name)
            if feature is not None and not task.masked_input:
                raise ValueError(
                    f"tasks.{name}: its label column `{self.column_of(feature)}` is also the input features.{feature}; "
                    f"remove one of them, or set tasks.{name}.masked_input to the share of training rows in which "
                    "that input is hidden and the task is learned"
                )
            if not task.masked_input:
                continue
            if feature is None:
                raise ValueError(
                    f"tasks.{name}.masked_input: no input reads its label column; add the feature or remove the key"
                )
            if isinstance(self.features[feature], IdFeature) or self.features[feature].entity == "context":
                raise ValueError(
                    f"tasks.{name}.masked_input: expected an attribute of the user or the item as label; "
                    f"found features.{feature}, {self.features[feature].kind} of entity "
                    f"{self.features[feature].entity}"
                )
        return self

    @model_validator(mode="after")
    def _sequences(self) -> "Experiment":
        for name, feature in self.features.items():
            if not isinstance(feature, SequenceFeature):
                continue
            if feature.of != self.item:
                raise ValueError(
                    f"features.{name}.of: expected the item's id feature `{self.item}`; found `{feature.of}`"
                )
            if self.data.time is None:
                raise ValueError(f"features.{name}: a history needs `data.time`, the log's time column")
        if self.data.split.kind == "time" and self.data.time is None:
            raise ValueError("data.split: the time split needs `data.time`, the log's time column")
        return self

    @model_validator(mode="after")
    def _one_width_for_the_dot_product(self) -> "Experiment":
        width = self.model.embedding_dim
        for name, feature in self.features.items():
            if self.model.interaction == "dot" and feature.dim not in (None, width):
                raise ValueError(f"features.{name}.dim: model.interaction `dot` needs {width}; found {feature.dim}")
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

    def numeric_inputs(self) -> list[str]:
        """Features that reach the model as a standardised number."""
        return [n for n, f in self.features.items() if isinstance(f, NumericFeature) and f.buckets is None]
