"""One function over many numbers, spread over the cluster by Ray Data."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any


def parallel(function: Callable[[int], Any], numbers: Sequence[int]) -> Iterator[Any]:
    """`function` of each number, in parallel over the cluster; results in the order of the numbers."""
    import cloudpickle  # noqa: PLC0415 - `mtl-ray check` looks at the data without Ray
    import ray.data  # noqa: PLC0415

    shared = ray.put(cloudpickle.dumps(function))

    def apply(row: dict[str, Any]) -> dict[str, Any]:
        call = cloudpickle.loads(ray.get(shared))
        return {"place": row["place"], "result": cloudpickle.dumps(call(row["number"]))}

    rows = [{"place": place, "number": int(number)} for place, number in enumerate(numbers)]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(apply).take_all()
    return (cloudpickle.loads(row["result"]) for row in sorted(done, key=lambda row: row["place"]))
