"""The interface of a source: the log as chunks that are read in parallel, and the side tables."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from mtl_ray.config.tables import EventsSourceConfig


class Chunk(Protocol):
    """A piece of the log that is read at once. Picklable and small: it says where rows are, not what they are."""

    @property
    def file(self) -> str:
        """Name of the file of the rows: without a folder, unless several files of the log have that name. Errors show
        it, the predefined split matches it, and the draws of the rows depend on it."""
        ...

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield tables of consecutive rows, each of at most some 10^5 rows, with the row number of the first row.

        Row numbers count the data rows of the file from 1; a CSV header is not a row. All columns of text files are
        strings, so that a malformed value reaches validation as it is. Tables with the columns `FILE` and `ROW` of
        `values.partition` bring the place of each row in the log.
        """
        ...


@dataclass(frozen=True)
class Raw:
    """A raw data set whose log has not been read yet."""

    chunks: Sequence[Chunk]
    columns: Sequence[str]
    """Columns of the log; with `events`, those that are made of events, too."""
    num_rows: int
    """Estimated rows of the log, the same on every machine. It decides the number of partitions, and whether the log is
    prepared in one process."""
    fingerprint: str
    """Digest of the content: the same raw rows have the same fingerprint, wherever they are stored."""
    users: pa.Table | None = None
    """User attributes, one row a user, with the user key column."""
    items: pa.Table | None = None
    noise_floor: dict[str, float] = field(default_factory=dict)
    """Best reachable value by `task/metric`, where the source knows it."""
    events: EventsSourceConfig | None = None
    """How rows are made, where the chunks hold events; `num_rows` counts events then."""


class Source(ABC):
    """A source that the user brings. It is made of its settings."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def open(self) -> Raw:
        """Open the log without reading it. Raises InputError if it is not there."""
