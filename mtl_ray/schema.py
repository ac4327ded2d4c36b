"""The schema of an encoded data set: what `prepare` fitted on the training rows gives its numbers their meaning.

Column names of the encoded data set: a feature's own name for an input, `NAME.label` for a task's label, and
`row`, `user_support`, `item_support`, `user_key`.
"""

import math
from typing import Literal

from pydantic import Field

from mtl_ray.config.base import Section

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

    num_embeddings: int | None = None
    """Rows of its embedding table, including the three reserved ones; None for a plain number."""
    mean: float | None = None
    std: float | None = None
    boundaries: tuple[float, ...] | None = None
    """Inner borders of the bins of a number, ascending."""


class FittedTask(Section):
    """The fitted numbers of one label."""

    classes: tuple[str, ...] = ()
    """Names of the classes (multiclass) or labels (multilabel), by index; (negative, positive) is not listed."""
    mean: float = 0.0
    """Mean of the labels: the constant prediction (regression), the share of positives (binary)."""
    std: float = 1.0
    """Standard deviation of the labels (regression)."""
    num_labels: dict[str, int] = Field(default_factory=dict)
    """Labelled rows by split."""


class Schema(Section):
    """All fitted numbers and the shape of the data set; stored with the data and in every checkpoint."""

    features: dict[str, FittedFeature]
    tasks: dict[str, FittedTask]
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


class Segment(Section):
    """A part of the evaluation rows, chosen by the number of training interactions of their user and item."""

    name: str
    users: tuple[int, int | None] | None = None
    """Range of interactions of the user: at least the first number, less than the second (None: no limit). None means
    any user."""
    items: tuple[int, int | None] | None = None


SEGMENTS = ("all", "warm", "new_user", "new_item", "new_both")
"""Segments that reports show: all rows, and rows by whether the user and the item are in the training rows."""


def segments(support_ranges: tuple[int, ...]) -> list[Segment]:
    """Return the segments that metrics are reported for: `warm`, `new_user`, `new_item`, `new_both`, support ranges.

    Args:
        support_ranges: lower ends of the ranges of training interactions; (1, 5) gives 0, 1-4 and 5+.
    """
    known, new = (1, None), (0, 1)
    named = [
        Segment(name="warm", users=known, items=known),
        Segment(name="new_user", users=new, items=known),
        Segment(name="new_item", users=known, items=new),
        Segment(name="new_both", users=new, items=new),
    ]
    lower = (0, *support_ranges)
    for low, high in zip(lower, (*support_ranges, None), strict=True):
        label = f"{low}+" if high is None else str(low) if high - low == 1 else f"{low}-{high - 1}"
        named.append(Segment(name=f"user_support_{label}", users=(low, high)))
        named.append(Segment(name=f"item_support_{label}", items=(low, high)))
    return named
