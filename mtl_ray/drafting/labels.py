"""What is to be predicted: columns of feedback, ratings, and what is called a label."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_ray.drafting.choices import Choices, percent
from mtl_ray.drafting.facts import Facts
from mtl_ray.drafting.leaks import Target
from mtl_ray.drafting.names import LABELS, RATINGS, feedback, importance, tokens

LEVELS, CLASSES = 21, 50
"""Most levels of a rating, and classes of a category that is called a label."""
RARE, FEWEST = 0.01, 5
"""Share of the rarer class below which a task does not come first, and rows below which it is none."""
LOWEST, HIGHEST = (0, 0.5, 1), (3, 4, 5, 6, 7, 10, 20, 100)
"""Ends of the scales of ratings."""
INPUT, LABEL, NEITHER = "input", "label", "neither"
ONLY_POSITIVES = "interaction"


@dataclass(frozen=True)
class Label:
    """A task."""

    name: str
    """Column of the label, or what it is called where the log has none."""
    settings: dict[str, Any]
    reason: str
    labels: np.ndarray
    """(n,) float64, see `leaks.Target`; empty where the log has no such column yet."""
    meaning: str | None = None
    is_guess: bool = False

    @property
    def target(self) -> Target:
        """What columns may give away."""
        return Target(self.name, self.labels, self.settings["kind"] == "regression")


@dataclass(frozen=True)
class Found:
    """Labels, the main one first, and columns that are no inputs for their sake."""

    labels: list[Label]
    left: dict[str, str]
    """Reasons by column."""


def labels_of(log: Mapping[str, Facts], taken: set[str | None], owned: set[str], choices: Choices) -> Found:
    """Return the labels of a log whose rows are interactions, or people.

    Args:
        log: columns of the log.
        taken: columns that are something else.
        owned: columns that belong to a user or an item, which no row can be asked about.
        choices: decides what is in doubt.
    """
    free = {name: facts for name, facts in sorted(log.items()) if name not in taken | owned}
    named = [label for facts in free.values() if (label := _named(facts)) is not None]
    if not named:
        named = [label for facts in free.values() if (label := _called_label(facts, choices)) is not None]
    left: dict[str, str] = {}
    doubtful: list[Label] = []
    for name, facts in free.items():
        if facts.form != "flag" or name in {label.name for label in named}:
            continue
        guess = INPUT if named else LABEL
        question = f"`{name}` is 0 or 1 and differs from row to row: what is it?"
        chosen, is_guess = choices.choose(f"column.{name}", question, (INPUT, LABEL, NEITHER), guess)
        if chosen == LABEL:
            reason = "0 or 1, and no other column is called a label" if is_guess else "0 or 1"
            doubtful.append(_binary(facts, None, reason, is_guess=is_guess))
        elif chosen == NEITHER:
            left[name] = "you said so"
    return _distinct(sorted([*named, *doubtful], key=_order), left)


def only_positives(name: str | None) -> Label:
    """Return the task of a log in which nothing is ever not taken: to tell a user's items from those of others."""
    reason = "the log has nothing but positives: each is compared with the items that others took"
    return Label(name or ONLY_POSITIVES, {"kind": "ranking"}, reason, np.zeros(0), name, is_guess=True)


def _named(facts: Facts) -> Label | None:
    """Return the label in a column whose name says what happened."""
    words, meaning = set(tokens(facts.name)), feedback(facts.name)
    positive = percent(float(np.nanmean(facts.numbers))) if facts.form == "flag" else ""
    if facts.form == "flag" and meaning:
        return _binary(facts, meaning, f"the name says what happened; {positive} are 1")
    if facts.form == "flag" and words & LABELS:
        return _binary(facts, "label", f"the name says that it is a label; {positive} are 1")
    if facts.form == "number" and words & RATINGS and not words & {"count", "num", "cnt", "avg", "mean"}:
        return _rating(facts)
    return None


def _called_label(facts: Facts, choices: Choices) -> Label | None:
    """Return the label in a column that only its name makes one."""
    if not LABELS.intersection(tokens(facts.name)) or facts.form not in ("category", "number"):
        return None
    if facts.form == "category" and len(facts.different) > CLASSES:
        return None
    question = f"`{facts.name}` is called as a label is: what is it?"
    chosen, is_guess = choices.choose(f"column.{facts.name}", question, (LABEL, INPUT), LABEL)
    if chosen == INPUT:
        return None
    if facts.form == "number":
        return Label(
            facts.name, {"kind": "regression"}, "a number that is called a label", facts.numbers, None, is_guess
        )
    if len(facts.different) > 2:
        reason = f"{len(facts.different)} classes"
        codes = np.where(facts.codes < 0, np.nan, facts.codes.astype(np.float64))
        return Label(facts.name, {"kind": "multiclass"}, reason, codes, None, is_guess)
    key = "positive." + facts.name
    values = facts.different.to_pylist()
    rarer = values[int(np.argmin(facts.counts))]
    positive, is_open = choices.choose(key, f"which value of `{facts.name}` is the positive one?", values, rarer)
    flags = np.where(facts.codes < 0, np.nan, (facts.codes == values.index(positive)).astype(np.float64))
    share = percent(float(np.nanmean(flags)))
    reason = f"called a label; `{positive}` is the positive value, {share} of the rows"
    return Label(facts.name, {"kind": "binary", "positive": positive}, reason, flags, None, is_guess or is_open)


def _binary(facts: Facts, meaning: str | None, reason: str, *, is_guess: bool = False) -> Label:
    return Label(facts.name, {"kind": "binary"}, reason, facts.numbers, meaning, is_guess)


def _rating(facts: Facts) -> Label:
    present = facts.numbers[~np.isnan(facts.numbers)]
    levels, low, high = len(np.unique(present)), float(present.min()), float(present.max())
    if levels > LEVELS:
        return Label(facts.name, {"kind": "regression"}, f"{low:g} to {high:g}", facts.numbers, "rating", is_guess=True)
    settings: dict[str, Any] = {"kind": "regression"}
    if low in LOWEST and high in HIGHEST:
        settings["range"] = [_plain(low), _plain(high)]
    reason = f"{levels} levels from {low:g} to {high:g}, {present.mean():.2f} on average"
    return Label(facts.name, settings, reason, facts.numbers, "rating")


def _distinct(labels: list[Label], left: dict[str, str]) -> Found:
    """Leave out labels that are another one by another name, and those of one class."""
    kept: list[Label] = []
    for label in labels:
        same = next((other for other in kept if _are_equal(label.labels, other.labels)), None)
        rarer = _rarer(label)
        if same is not None:
            left[label.name] = f"equals `{same.name}` in every row"
        elif rarer is not None and rarer < FEWEST:
            left[label.name] = f"a label with {rarer} rows of its rarer class: too few to learn from"
        else:
            kept.append(label)
    return Found(kept, left)


def _are_equal(one: np.ndarray, other: np.ndarray) -> bool:
    both = ~np.isnan(one) & ~np.isnan(other)
    return bool(both.any() and (one[both] == other[both]).all() and both.sum() * 2 > len(one))


def _rarer(label: Label) -> int | None:
    if label.settings["kind"] != "binary":
        return None
    return int(min((label.labels == 0).sum(), (label.labels == 1).sum()))


def _order(label: Label) -> tuple[bool, bool, int, str]:
    rarer = _rarer(label)
    known = max(1, int((~np.isnan(label.labels)).sum()))
    return label.is_guess, rarer is not None and rarer < RARE * known, importance(label.meaning), label.name


def _plain(number: float) -> int | float:
    return int(number) if number.is_integer() else number
