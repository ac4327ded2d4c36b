"""Which column of the log is the key of a table: the one whose values are found in it."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from mtl_ray.drafting.facts import Facts
from mtl_ray.drafting.names import tokens
from mtl_ray.drafting.sample import Table
from mtl_ray.errors import InputError

UNIQUE = 0.95
"""Smallest share of a key's rows that hold different keys: tables have some rows twice."""
SEEN = 0.25
"""Power of the share of the keys that are in the log, in how well a column fits."""
JOINED = 0.3
"""Smallest share of the log's rows that find a row of the table."""


@dataclass(frozen=True)
class Join:
    """A column of the log and the key of a table that it finds."""

    column: str
    share: float
    """Share of the rows of the log, those without an id left out, that find a row of the table."""


def key_of_table(log: dict[str, Facts], table: dict[str, Facts], shown: Table, entity: str) -> Join:
    """Return the column of the log with which a table of users or items is joined.

    Args:
        log: columns of the log.
        table: columns of the table.
        shown: the table.
        entity: `users` or `items`.

    Raises:
        InputError: no column is found in one of the table, or both have different names.
    """
    keys = {
        name: facts
        for name, facts in table.items()
        if facts.is_key and len(facts.different) >= UNIQUE * facts.num_present and facts.num_present
    }
    pairs = [(_score(facts, key), name, own) for own, key in keys.items() for name, facts in log.items()]
    pairs = [(score, name, own) for score, name, own in pairs if score[0]]
    if not pairs:
        found = ", ".join(keys) or "none"
        raise InputError(
            f"{shown.shown}: expected a column with the ids of {entity}, each once, that are in the log as well; "
            f"columns of values that come once are {found}, and fewer than {JOINED:.0%} of the log's rows are in any; "
            "give another table, or leave it out"
        )
    (_, share), name, own = max(pairs, key=lambda pair: (pair[0], _alike(pair[1], pair[2]), pair[1:]))
    if own != name:
        raise InputError(
            f"{shown.shown}: `{own}` holds the ids of `{name}` in the log ({share:.0%} of its rows found), and both "
            f"need one name; rename `{own}` to `{name}`, or the other way round"
        )
    return Join(name, share)


def _alike(one: str, other: str) -> tuple[bool, int]:
    return one == other, len(set(tokens(one)) & set(tokens(other)))


def _score(facts: Facts, key: Facts) -> tuple[float, float]:
    """Return how well a column of the log fits a key, and the share of its rows that are found; 0 if it does not.

    Small numbers are in many columns of numbers, so the share of the keys that are seen counts as well; it counts less,
    since a sample does not have all ids.
    """
    if not facts.is_key or not facts.num_present:
        return 0.0, 0.0
    found = np.asarray(pc.is_in(facts.different, value_set=key.different))
    share = float(facts.counts @ found / facts.counts.sum())
    seen = found.sum() / min(len(key.different), facts.num_present)
    return (round(share * float(seen) ** SEEN, 4), share) if share >= JOINED else (0.0, share)
