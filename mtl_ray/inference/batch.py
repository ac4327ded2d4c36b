"""Map a function over the tables of a log, here or through Ray Data: streamed, resumable, with bad rows set aside.

The output is made in `OUTPUT.partial`: a Parquet file per table, each written aside and renamed, and a JSON file per
chunk when all of it is done. It is renamed to `OUTPUT` when complete. The same job, repeated, continues there.
"""

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import cloudpickle
import numpy as np
import pyarrow as pa
import torch

from mtl_ray.data.preparation.stage import quarantined
from mtl_ray.data.sources.csv_dialect import Dialect
from mtl_ray.data.sources.csv_files import MALFORMED
from mtl_ray.data.sources.files import Log, find_files, open_log
from mtl_ray.errors import InputError
from mtl_ray.inference.batch_result import QUARANTINE, BatchResult
from mtl_ray.inference.output_lock import locked
from mtl_ray.models import checkpoint
from mtl_ray.storage import Folder

# Few rows are scored without Ray, which is slow to load.
# ruff: noqa: PLC0415

IN_PROCESS_ROWS = 100_000
"""Rows that a model scores where it is asked: to start processes for them takes longer."""

JOB, DONE = "_job.json", "_done"
"""Names in the output: the job's arguments and result, and the finished chunks (until the end)."""


class Function(Protocol):
    """A function that is applied to each table."""

    def bad_rows(self, table: pa.Table) -> pa.Array:
        """Return (n,) strings: the reason to set a row aside, null for a good row."""
        ...

    def __call__(self, table: pa.Table, /) -> pa.Table:
        """Return the result for good rows."""
        ...


class _Apply:
    """Reads chunks, applies the function and writes what becomes of them."""

    def __init__(self, function: Function, output: Folder) -> None:
        self.function = function
        self.output = output

    def __call__(self, row: dict) -> dict:
        place, chunk = row["place"], cloudpickle.loads(row["chunk"])
        read, reasons = 0, Counter()
        for first_row, whole in chunk.read():
            part = f"{place:05d}-{first_row:012d}.parquet"
            reason = self.function.bad_rows(whole)
            good = np.asarray(reason.is_null())
            table = whole if good.all() else whole.filter(pa.array(good))
            if len(table) < len(whole):
                rows = first_row + np.flatnonzero(~good)
                bad = quarantined(whole.filter(pa.array(~good)), reason.drop_null(), chunk.file, rows)
                (self.output / QUARANTINE).write_whole_table(part, bad)
                reasons.update(reason.drop_null().to_pylist())
            if len(table) and not self.output.exists(f"part-{part}"):
                self.output.write_whole_table(f"part-{part}", self._result(chunk.file, first_row, table))
            read += len(whole)
        done = {"rows": read, "quarantined": dict(reasons)}
        self.output.write_atomic(f"{DONE}/{place:05d}.json", json.dumps(done))
        return {"rows": read}

    def _result(self, file: str, first_row: int, table: pa.Table) -> pa.Table:
        try:
            return self.function(table.drop_columns([n for n in table.column_names if n == MALFORMED]))
        except (ValueError, pa.ArrowException) as error:
            raise InputError(f"{file}, rows from {first_row}: {' '.join(str(error).split())}") from error


class _Actor(_Apply):
    """Loads the function once per actor. The model comes as its files, since the folder may be on the driver's machine
    alone."""

    def __init__(self, load: Callable[..., Function], files: list[Any], arguments: tuple, output: str) -> None:
        import ray

        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory(prefix="mtl_ray-") as folder:
            for name, content in ray.get(files[0]).items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            super().__init__(load(Path(folder), *arguments), Folder(output))


def tables_of(log: Log) -> Iterator[pa.Table]:
    """Yield the tables of a log in this process. Raises InputError at a malformed line."""
    for chunk in log.chunks:
        for first_row, table in chunk.read():
            if MALFORMED not in table.column_names:
                yield table
                continue
            bad = np.flatnonzero(np.asarray(table.column(MALFORMED).is_valid()))
            if len(bad):
                raise InputError(
                    f"{chunk.file} row {first_row + bad[0]}: expected as many fields as the header has; found a "
                    "malformed line"
                )
            yield table.drop_columns([MALFORMED])


def read_whole(location: str, dialect: Dialect) -> pa.Table:
    """Read all rows of a Parquet or CSV file, folder or glob in this process. Raises InputError if that fails."""
    return pa.concat_tables(tables_of(open_log(location, dialect=dialect)), promote_options="permissive")


def check_output(output: str) -> None:
    """Raise InputError if the folder contains anything that was not written by a job over rows."""
    target = Folder(output)
    # On storage without an atomic rename, an earlier attempt may have been killed while it renamed its files.
    if not target.exists(JOB) and not set(target.entries()) <= set(target.suffixed(".partial").entries()):
        raise InputError(f"--output {output}: the folder is not empty; name a new one")


def map_rows(
    location: str,
    log: Log,
    output: str,
    load: Callable[..., Function],
    model: Path,
    arguments: tuple,
    job: Mapping[str, Any],
    num_rows: int,
    echo: Callable[[str], None] = lambda _: None,
) -> BatchResult:
    """Apply a function to every table of a log and write the results as Parquet.

    Args:
        location: location of the log.
        log: the open log.
        output: folder to make; an unfinished one of the same job is continued, a finished one is left as it is.
        load: called once in each process with a copy of `model` and with `arguments`; returns the function.
        model: checkpoint folder on this machine.
        arguments: small, picklable.
        job: what the results depend on beside the rows, in a form for JSON.
        num_rows: about how many rows the model has to score; up to `IN_PROCESS_ROWS` are scored without Ray.
        echo: receives lines of text for the user.

    Raises:
        InputError: `output` has other files or an unfinished other job, another process writes there, or rows cannot
            be read.
    """
    target = Folder(output)
    with locked(target):
        aside = target.suffixed(".partial")
        job = {**job, "input": _identity(location)}
        found = target.read_json(JOB) if target.exists(JOB) else {}
        if found and all(found.get(name) == value for name, value in job.items()):
            echo(f"{target} is already there")
            (target / DONE).delete()
            return BatchResult(target, found["rows"], found["quarantined"], 0.0)
        check_output(output)
        if found:
            raise InputError(f"--output {output}: the folder has the results of another job; name a new one")
        if aside.exists(JOB) or [file for file in aside.files() if not file.endswith(".partial")]:
            _same_job(aside, job)
        else:
            aside.create().write_atomic(JOB, json.dumps(job))
        finished = {int(path.rpartition("/")[2].removesuffix(".json")) for path in (aside / DONE).files(".json")}
        if finished:
            echo(f"continuing {aside}: {len(finished)} of {len(log.chunks)} chunks are done")
        places = [place for place in range(len(log.chunks)) if place not in finished]
        left = [{"place": place, "chunk": cloudpickle.dumps(log.chunks[place])} for place in places]
        began = time.monotonic()
        apply = _apply_here if num_rows <= IN_PROCESS_ROWS else _apply_on_cluster
        done = sum(_progress(apply(left, load, model, arguments, aside), began, echo)) if left else 0
        seconds = time.monotonic() - began
        notes = [(aside / DONE).read_json(f"{place:05d}.json") for place in range(len(log.chunks))]
        reasons = sum((Counter(note["quarantined"]) for note in notes), Counter())
        total = {"rows": sum(note["rows"] for note in notes), "quarantined": dict(reasons)}
        aside.write_atomic(JOB, json.dumps({**job, **total}))
        target.delete()
        aside.rename(target, last=JOB)
        (target / DONE).delete()
        return BatchResult(target, total["rows"], total["quarantined"], done / seconds)


def _apply_here(
    left: list[dict[str, Any]], load: Callable[..., Function], model: Path, arguments: tuple, aside: Folder
) -> Iterator[int]:
    """Do the chunks one after the other; yield the rows of each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the actors: other threads would sum in another order
    try:
        apply = _Apply(load(model, *arguments), aside)
        for row in left:
            yield apply(row)["rows"]
    finally:
        torch.set_num_threads(threads)


def _apply_on_cluster(
    left: list[dict[str, Any]], load: Callable[..., Function], model: Path, arguments: tuple, aside: Folder
) -> Iterator[int]:
    """Do the chunks in actors of Ray Data; yield the rows of each as it is done."""
    import ray
    import ray.data

    from mtl_ray.cluster.session import connect

    connect()
    files = [path for path in model.rglob("*") if path.is_file() and path.name != checkpoint.TRAINER]
    copy = ray.put({str(path.relative_to(model)): path.read_bytes() for path in files})
    actors = max(1, min(len(left), int(ray.cluster_resources().get("CPU", 1))))
    done = ray.data.from_items(left, override_num_blocks=len(left)).map(
        _Actor,  # pyright: ignore[reportArgumentType] - Ray makes an actor of a class
        fn_constructor_args=(load, [copy], arguments, aside.location),
        compute=ray.data.ActorPoolStrategy(size=actors),
    )
    yield from (row["rows"] for row in done.iter_rows())


def _progress(counts: Iterator[int], began: float, echo: Callable[[str], None]) -> Iterator[int]:
    rows, told = 0, began
    for count in counts:
        rows += count
        if (now := time.monotonic()) - told > 30:
            echo(f"{rows:,} rows, {rows / (now - began):,.0f} rows/s")
            told = now
        yield count


def _identity(location: str) -> str:
    """Return a digest of the names, sizes and times of the log's files, which a resumed job must find unchanged."""
    infos = [(f.path, f.filesystem.get_file_info(f.path)) for f in find_files(location)]
    return hashlib.sha256(repr([(path, info.size, info.mtime_ns) for path, info in infos]).encode()).hexdigest()


def _same_job(aside: Folder, job: Mapping[str, Any]) -> None:
    found = aside.read_json(JOB) if aside.exists(JOB) else {}
    changed = [name for name, value in job.items() if found.get(name) != value]
    if changed:
        raise InputError(
            f"{aside}: an unfinished job with another {', '.join(changed)} is there; repeat its command to finish it, "
            "delete the folder, or name another --output"
        )
