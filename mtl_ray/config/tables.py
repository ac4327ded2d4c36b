"""Settings of logs that the user brings as files: a row an interaction, or a row an event."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mtl_ray.config.base import NOT_ENCODED, Scalar, Section
from mtl_ray.config.formats import NumberFormat

Sign = Annotated[str, Field(pattern=r"^[\x09\x20-\x7e]$")]


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        raise ValueError(f"expected an encoding such as utf-8, latin-1 or utf-16; found {name!r}") from None
    return name


class FilesConfig(Section):
    """Tables beside a log, and how CSV files are read. Relative paths start from `data.raw`, if it is given."""

    users: str | None = None
    """Table of user attributes, with the user's id column as key."""
    items: str | None = None
    # How CSV files are read. A data set's fingerprint has these in the digest of its raw rows, see `sources/table.py`.
    separator: Annotated[Sign | None, NOT_ENCODED] = None
    """Sign between the fields of CSV files; by default that of the suffix, or what the first line shows."""
    quote: Annotated[Sign | Literal[""], NOT_ENCODED] = '"'
    """Sign around fields that contain separators or line ends; empty if quotes are part of the text."""
    escape: Annotated[Sign | Literal[""], NOT_ENCODED] = ""
    """Sign before a quote that is part of the text, mostly `\\`; empty if such a quote is doubled."""
    decimal: Annotated[Literal[".", ","], NOT_ENCODED] = "."
    """Decimal sign of numbers in CSV files."""
    encoding: Annotated[Annotated[str, AfterValidator(_known_encoding)] | None, NOT_ENCODED] = None
    """Encoding of CSV files, such as `latin-1`; by default UTF-8, or what the first bytes show."""


class TableSourceConfig(FilesConfig):
    """Your own log, Parquet or CSV: a file, a folder or a glob, local or any URL that pyarrow opens."""

    kind: Literal["table"] = "table"
    interactions: str
    """The log, with the columns of the two `id` features as keys of user and item."""


class EventValueConfig(NumberFormat):
    """A number of a row, made of its events."""

    column: str | None = None
    """Column of the events that holds the numbers; to `count` events themselves, leave it out."""
    of: Scalar | tuple[Scalar, ...] = ()
    """Value or values of the column `event` of the events that are looked at; by default all."""
    by: Literal["sum", "mean", "max", "first", "last", "count"] = "sum"
    """The number that is made of them. Where there is none, `count` is 0, and any other is no value."""

    @model_validator(mode="after")
    def _column(self) -> "EventValueConfig":
        if self.column is None and self.by != "count":
            raise ValueError(f"expected a `column` of numbers for `by: {self.by}`; `by: count` alone does without")
        return self


class EventsSourceConfig(FilesConfig):
    """Your own log of events, a row an event, as files like those of `table`.

    The events of a user, an item and the same values of `unit` become one row of the log. It has the columns of the
    events, each with its first value in time, and the columns of `labels`, `chain` and `values`.
    """

    kind: Literal["events"] = "events"
    events: str | None = None
    """The events; without them a Python program gives a frame: `mtl_ray.train(experiment, interactions=...)`."""
    event: str | None = None
    """Column that names what happened; `labels`, `chain` and `of` need it."""
    unit: tuple[str, ...] = ()
    """Columns which, with user and item, make a row, such as a session."""
    window: Annotated[float, Field(gt=0)] | None = None
    """Seconds (or the unit of a time column of numbers) from a row's first event to its last: an event of the same unit
    that lies further away begins another row. By default there is no limit."""
    labels: dict[str, Scalar | tuple[Scalar, ...]] = Field(default={})
    """0/1 column -> value or values of `event`: it is 1 in rows that have such an event."""
    chain: tuple[str, ...] = ()
    """Steps, the first one first, of which a later one implies the earlier ones: names of `labels`, or values of
    `event`, which become labels of that name."""
    values: dict[str, EventValueConfig] = Field(default={})
    """Number column -> what it is made of."""

    @property
    def all_labels(self) -> dict[str, tuple[Scalar, ...]]:
        """The 0/1 columns, those of `chain` among them, with the values of `event` that set them."""
        named = {step: step for step in self.chain} | self.labels
        return {name: values if isinstance(values, tuple) else (values,) for name, values in named.items()}

    @model_validator(mode="after")
    def _consistent(self) -> "EventsSourceConfig":
        made = self.all_labels
        if both := sorted(made.keys() & self.values.keys()):
            raise ValueError(f"values.{both[0]}: expected a name that no label has; give it another one")
        if empty := [name for name, values in made.items() if not values]:
            raise ValueError(f"labels.{empty[0]}: expected at least one value of `event`")
        for field, columns in (("unit", self.unit), ("chain", self.chain)):
            if len(set(columns)) < len(columns):
                raise ValueError(f"{field}: expected different names, found one twice in {', '.join(columns)}")
        if self.event is None and (made or any(value.of != () for value in self.values.values())):
            raise ValueError("expected `event`, the column that names what happened, beside `labels`, `chain` or `of`")
        return self
