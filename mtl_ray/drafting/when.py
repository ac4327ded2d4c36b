"""When a row happened, and how the rows are split."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mtl_ray.drafting.choices import Choices
from mtl_ray.drafting.dates import COMPACT, ISO
from mtl_ray.drafting.facts import Facts, bad_times
from mtl_ray.drafting.ids import NONE
from mtl_ray.drafting.names import AFTERWARDS, BIRTHS, DATES, TIMES, tokens
from mtl_ray.values.times import parse_times

FEWEST_INSTANTS, LARGEST_INSTANT = 50, 0.05
"""What a split by time needs: so many different instants, and at most this share of the rows at one of them."""
SECONDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@dataclass(frozen=True)
class When:
    """The time of rows."""

    column: str | None = None
    form: str | list[str] | None = None
    """`data.time_format`, where it has to be said."""
    reason: str = "no column says when it was"
    is_guess: bool = False
    is_instant: bool = False
    """True if it is a time of the calendar, to which days can be counted."""
    is_spread: bool = False
    """True if the rows can be cut in time."""
    bad: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """(n,) rows without a time."""


def time_of(log: Mapping[str, Facts], taken: set[str | None], owned: set[str], choices: Choices) -> When:
    """Return when the rows happened.

    Args:
        log: columns of the log.
        taken: columns that are something else.
        owned: columns that belong to a user or an item, and so say when these began.
        choices: decides what is in doubt.
    """
    dated, counted = [], []
    for name, facts in log.items():
        words = set(tokens(name))
        if name in taken or name in owned or words & BIRTHS:
            continue
        counts_from_1970 = facts.unit is not None and bool(facts.unit != "s" or words & (TIMES | DATES))
        if counts_from_1970 or facts.form == "date":
            dated.append(name)
        elif facts.form == "number" and facts.is_whole and words & (TIMES | {"t"}) and not words & AFTERWARDS:
            counted.append(name)
    if dated:
        return _of(log[max(dated, key=lambda name: _fitness(log[name]))])
    counted = [name for name in counted if len(log[name].different) >= FEWEST_INSTANTS]
    if not counted:
        return When()
    best = max(counted, key=lambda name: (len(log[name].different), name))
    chosen, guess = choices.choose("time", "which column says when it was?", [*sorted(counted), NONE], best)
    if chosen == NONE:
        return When()
    return _of(log[chosen], "numbers that do not count from 1970; the order is what matters", guess)


def _fitness(facts: Facts) -> tuple[bool, int, int, str]:
    words = set(tokens(facts.name))
    said = 2 if words & TIMES else 1 if words & DATES else 0
    return said > 0, len(facts.different), said, facts.name


def _of(facts: Facts, reason: str = "", is_guess: bool = False) -> When:
    form: str | list[str] | None = None
    if facts.form == "date":
        others = [one for one in facts.formats if one != ISO]
        form = (list(facts.formats) if len(facts.formats) > 1 else others[0]) if others else None
        reason = "times" if not facts.formats else f"text in {' or '.join(_said(one) for one in facts.formats)}"
    elif facts.unit:
        reason = f"{SECONDS[facts.unit]} since 1970, by the size of the numbers"
    bad = bad_times(facts) if form is None else facts.codes < 0
    _, counts = np.unique(facts.codes[facts.codes >= 0], return_counts=True)
    is_spread = len(counts) >= FEWEST_INSTANTS and counts.max() <= LARGEST_INSTANT * counts.sum()
    if form is None and (times := parse_times(facts.values)[0]).size and not is_spread:
        reason += f"; {len(np.unique(times[~np.isnan(times)])):,} instants in all"
    return When(facts.name, form, reason, is_guess, facts.form == "date" or facts.unit is not None, is_spread, bad)


def _said(form: str) -> str:
    return {ISO: "ISO 8601", COMPACT: "the form 20260131"}.get(form, form)
