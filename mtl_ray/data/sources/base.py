"""What every source gives: the log as chunks that are read in parallel, and the side tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa


class Chunk(Protocol):
    """A piece of the log that one Ray task reads. Picklable and small: it says where rows are, not what they are."""

    @property
    def file(self) -> str:
        """Name of the file (no folder) the rows come from; shown in errors and matched by the predefined split."""
        ...

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Tables of consecutive rows, each at most some 10^5 rows long, with the row number of its first row.

        Row numbers count the data rows of the file from 1 (a CSV header is not a row). Text files give every column
        as string, so that a malformed value reaches validation as it stands.
        """
        ...


@dataclass(frozen=True)
class Raw:
    """A raw data set: nothing of the log has been read yet."""

    chunks: Sequence[Chunk]
    columns: Sequence[str]
    """Columns of the log."""
    num_rows: int
    """Estimated rows of the log; only sizes the partitions, and must not depend on the machine."""
    fingerprint: str
    """Digest of the content: the same raw rows have the same fingerprint wherever they lie."""
    users: pa.Table | None = None
    """User attributes, one row a user, with the user key column."""
    items: pa.Table | None = None
    noise_floor: dict[str, float] = field(default_factory=dict)
    """Best reachable value by `task/metric`, where the source knows it."""
