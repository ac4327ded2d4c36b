"""The schema of an encoded data set: what `prepare` fitted on the training rows gives its numbers their meaning.

Column names of the encoded data set: a feature's own name for an input, `NAME.label` for a task's label, and
`row`, `user_support`, `item_support`, `user_key`.
"""

import math
from typing import Literal

from pydantic import ConfigDict, Field

from mtl_ray.config.base import Section
from mtl_ray.config.segments import SEGMENTS, Segment, segments  # noqa: F401 - for those who read the schema

PADDING, NULL, UNKNOWN, FIRST = 0, 1, 2, 3
"""Rows of every embedding table: padding, no value, a value not seen in training, the first known value."""

SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")

USER_SUPPORT, ITEM_SUPPORT, USER_KEY, ROW = "user_support", "item_support", "user_key", "row"


def label_column(task: str) -> str:
    """Return the column of the encoded data set that holds a task's label."""
    return f"{task}.label"


class FittedFeature(Section):
    """The fitted numbers of one input; the experiment describes the rest of it."""

    model_config = ConfigDict(allow_inf_nan=True)  # `not_finite` names what is not

    num_embeddings: int | None = None
    """Rows of its embedding table, including the three reserved ones; None for a plain number."""
    mean: float | None = None
    std: float | None = None
    boundaries: tuple[float, ...] | None = None
    """Inner borders of the buckets of a number, ascending."""
    quantiles: tuple[float, ...] | None = None
    """Borders, ascending, of pieces with about as many training rows each, of a number that is not cut into buckets."""


class FittedTask(Section):
    """The fitted numbers of one label."""

    model_config = ConfigDict(allow_inf_nan=True)

    classes: tuple[str, ...] = ()
    """Names of the classes (multiclass) or labels (multilabel), by index; (negative, positive) is not listed."""
    mean: float = 0.0
    """Mean of the labels: the constant prediction (regression), the share of positives (binary)."""
    std: float = 1.0
    """Standard deviation of the labels (regression)."""
    levels: tuple[float, ...] = ()
    """The different labels that are numbers, ascending; of many, the middle ones of parts with equal shares."""
    shares: tuple[float, ...] = ()
    """Share of the training labels, by level, class (multiclass) or label (multilabel; they do not add up to 1)."""
    num_labels: dict[str, int] = Field(default_factory=dict)
    """Labelled rows by split."""


class Fitted(Section):
    """All fitted numbers: what a model needs of a data set."""

    features: dict[str, FittedFeature]
    tasks: dict[str, FittedTask]


class Schema(Fitted):
    """All fitted numbers and the shape of the data set; stored with the data and in every checkpoint."""

    num_rows: dict[str, int]
    """Rows by split."""
    train_offsets: tuple[int, ...]
    """Partition p holds the training rows from `train_offsets[p]` up to, not including, `train_offsets[p + 1]`."""
    num_lanes: int
    """Training row i is in lane i mod `num_lanes`. Each lane belongs to one worker."""
    fingerprint: str
    """Digest of the raw content and of the settings that shape the data set; its beginning is in the folder's name."""
    content_hash: str
    """Digest of the encoded rows."""
    noise_floor: dict[str, float] = Field(default_factory=dict)
    """Best reachable value by `task/metric`, where the source knows it."""

    def not_finite(self) -> list[str]:
        """Return the paths of fitted numbers that are not finite."""
        fitted = [
            (f"{part}.{name}", entry) for part in ("features", "tasks") for name, entry in getattr(self, part).items()
        ]
        numbers = [(f"{path}.{key}", getattr(entry, key)) for path, entry in fitted for key in ("mean", "std")]
        return [path for path, number in numbers if number is not None and not math.isfinite(number)]


def num_steps(schema: Schema, batch_size: int) -> int:
    """Return the optimizer steps of an epoch, the same on every worker."""
    return -(-schema.num_rows["train"] // batch_size)


def segment_key(split: str, task: str, metric: str, segment: str) -> str:
    """Return the key `split/task/metric[/segment]`; it leaves out the segment `all`."""
    return f"{split}/{task}/{metric}" + ("" if segment == "all" else f"/{segment}")
