"""How a column is read as an input: the kind of a feature, and why; or why it is none."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_ray.config.feature_base import Entity
from mtl_ray.drafting.dates import ISO
from mtl_ray.drafting.facts import Facts
from mtl_ray.drafting.names import (
    AFTERWARDS,
    BIRTHS,
    CODES,
    COUNTS,
    DATES,
    ROWS,
    SPLITS,
    TIMES,
    feedback,
    is_id,
    tokens,
)
from mtl_ray.drafting.texts import are_links

OWN_VALUES = 0.9
"""Share of an entity's rows with a value of their own, from which on a category is nearly an id."""
RARE_VALUES = 0.1
"""Different values by rows of an entity, from which on rare ones share an embedding."""
FEW_LEVELS = 10
"""Most levels of a whole number that may as well be a code."""
GENDERS = {"f": ("f", "female", "femal", "w", "woman", "fem"), "m": ("m", "male", "man", "mal")}
DAYS = {"years": "years from it to the time of the row", "days": "days from it to the time of the row"}


@dataclass(frozen=True)
class Input:
    """A feature, or the reason why a column is none."""

    settings: dict[str, Any] | None
    reason: str
    is_guess: bool = False


def input_of(facts: Facts, entity: Entity, *, has_time: bool, in_table: bool) -> Input:
    """Return how a column is read.

    Args:
        facts: the column, of the log or of a table.
        entity: whose property it is.
        has_time: whether rows have a time of the calendar, to which days are counted.
        in_table: whether it is of a table, with a row for each user or item.
    """
    if (why := _useless(facts, entity, in_table=in_table)) is not None:
        return Input(None, why)
    made = _KINDS[facts.form](facts, has_time)
    if made.settings is None:
        return made
    kind, *rest = made.settings.items()
    settings = dict([kind, *([] if entity == "context" else [("entity", entity)]), *rest])
    reason, is_guess = made.reason, made.is_guess
    if in_table and _counts_events(facts):
        return Input(settings, f"{reason}; leave it out if it counts what happened after the rows of the log", True)
    empty = 1 - facts.num_present / max(1, facts.num_rows)
    if empty >= 0.01:
        reason += f"; {empty:.0%} empty"
    return Input(settings, reason, is_guess)


def _useless(facts: Facts, entity: Entity, *, in_table: bool) -> str | None:
    """Return why nothing can be learned from a column; None if something can."""
    words, num_values = set(tokens(facts.name)), len(facts.different)
    if facts.form == "nested":
        return f"{facts.values.type} has parts: give the part that is meant a column of its own"
    if facts.form in ("empty", "constant"):
        return "empty" if facts.form == "empty" else f"always `{_short(facts.different[0].as_py())}`"
    if ROWS.match(facts.name):
        return "says where the row comes from, not what it is about"
    if facts.form == "category" and SPLITS.issuperset(text.lower() for text in facts.different.to_pylist()):
        return f"names a split; `split: {{kind: predefined, column: {facts.name}}}` uses it"
    if facts.form == "date" and entity == "context":
        return "another time of the row"
    if facts.form in ("text", "category") and are_links(facts.different, facts.counts):
        return "addresses: their words mean little"
    if not in_table and entity == "context" and words & AFTERWARDS:
        return "the name says that it only exists after the event; it may be another task"
    if facts.form == "category" or (facts.form == "number" and facts.is_whole and is_id(facts.name)):
        if facts.is_unique or (in_table and num_values >= OWN_VALUES * facts.num_present):
            return "nearly a value of its own in each row: nothing to learn from"
        if entity == "context" and is_id(facts.name) and num_values > RARE_VALUES * facts.num_present:
            return "ids that hardly come again"
    return None


def _counts_events(facts: Facts) -> bool:
    words = tokens(facts.name)
    is_count = bool(COUNTS.intersection(words)) and (feedback(facts.name) or AFTERWARDS.intersection(words))
    return facts.form == "number" and bool(is_count)


def _number(facts: Facts, has_time: bool) -> Input:
    words = set(tokens(facts.name))
    if facts.unit and has_time and (facts.unit != "s" or words & (TIMES | DATES | BIRTHS)):
        return _date(facts, has_time)
    if facts.is_whole and (is_id(facts.name) or words & CODES):
        return _category(facts, has_time)
    present = facts.numbers[~np.isnan(facts.numbers)]
    reason = f"a number, {_said(present.min())} to {_said(present.max())}"
    levels = len(np.unique(present))
    if facts.null_words:
        reason += f"; {', '.join(f'`{word}`' for word in facts.null_words)} stand for none"
    if facts.is_whole and 2 < levels <= FEW_LEVELS:
        return Input({"kind": "numeric"}, f"{reason}; `categorical` if its {levels} values are codes", True)
    return Input({"kind": "numeric"}, reason)


def _flag(facts: Facts, has_time: bool) -> Input:
    return Input({"kind": "categorical"}, "yes or no")


def _money(facts: Facts, has_time: bool) -> Input:
    return Input({"kind": "numeric", "format": "money"}, f"amounts, such as `{facts.different[0].as_py()}`")


def _date(facts: Facts, has_time: bool) -> Input:
    if not has_time:
        return Input(None, "a date, and rows have no time of the calendar to which days could be counted")
    measure = "years" if BIRTHS.intersection(tokens(facts.name)) else "days"
    settings: dict[str, Any] = {"kind": "date", "measure": measure}
    reason = DAYS[measure]
    others = [form for form in facts.formats if form != ISO]
    if others:
        settings["format"] = list(facts.formats) if len(facts.formats) > 1 else others[0]
        reason += f"; written in {len(facts.formats)} ways" if len(facts.formats) > 1 else ""
    return Input(settings, reason)


def _set(facts: Facts, has_time: bool) -> Input:
    settings: dict[str, Any] = {"kind": "multi_categorical"}
    if facts.separator not in ("", "|"):
        settings["separator"] = facts.separator
    how = f"a set, parted by `{facts.separator}`" if facts.separator else "a list of values"
    return Input(settings, f"{how}, such as `{_short(facts.different[-1].as_py())}`")


def _vector(facts: Facts, has_time: bool) -> Input:
    return Input({"kind": "vector", "size": facts.size}, f"lists of {facts.size} numbers")


def _image(facts: Facts, has_time: bool) -> Input:
    height, width, channels = facts.shape
    reason = f"{facts.size} numbers from 0 to 255, as images of {height} x {width} x {channels} have"
    return Input({"kind": "image", "shape": list(facts.shape)}, reason, is_guess=True)


def _text(facts: Facts, has_time: bool) -> Input:
    longer = {"max_length": facts.size} if facts.size > 10 else {}
    return Input({"kind": "text", **longer}, f"words, up to {facts.size} in nearly all of {facts.num_present:,} texts")


def _category(facts: Facts, has_time: bool) -> Input:
    known = len(facts.different)
    settings: dict[str, Any] = {"kind": "categorical"}
    reason = f"{known:,} values, such as `{_short(facts.different[int(np.argmax(facts.counts))].as_py())}`"
    if known > max(FEW_LEVELS, RARE_VALUES * facts.num_present):
        settings["min_count"] = 5
        reason += "; rare ones share an embedding"
    if facts.folds:
        spelt = {text.strip().casefold() for text in facts.values.unique().drop_null().to_pylist()} - {""}
        settings["case"] = "fold"
        settings |= {"map": found} if (found := _genders(spelt)) else {}
        ways = f"{known:,} spellings of {len({found.get(text, text) for text in spelt}):,} values"
        return Input(settings, ways, is_guess=bool(found))
    return Input(settings, reason)


def _genders(texts: set[str]) -> dict[str, str]:
    """Return the one-letter form of each longer word, if all texts are words for women and men; else nothing."""
    meant = {word: letter for letter, words in GENDERS.items() for word in words}
    return {text: meant[text] for text in sorted(texts) if meant[text] != text} if texts <= set(meant) else {}


def _said(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.4g}"


def _short(text: str) -> str:
    text = " ".join(text.split()).replace("`", "'")
    return text if len(text) <= 30 else f"{text[:29]}…"


_KINDS = {
    "number": _number,
    "flag": _flag,
    "money": _money,
    "date": _date,
    "set": _set,
    "vector": _vector,
    "image": _image,
    "text": _text,
    "category": _category,
}
