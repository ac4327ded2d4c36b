"""What `prepare` fitted on the training rows: the meaning of the numbers in an encoded data set.

Column names of the encoded data set: a feature's own name for an input, `NAME.label` for a task's label, and
`row`, `user_support`, `item_support`, `user_key`.
"""

from typing import Literal

from pydantic import Field

from mtl_ray.config.base import Section

PADDING, NULL, UNKNOWN, FIRST = 0, 1, 2, 3
"""Rows of every embedding table: padding, no value, a value not seen in training, the first known value."""

SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")

USER_SUPPORT, ITEM_SUPPORT, USER_KEY, ROW = "user_support", "item_support", "user_key", "row"


def label_column(task: str) -> str:
    """Column of the encoded data set that holds a task's label."""
    return f"{task}.label"


class FittedFeature(Section):
    """Numbers of one input that come from training rows; the rest of its description is in the experiment."""

    num_embeddings: int | None = None
    """Rows of its embedding table, the three reserved ones included; None for a plain number."""
    mean: float | None = None
    std: float | None = None
    boundaries: tuple[float, ...] | None = None
    """Inner borders of a bucketised number, ascending."""


class FittedTask(Section):
    """Numbers of one label that come from training rows."""

    classes: tuple[str, ...] = ()
    """Names of the classes (multiclass) or labels (multilabel), by index; (negative, positive) is not listed."""
    mean: float = 0.0
    """Mean of the labels: the constant prediction (regression), the share of positives (binary)."""
    std: float = 1.0
    """Standard deviation of the labels (regression)."""
    num_labels: dict[str, int] = Field(default_factory=dict)
    """Labelled rows by split."""


class Schema(Section):
    """Everything fitted, and the shape of the data set; kept beside the data and in every checkpoint."""

    features: dict[str, FittedFeature]
    tasks: dict[str, FittedTask]
    num_rows: dict[str, int]
    """Rows by split."""
    train_offsets: tuple[int, ...]
    """Bucket b holds the training rows `train_offsets[b]` to `train_offsets[b + 1]`."""
    num_lanes: int
    """Training row i is in the lane i mod `num_lanes`; a lane belongs to one worker."""
    fingerprint: str
    """Digest of the raw content and of the settings that made the data set: its name."""
    content_hash: str
    """Digest of the encoded rows."""
    noise_floor: dict[str, float] = Field(default_factory=dict)
    """Best reachable value by `task/metric`, where the source knows it."""


def num_steps(schema: Schema, batch_size: int) -> int:
    """Optimizer steps of an epoch: the same on every worker."""
    return -(-schema.num_rows["train"] // batch_size)


def segment_key(split: str, task: str, metric: str, segment: str) -> str:
    """`split/task/metric[/segment]`; the segment `all` is not named."""
    return f"{split}/{task}/{metric}" + ("" if segment == "all" else f"/{segment}")


class Segment(Section):
    """A part of the evaluation rows, by the training interactions of their user and item."""

    name: str
    users: tuple[int, int | None] | None = None
    """Interactions of the user: at least, and less than (None: no limit). None: any user."""
    items: tuple[int, int | None] | None = None


SEGMENTS = ("all", "warm", "new_user", "new_item", "new_both")
"""What reports show of a split: all its rows, and those by whether training knew the user and the item."""


def segments(support_buckets: tuple[int, ...]) -> list[Segment]:
    """The segments that every metric is reported for: `warm`, `new_user`, `new_item`, `new_both`, support buckets."""
    known, new = (1, None), (0, 1)
    named = [
        Segment(name="warm", users=known, items=known),
        Segment(name="new_user", users=new, items=known),
        Segment(name="new_item", users=known, items=new),
        Segment(name="new_both", users=new, items=new),
    ]
    lower = (0, *support_buckets)
    for low, high in zip(lower, (*support_buckets, None), strict=True):
        label = f"{low}+" if high is None else str(low) if high - low == 1 else f"{low}-{high - 1}"
        named.append(Segment(name=f"user_support_{label}", users=(low, high)))
        named.append(Segment(name=f"item_support_{label}", items=(low, high)))
    return named
