"""How long a step takes on N workers: a model of a few measured numbers, to be compared with what is measured.

With global batches of B rows, so r = B / N rows a worker,

    t(N) = c0 + c1 r + o0 + o1 U(B) + 2 (N - 1) / N D / w + (N - 1) S(r) / w + k l log2 N

c0, c1: forward and backward pass, a step and a row; o0, o1: optimizer, a step and a row of a table that it moves;
D: bytes of all dense gradients, of which a ring sends and receives 2 (N - 1) / N; U(n): rows of the sparse tables that
n rows of a batch touch; S(r): bytes of those that one worker's rows touch, which all others receive; w: bandwidth of a
worker; k: collective calls of a step; l: their latency in a tree. Nothing overlaps, so where sums run while the
backward pass does, t is an upper bound. Workers are equal, and share nothing that slows them.
"""

import math
from dataclasses import dataclass

INDEX_BYTES = 8


@dataclass(frozen=True)
class Table:
    """An embedding table that is trained row by row."""

    rows: int
    width: int
    lookups: float = 1.0
    """Values that a row of the batch reads."""
    bytes_per_number: int = 4

    def touched(self, batch: float) -> float:
        """Distinct rows that a batch of so many rows reads, of values that are equally frequent: the most there are."""
        return -self.rows * math.expm1(batch * self.lookups * math.log1p(-1 / self.rows))

    @property
    def row_bytes(self) -> int:
        """Of the index and the gradient of one row."""
        return INDEX_BYTES + self.width * self.bytes_per_number


@dataclass(frozen=True)
class Work:
    """What a step costs a worker, without the others."""

    step_seconds: float
    row_seconds: float
    optimizer_seconds: float
    touched_seconds: float
    """Of the optimizer, for each row of a sparse table that it moves."""
    dense_bytes: float
    calls: float
    """Collective calls."""
    tables: tuple[Table, ...] = ()
    """Those that are trained row by row."""


@dataclass(frozen=True)
class Network:
    """Between the workers."""

    bandwidth: float
    """Bytes a second that a worker receives while it sends as many."""
    latency: float
    """Seconds of one hop of a collective call."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step, by what they are spent on."""

    compute: float
    optimizer: float
    dense: float
    sparse: float
    latency: float

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.compute + self.optimizer + self.exchange

    @property
    def exchange(self) -> float:
        """Those without which one worker does."""
        return self.dense + self.sparse + self.latency

    @property
    def limit(self) -> str:
        """What takes the most."""
        return max(vars(self), key=lambda part: vars(self)[part])


def received_bytes(work: Work, batch: int, workers: int) -> tuple[float, float]:
    """Bytes that a worker receives in a step of a global batch: of dense gradients, of rows of sparse tables."""
    dense = 2 * (workers - 1) / workers * work.dense_bytes
    rows = batch / workers
    return dense, (workers - 1) * sum(table.touched(rows) * table.row_bytes for table in work.tables)


def step_time(work: Work, network: Network, batch: int, workers: int) -> StepTime:
    """Of a global batch on so many workers."""
    dense, sparse = received_bytes(work, batch, workers)
    touched = sum(table.touched(batch) for table in work.tables)
    return StepTime(
        compute=work.step_seconds + work.row_seconds * batch / workers,
        optimizer=work.optimizer_seconds + work.touched_seconds * touched,
        dense=dense / network.bandwidth,
        sparse=sparse / network.bandwidth,
        latency=work.calls * network.latency * math.log2(workers),
    )


def efficiency(work: Work, network: Network, rows: int, workers: int) -> float:
    """Rows a second of N workers, each with so many rows of a batch, over N times those of one worker."""
    return step_time(work, network, rows, 1).seconds / step_time(work, network, rows * workers, workers).seconds


def useful_workers(work: Work, network: Network, batch: int, most: int = 1 << 16) -> int:
    """Workers, a power of two, from which twice as many would bring less than a tenth more at this global batch."""
    workers = 1
    while workers < most:
        now, then = (step_time(work, network, batch, n).seconds for n in (workers, 2 * workers))
        if now / then < 1.1:
            break
        workers *= 2
    return workers


def line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """(at 0, slope) of the line of least relative squares through points (x, y); neither is below 0."""
    weights = [1 / y**2 for _, y in points]
    total = sum(weights)
    x, y = (sum(w * p[i] for w, p in zip(weights, points, strict=True)) / total for i in (0, 1))
    spread = sum(w * (p[0] - x) ** 2 for w, p in zip(weights, points, strict=True))
    slope = sum(w * (p[0] - x) * (p[1] - y) for w, p in zip(weights, points, strict=True)) / spread
    if slope < 0:
        return y, 0.0
    if y < slope * x:  # through the origin
        return 0.0, sum(w * p[0] * p[1] for w, p in zip(weights, points, strict=True)) / sum(
            w * p[0] ** 2 for w, p in zip(weights, points, strict=True)
        )
    return y - slope * x, slope
