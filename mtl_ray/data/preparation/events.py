"""From events to rows of a log, before `stage`: deal the events into partitions of users, then make rows of each.

So an event may be anywhere in the log, and no process holds more than the events of a partition.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.config.tables import EventsSourceConfig
from mtl_ray.data.preparation.columns import Columns
from mtl_ray.data.preparation.declared_values import Declared, Occurrences
from mtl_ray.data.preparation.event_rows import rows_of
from mtl_ray.data.preparation.lost_cells import Lost
from mtl_ray.data.preparation.parallel import MapPieces
from mtl_ray.data.preparation.partition import in_time_order, read_pieces, set_aside
from mtl_ray.data.preparation.passes import stage_pieces
from mtl_ray.data.preparation.quality_report import count_staged
from mtl_ray.data.preparation.repeats import REPEATED_EVENT, repeats
from mtl_ray.data.preparation.row_checks import bad_events
from mtl_ray.data.preparation.stage import Stage, describe
from mtl_ray.data.sources import Raw
from mtl_ray.data.sources.files import open_log
from mtl_ray.data.sources.memory import Held, MemoryChunk
from mtl_ray.errors import InputError
from mtl_ray.storage import Folder


@dataclass(frozen=True)
class EventStage(Stage):
    """A writer of `events/PARTITION/PIECE-PART.parquet` from consecutive chunks of events."""

    source: EventsSourceConfig = field(kw_only=True)
    target: ClassVar[str] = "events"
    rejected: ClassVar[str] = "events-"

    @classmethod
    def of(cls, experiment: Experiment, source: EventsSourceConfig, columns: Columns, **place: Any) -> "EventStage":
        """Return one that keeps the columns of which rows with the columns `columns.log` are made."""
        made = {*source.all_labels, *source.values}
        read = [column for column in columns.log if column not in made]
        read += [*source.unit, *([source.event] if source.event else [])]
        read += [value.column for value in source.values.values() if value.column]
        return cls(experiment, tuple(dict.fromkeys(read)), source=source, **place)

    def lost(self, table: pa.Table, reason: pa.Array, file: pa.Array, rows: np.ndarray) -> dict[str, Lost]:
        """Return nothing: lost cells are counted in the rows that are made."""
        return {}

    def _reasons(self, table: pa.Table, keys: pa.Table) -> pa.Array:
        return bad_events(self.experiment, self.source, table, keys)

    @property
    def _compares_all(self) -> bool:
        return self.experiment.data.repeats != "keep"


@dataclass(frozen=True)
class Made:
    """Counts of the rows that were made; two add up."""

    rows: int = 0
    repeats: int = 0
    """Events that were set aside since they repeat an earlier one."""
    examples: tuple[str, ...] = ()
    """Where the first of them are."""
    declared: Occurrences = field(default_factory=Occurrences)

    def __add__(self, other: "Made") -> "Made":
        examples = (*self.examples, *other.examples)[:5]
        declared = self.declared + other.declared
        return Made(self.rows + other.rows, self.repeats + other.repeats, examples, declared)


@dataclass(frozen=True)
class MakeRows:
    """A function that makes the rows of a partition of events and sends its repeats to quarantine."""

    stage: EventStage
    columns: tuple[str, ...]
    """Columns of the rows."""

    def __call__(self, partition: int) -> Made:  # noqa: D102
        folder = self.stage.folder
        staged = folder / f"events/{partition:05d}"
        if not staged.exists():
            return Made()
        rows, repeated, made = self.made(read_pieces(staged))
        (folder / "rows").write_table(f"{partition:05d}.parquet", rows)
        if len(repeated):
            (folder / "quarantine").write_table(f"repeated-events-{partition:05d}.parquet", repeated)
        return made

    def made(self, events: pa.Table) -> tuple[pa.Table, pa.Table, Made]:
        """Return the rows of staged events, which are in the order of the log; their repeats; the counts of both."""
        source, data = self.stage.source, self.stage.experiment.data
        events = in_time_order(events)
        names = [name for name in events.column_names if name not in ("_file", "_row")]
        is_repeat = repeats(events.select(names), "keep" if data.repeats == "keep" else "exact")
        repeated = set_aside(events.filter(pa.array(is_repeat)), REPEATED_EVENT)
        events = events.filter(pa.array(~is_repeat)).combine_chunks()
        rows = rows_of(source, events, self.columns, data.null_words)
        raw = events.rename_columns([name.removeprefix("raw.") for name in events.column_names])
        found = Occurrences.among({one: raw.column(one.column) for one in declared_events(source)})
        return rows, repeated, Made(len(rows), len(repeated), tuple(describe(repeated, 5)), found)


def declared_events(source: EventsSourceConfig) -> list[Declared]:
    """Return the values of events that the settings name; each must occur."""
    if source.event is None:
        return []
    named: dict[str, Any] = {f"data.source.labels.{name}": values for name, values in source.all_labels.items()}
    named |= {f"data.source.values.{name}.of": value.of for name, value in source.values.items()}
    return [
        Declared(path, source.event, (value,))
        for path, values in named.items()
        for value in (values if isinstance(values, tuple) else (values,))
    ]


def make_rows(
    experiment: Experiment,
    raw: Raw,
    columns: Columns,
    aside: Folder,
    target: Folder,
    map_pieces: MapPieces,
    echo: Callable[[str], None],
) -> tuple[Raw, dict[str, Any]]:
    """Make the rows of a log of events, below `aside`.

    Args:
        experiment: the experiment.
        raw: the events.
        columns: what rows need.
        aside: folder of the unfinished data set.
        target: folder of the finished one, beside which quarantined events stay if there are too many.
        map_pieces: does the work.
        echo: receives lines of text for the user.

    Returns:
        The log of rows, and what `quality.json` says of the events.

    Raises:
        InputError: too many events are bad, or an event that the settings name occurs nowhere.
    """
    echo("making rows of events")
    source = _source(raw)
    num_partitions = max(1, -(-raw.num_rows // experiment.data.bucket_rows))
    stage = EventStage.of(experiment, source, columns, num_partitions=num_partitions, folder=aside)
    pieces = stage_pieces(stage, raw.chunks, raw.num_rows, map_pieces)
    counts = count_staged(experiment, pieces, aside, target)
    made = reduce(add, map_pieces(MakeRows(stage, columns.log), range(num_partitions)))
    made.declared.refuse(declared_events(source))
    (aside / "events").delete()
    log, found = open_log((aside / "rows").location), _report(counts, made)
    echo(f"made {made.rows:,} rows of {found['rows']:,} events, {found['bad']:,} of them set aside")
    return replace(raw, chunks=log.chunks, num_rows=made.rows, events=None), found


def first_rows(experiment: Experiment, raw: Raw, columns: Columns, limit: int) -> tuple[Raw, dict[str, Any], bool]:
    """Return the rows of the first events, at least `limit` of them, as `make_rows` does; and whether these are all.

    Raises:
        InputError: none of them can be used, or they are all, and an event that the settings name is not among them.
    """
    source = _source(raw)
    stage = EventStage.of(experiment, source, columns, num_partitions=1, folder=Folder(experiment.data.output))
    first = stage.first(raw.chunks, limit)
    if first.staged is None:
        raise InputError(_none_usable(first.reasons))
    rows, _, made = MakeRows(stage, columns.log).made(first.staged)
    if first.is_whole:
        made.declared.refuse(declared_events(source))
    counts = {"rows": first.num_rows, "reasons": first.reasons, "examples": []}
    num_rows = made.rows if first.is_whole else max(1, round(raw.num_rows * made.rows / first.num_rows))
    log = replace(raw, chunks=[MemoryChunk(Held(rows), 1)], num_rows=num_rows, events=None)
    return log, _report(counts, made), first.is_whole


def _none_usable(reasons: Counter[str]) -> str:
    counts = ", ".join(f"{count:,} x {why}" for why, count in reasons.most_common())
    return f"the log has no usable event among its first: {counts}; run `mtl-ray prepare` to see them"


def _source(raw: Raw) -> EventsSourceConfig:
    assert raw.events is not None, "only a log of events has rows to make"
    return raw.events


def _report(counts: dict[str, Any], made: Made) -> dict[str, Any]:
    """Return what `quality.json` says of events: how many were read, and why which were set aside."""
    repeated = {REPEATED_EVENT: made.repeats} if made.repeats else {}
    reasons = {**counts["reasons"], **repeated}
    examples = [*counts["examples"], *made.examples][:5]
    return {"rows": counts["rows"], "bad": sum(reasons.values()), "reasons": reasons, "examples": examples}
