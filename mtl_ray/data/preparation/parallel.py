"""The pieces of a pass of `prepare`: one after the other in this process, or spread over the cluster by Ray Data."""

import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import cloudpickle

from mtl_ray.config import Experiment
from mtl_ray.data.sources.memory import Held
from mtl_ray.storage import check_writable

# `mtl-ray check` and a small `prepare` do without Ray, which is slow to load.
# ruff: noqa: PLC0415

IN_PROCESS_ROWS = 500_000
"""Rows of a log up to which this process does all pieces itself: about the time in which Ray starts and runs the jobs
of the passes. Memory is not the reason: a process holds one piece at a time either way."""

T = TypeVar("T")


class MapPieces(Protocol):
    """Apply a picklable function to the numbers of pieces; the results come in the order of the numbers."""

    def __call__(self, function: Callable[[int], T], numbers: Sequence[int], /) -> Iterator[T]: ...  # noqa: D102


def map_pieces_of(experiment: Experiment, num_rows: int) -> MapPieces:
    """Return the way to do the pieces of a log of about `num_rows` rows; for a large one, connect to Ray.

    Raises:
        InputError: this machine, or a node of the cluster that is needed, cannot use `data.output`.
    """
    if num_rows <= IN_PROCESS_ROWS:
        check_writable(experiment.data.output, "data.output")
        return map
    from mtl_ray.cluster.session import connect
    from mtl_ray.cluster.storage_check import check_storage

    connect()
    check_storage(experiment, ("data",))
    return _map_on_cluster


def _map_on_cluster(function: Callable[[int], T], numbers: Sequence[int], /) -> Iterator[T]:
    """Apply the function on the cluster. A process loads it once, so what it has looked up for one number serves the
    next."""
    import ray.data

    shared = ray.put(_packed(function))

    def apply(row: dict[str, Any]) -> dict[str, Any]:
        return {"place": row["place"], "result": cloudpickle.dumps(_loaded(shared)(row["number"]))}

    rows = [{"place": place, "number": int(number)} for place, number in enumerate(numbers)]
    work = ray.data.from_items(rows, override_num_blocks=len(rows)).map(apply)
    # Results are small; Ray Data would keep half of the processors free for steps that come after.
    work.context.op_resource_reservation_enabled = False
    return (cloudpickle.loads(row["result"]) for row in sorted(work.take_all(), key=lambda row: row["place"]))


@lru_cache(maxsize=1)
def _loaded(shared: Any) -> Callable[[int], Any]:
    import ray

    content, references = ray.get(shared)
    return _Unpickler(content, references).load()


def _packed(function: Callable[[int], Any]) -> tuple[bytes, list[Any]]:
    """Return a function as bytes, and references to the rows in Ray's object store that it reads: a process fetches
    those of its own pieces alone."""
    target = io.BytesIO()
    pickler = _Pickler(target)
    pickler.dump(function)
    return target.getvalue(), pickler.references


class _Pickler(cloudpickle.Pickler):
    def __init__(self, target: io.BytesIO) -> None:
        super().__init__(target)
        self.references: list[Any] = []

    def persistent_id(self, value: Any) -> int | None:
        import ray

        if not isinstance(value, Held | ray.ObjectRef):
            return None
        self.references.append(ray.put(value.table) if isinstance(value, Held) else value)
        return len(self.references) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, references: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(content))
        self.references = references

    def persistent_load(self, place: int) -> Any:
        return self.references[place]
