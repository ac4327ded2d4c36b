"""Logs whose rows are events: a column says whether something was viewed, put into the cart or bought."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mtl_ray.drafting.facts import Facts
from mtl_ray.drafting.names import STEPS, feedback, importance

MOST_VALUES = 30
KNOWN = 0.5
"""Smallest share of the rows whose event is known by its word."""


@dataclass(frozen=True)
class Events:
    """A column of events, and the meaning of its values."""

    column: str
    values: dict[str, list[str]]
    """Values by what they stand for, the most important first."""
    base: str
    """The event that comes first of all, such as a view: the other events are learned from it."""
    unknown: list[str]
    counts: dict[str, int]
    """Rows of the sample by meaning."""

    @property
    def labels(self) -> dict[str, list[str]]:
        """Values by the label that they make 1."""
        return {meaning: values for meaning, values in self.values.items() if meaning != self.base}


def events_of(log: Mapping[str, Facts], taken: set[str | None], owned: set[str]) -> Events | None:
    """Return the column of events; None if a row is more than an event. A column of a single event is constant."""
    found = [
        events
        for name, facts in sorted(log.items())
        if name not in taken and name not in owned and facts.form == "category"
        if (events := _events(facts)) is not None
    ]
    return max(found, key=lambda events: sum(events.counts.values()), default=None)


def _events(facts: Facts) -> Events | None:
    if len(facts.different) > MOST_VALUES:
        return None
    words = facts.different.to_pylist()
    meanings = [feedback(word) for word in words]
    known = np.array([meaning is not None for meaning in meanings])
    if facts.counts @ known < KNOWN * facts.counts.sum() or len({*meanings} - {None}) < 2:
        return None
    values: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for word, meaning, count in zip(words, meanings, facts.counts, strict=True):
        if meaning is not None:
            values.setdefault(meaning, []).append(word)
            counts[meaning] = counts.get(meaning, 0) + int(count)
    ordered = sorted(values, key=lambda meaning: (importance(meaning), meaning))
    steps = [step for step in reversed(STEPS) if step in values]
    base = steps[0] if steps else max(ordered, key=lambda meaning: (counts[meaning], meaning))
    unknown = [word for word, meaning in zip(words, meanings, strict=True) if meaning is None]
    return Events(facts.name, {name: values[name] for name in ordered}, base, unknown, counts)
