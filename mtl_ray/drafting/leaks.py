"""Columns that give a label away: they tell it nearly alone, or are only there where it is positive."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtl_ray.data.preparation.one_input_rules import CASES, reached, tokens_of
from mtl_ray.drafting.facts import Facts
from mtl_ray.schema import FIRST, NULL
from mtl_ray.values.keys import hash_keys

NEVER, OFTEN = 0.001, 0.2
"""Shares of negative rows, at most, and of positive ones, at least, in which a column has a value that only exists
after the event."""
LISTS = ("vector", "image", "set", "nested")


@dataclass(frozen=True)
class Target:
    """A label as numbers."""

    name: str
    labels: np.ndarray
    """(n,) float64 classes from 0, or numbers; NaN for none."""
    is_number: bool


def row_halves(columns: Sequence[Facts]) -> np.ndarray:
    """Return (n,) bool: rows that choose a rule, drawn by what is in some columns, whatever the order of rows."""
    total = np.zeros(columns[0].num_rows if columns else 0, np.uint64)
    for facts in columns:
        hashes = np.append(hash_keys(facts.different), np.uint64(0))
        total = total * np.uint64(31) + hashes[facts.codes]
    return (total >> np.uint64(17)) % np.uint64(2) == 0


def gives_away(facts: Facts, targets: Sequence[Target], chosen: np.ndarray) -> str | None:
    """Return why a column is no input: what it says of a label; None if nothing is suspected.

    Args:
        facts: the column.
        targets: the labels.
        chosen: (n,) bool, see `row_halves`.
    """
    if facts.form in LISTS:
        return None
    is_number = facts.form == "number"
    tokens = tokens_of(facts.numbers, chosen) if is_number else np.where(facts.codes < 0, NULL, facts.codes + FIRST)
    tokens = tokens.reshape(len(tokens), -1)
    rows = np.arange(len(tokens))
    for target in targets:
        if (found := reached(tokens, target.labels, chosen, rows, is_number=target.is_number)) is not None:
            share = found.get("accuracy", found.get("explained", 1.0))
            return f"tells `{target.name}` nearly alone ({share:.1%})"
        if not target.is_number and _only_after(facts, target.labels):
            return f"is only there where `{target.name}` is 1: it comes after what is to be predicted"
    return None


def _only_after(facts: Facts, labels: np.ndarray) -> bool:
    there = facts.codes >= 0
    if facts.form == "number":
        there = ~np.isnan(facts.numbers) & (facts.numbers != 0)
    positive, negative = there[labels == 1], there[labels == 0]
    if min(len(negative), positive.sum()) < CASES or there.mean() > 0.9:
        return False
    return bool(negative.mean() <= NEVER and positive.mean() >= OFTEN)
