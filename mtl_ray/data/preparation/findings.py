"""Findings of `quality.json` that may spoil a model, in words, and the refusal of a join that finds too little."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mtl_ray.config import Experiment
from mtl_ray.data.preparation.repeats import REASONS, REPEATED_EVENT
from mtl_ray.errors import InputError, some

Keys = Mapping[str, Sequence[str]]
NO_KEYS: Keys = MappingProxyType({})

MENDED = {" is repeated": "the first row counts", " is null": "the row is left out"}
"""Treatment of a row of a table whose key has the fault."""


def findings(quality: dict[str, Any], *, whole: bool = True) -> list[str]:
    """Return a line for each finding, the gravest first.

    Args:
        quality: content of `quality.json`.
        whole: False if it describes the first rows of a log alone, which are in no split.
    """
    return list(_findings(quality, whole))


def _findings(quality: dict[str, Any], whole: bool) -> Iterator[str]:
    splits, rows = quality["splits"], _used(quality)
    unknown = sorted(quality["unknown_entities"].items(), key=lambda entry: -entry[1])
    lost = {what: count for what, count in unknown if count}
    yield from (_share(count, rows, what) for what, count in lost.items() if count > rows / 2)
    for task, shares in quality["label_share"].items():
        if not shares["train"]:
            yield f"tasks.{task}: no training row has a label"
    yield from map(_giveaway, quality.get("giveaways", ()))  # data sets of before have none
    for split, name in (("valid", "validation"), ("test", "test")):
        if whole and not splits[split]:
            yield f"no row is a {name} row"
    for name in quality["constant"]:
        what = f"the label of tasks.{name.removesuffix('.label')}" if name.endswith(".label") else f"features.{name}"
        yield f"{what} has the same value in all training rows, or none"
    for name, said in quality.get("advice", {}).items():  # data sets of before have none
        yield f"features.{name} {said}"
    if whole and (unmapped := quality.get("unmapped")):  # data sets of before have none
        yield f"in no row: {some(unmapped)}: correct these values, or leave them out"
    if whole and quality["in_no_split"]:
        yield _share(quality["in_no_split"], rows, "in no split: neither trained on nor evaluated")
    yield from (_share(count, rows, what) for what, count in lost.items() if count <= rows / 2)
    formats = quality.get("lost", {}).items()  # data sets of before have none
    for path, one in sorted(formats, key=lambda entry: -entry[1]["lost"] / max(1, entry[1]["cells"])):
        if one["lost"]:
            cells = f"{one['lost']:,} of {one['cells']:,} cells ({one['lost'] / one['cells']:.1%}) of `{one['column']}`"
            yield f"{cells} cannot be read by {path}.format, such as {one['examples'][0]}: read as null"
    repeats = set(REASONS.values())
    reasons = sorted(quality["reasons"].items(), key=lambda entry: -entry[1])
    yield from (_share(n, quality["rows"], f"set aside: {why}") for why, n in reasons if why not in repeats)
    for why, count in reasons:
        if why in repeats:
            yield _share(count, quality["rows"], f"set aside: {why} (`data.repeats: keep` keeps them)")
    if events := quality.get("events"):  # other logs have none
        for why, count in sorted(events["reasons"].items(), key=lambda entry: -entry[1]):
            kept = " (`data.repeats: keep` keeps them)" if why == REPEATED_EVENT else ""
            yield _share(count, events["rows"], f"set aside: {why}{kept}", "events")
    for what, count in sorted(quality["mended"].items(), key=lambda entry: -entry[1]):
        done = next((done for end, done in MENDED.items() if what.endswith(end)), "read as null")
        yield f"{count:,} x {what}: {done}"


def refuse_lost_join(
    experiment: Experiment, quality: dict[str, Any], log_keys: Keys = NO_KEYS, table_keys: Keys = NO_KEYS
) -> None:
    """Raise InputError if fewer rows find their user or item in its table than `data.min_joined_share` asks for.

    Args:
        experiment: the experiment.
        quality: content of `quality.json`.
        log_keys: by entity some ids of the log, for the message.
        table_keys: by entity the ids of its table.
    """
    rows, wanted = _used(quality), experiment.data.min_joined_share
    for what, count in quality["unknown_entities"].items():
        entity = what.partition(" ")[0]
        if rows and (rows - count) / rows < wanted:
            ids = "".join(
                f"; {where} has ids such as {', '.join(f'`{key}`' for key in keys[entity][:3])}"
                for where, keys in (("the log", log_keys), ("the table", table_keys))
                if entity in keys
            )
            raise InputError(
                f"data.source.{entity}s: {rows - count:,} of {rows:,} rows ({(rows - count) / rows:.1%}) find their "
                f"{entity} in the table; expected {wanted:.0%} (data.min_joined_share){ids}; write the ids alike in "
                "both, or allow a smaller share"
            )


def _giveaway(pair: dict[str, Any]) -> str:
    """Name an input that nearly tells a label, with what shows it and what to do, see `giveaways`."""
    subject, task = f"features.{pair['feature']} alone", f"tasks.{pair['task']}"
    if "accuracy" in pair:
        told = f"tells the label of {task} in {pair['accuracy']:.2%} of training rows (always the most frequent one: "
        told += f"{pair['constant']:.2%})"
    else:
        told = f"explains {pair['explained']:.2%} of the variance of the label of {task}"
    return f"{subject} {told}: leave it out, unless it is known wherever the label is asked for"


def _share(count: int, rows: int, what: str, of: str = "rows") -> str:
    return f"{count:,} of {rows:,} {of} ({count / max(1, rows):.1%}) {what}"


def _used(quality: dict[str, Any]) -> int:
    return sum(quality["splits"].values()) + quality["in_no_split"] + quality["shown_in_histories"]
