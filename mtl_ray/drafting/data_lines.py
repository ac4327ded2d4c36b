"""The lines of the section `data`."""

import math

import numpy as np

from mtl_ray.config.data import NULL_WORDS, DataConfig
from mtl_ray.drafting.choices import Line, percent
from mtl_ray.drafting.events import Events
from mtl_ray.drafting.ids import ITEM, USER, Id, free_name
from mtl_ray.drafting.labels import Label
from mtl_ray.drafting.look import Look
from mtl_ray.drafting.when import When

TOLERATED = 0.8
"""Share of the bad rows that the settings allow by default from which on a draft allows more."""


def data_lines(look: Look, events: Events | None, unit: str | None, when: When, *, is_log: bool) -> list[Line]:
    """Return the lines about the source, the time and the split."""
    said = "a row is what one user did with one item" if is_log else "a row is a person, or a thing by itself"
    lines = [Line("source", _source(look, events, unit, said))]
    if when.column is None:
        lines.append(Line("split", "random", f"{when.reason}, so rows are drawn"))
    else:
        lines.append(Line("time", when.column, when.reason, when.is_guess))
        lines += [Line("time_format", when.form, "how it is written")] if when.form else []
        if when.is_spread:
            lines.append(Line("split", "time", "the last rows test, those before them choose the epoch"))
        else:
            lines.append(Line("split", "random", "too few instants to cut in time", is_guess=True))
    read = [*look.columns.values(), *(facts for columns in look.table_columns.values() for facts in columns.values())]
    if words := sorted({word.strip() for facts in read for word in facts.null_words}):
        said = ", ".join(f"`{word}`" for word in words)
        lines.append(Line("null_words", [*NULL_WORDS, *words], f"the usual words for no number, and {said}"))
    return lines


def row_lines(look: Look, user: Id, item: Id, when: When, labels: list[Label]) -> list[Line]:
    """Return the lines about rows: what the log lacks, how many of them are bad, how many find the tables."""
    lines = []
    if user.column is None:
        lines.append(Line("row_id", free_name(USER, look.columns), "a key for each row, as no column says who it was"))
    constants = {free_name(ITEM, look.columns): 0} if item.column is None else {}
    constants |= {label.name: 1 for label in labels if label.settings["kind"] == "ranking"}
    if constants:
        lines.append(Line("constants", constants, "the same for all rows, as the log has no such column"))
    bad = np.zeros(len(look.log.rows), bool) | (when.bad if len(when.bad) else False)
    for key in (user, item):
        bad |= look.columns[key.column].codes < 0 if key.column else False
    for facts in look.columns.values():
        bad |= facts.bad
    allowed = DataConfig.model_fields["max_bad_share"].default
    if (share := bad.mean()) > TOLERATED * allowed:
        most = min(0.99, math.ceil(150 * share + 0.5) / 100)
        reason = f"{percent(share)} of the rows lack a user, an item or a time, or have no number where one belongs"
        lines.append(Line("max_bad_share", most, reason, is_guess=True))
    allowed = DataConfig.model_fields["min_joined_share"].default
    if joins := [join.share for join in look.joins.values() if join.share < allowed / TOLERATED]:
        most = math.floor(50 * min(joins)) / 100
        reason = f"only {min(joins):.0%} of the rows are found in a table: are ids written in two ways?"
        lines.append(Line("min_joined_share", most, reason, is_guess=True))
    return lines


def _source(look: Look, events: Events | None, unit: str | None, said: str) -> list[Line]:
    if look.log.path is None and events is None:
        return [Line("kind", "memory", "the frames that `mtl.train` is given")]
    if events is None:
        lines = [Line("kind", "table"), Line("interactions", look.log.path, said)]
    else:
        reason = f"a row is an event; those of a user with an item{' in a session' if unit else ''} become one"
        lines = [Line("kind", "events", reason)]
        lines += [Line("events", look.log.path)] if look.log.path is not None else []
    for entity, table in look.tables.items():
        found = f"joined by {look.joins[entity].column}: {percent(look.joins[entity].share)} of the rows find theirs"
        lines += [Line(entity, table.path, found)] if table.path is not None else []
    if events is not None:
        counts = ", ".join(f"{meaning} {count:,}" for meaning, count in events.counts.items())
        lines.append(Line("event", events.column, counts))
        lines += [Line("unit", [unit], "with user and item, what becomes a row")] if unit else []
        labels = {name: values[0] if len(values) == 1 else values for name, values in events.labels.items()}
        lines.append(Line("labels", labels, "columns that are 1 where there was such an event, else 0"))
    if look.log.dialect.decimal != ".":
        lines.append(Line("decimal", look.log.dialect.decimal, "numbers are written as 1,5"))
    return lines
