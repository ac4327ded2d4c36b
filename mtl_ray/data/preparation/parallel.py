"""One function over many numbers, spread over the cluster by Ray Data."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import cloudpickle

# `mtl-ray check` looks at the data without Ray, which is slow to load.
# ruff: noqa: PLC0415


def parallel(function: Callable[[int], Any], numbers: Sequence[int]) -> Iterator[Any]:
    """`function` of each number, in parallel over the cluster; results in the order of the numbers.

    A process loads the function once for all its numbers, so what it has looked up for one serves the next.
    """
    import ray.data

    shared = ray.put(cloudpickle.dumps(function))

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

    return cloudpickle.loads(ray.get(shared))
