"""Settings that a feature kind reads beside its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.config.columns import request_columns
from mtl_ray.config.data import NULL_WORDS
from mtl_ray.config.feature_base import FeatureSection, column_of, key_of, readers_of
from mtl_ray.config.formats import ISO, NumberFormat
from mtl_ray.values.columns import raw_values
from mtl_ray.values.money import as_numbers

if TYPE_CHECKING:
    from mtl_ray.config.tasks import TaskConfig


@dataclass(frozen=True)
class Surroundings:
    """The other features and tasks, and what is said once for all features.

    A model needs the first four; the others are for raw rows.
    """

    features: Mapping[str, FeatureSection]
    """The sections of all features, by name."""
    tasks: "Mapping[str, TaskConfig]"
    """The sections of all tasks, by name."""
    embedding_dim: int = 16
    """Width of a vector, unless its feature sets its own."""
    sparse_rows: int | None = None
    """Fewest rows of a table that is trained row by row; None if all are trained densely."""
    time: str | None = None
    """The log's column of the time."""
    split: str = "random"
    """Kind of the split."""
    seed: int = 0
    """Seed of the split and of folds."""
    null_words: tuple[str, ...] = NULL_WORDS
    """Words that mean "no value" in a column of numbers."""
    time_format: tuple[str, ...] = ISO
    """How texts of the time are written."""

    @classmethod
    def of(cls, experiment: Experiment) -> "Surroundings":
        """Read them from an experiment."""
        data, model = experiment.data, experiment.model
        return cls(
            experiment.features,
            experiment.tasks,
            model.embedding_dim,
            experiment.training.sparse_rows,
            data.time,
            data.split.kind,
            experiment.data_seed,
            data.null_words,
            data.time_format,
        )

    @property
    def user_column(self) -> str:
        """Raw column of the user's key."""
        return column_of(self.features, key_of(self.features, "user"))

    def numbers(self, table: pa.Table, column: str) -> pa.Array:
        """Return a raw column of numbers, written as a task or a feature that reads it says."""
        tasks = [task for name, task in self.tasks.items() if (task.column or name) == column]
        sections = [*tasks, *(self.features[name] for name in readers_of(self.features, column))]
        formats = (each for each in sections if isinstance(each, NumberFormat) and each.format is not None)
        return as_numbers(raw_values(table, column), next(formats, NumberFormat()), self.null_words)

    @cached_property
    def request_columns(self) -> dict[str, str]:
        """Column of each feature in rows to be scored; found when asked for, as training needs none."""
        return request_columns(self.features, self.time)
