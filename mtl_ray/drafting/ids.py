"""Whose row it is and of what: the columns of users, of items and of sessions."""

from collections.abc import Mapping
from dataclasses import dataclass

from mtl_ray.drafting.choices import Choices
from mtl_ray.drafting.facts import Facts
from mtl_ray.drafting.joins import Join
from mtl_ray.drafting.names import ITEMS, ROWS, TIMES, UNITS, USERS, is_id, names_id_of, tokens

NONE = "none"
"""The answer that no column has these ids."""
USER, ITEM = "user", "item"
"""Names of keys that the log lacks."""
FEWEST_IDS = 10
"""Fewest different values of a column that is taken for ids without saying so."""
FREQUENT = 1.5
"""Rows of a user, on average, from which on the id itself is worth an embedding."""


@dataclass(frozen=True)
class Id:
    """The key of users or of items."""

    column: str | None
    """None if the log has none: each row is somebody else's, or of the one thing that there is."""
    reason: str
    is_guess: bool = False
    is_input: bool = True
    """True if ids come again, so that something can be learned of each."""


def user_and_item(log: Mapping[str, Facts], joins: Mapping[str, Join], choices: Choices) -> tuple[Id, Id]:
    """Return the keys of users and items."""
    joined = {join.column: entity for entity, join in joins.items()}
    item = _id("item", ITEMS, log, joins.get("items"), {c for c, e in joined.items() if e == "users"}, choices)
    taken = {item.column} if item.column else set()
    user = _id("user", USERS, log, joins.get("users"), taken, choices)
    if user.column is None:
        user = _of_rows(log, user)
    if item.column is None:
        item = Id(None, "no column has items, so all rows are about the same", item.is_guess, False)
    return user, item


def unit_of(log: Mapping[str, Facts], taken: set[str | None]) -> str | None:
    """Return the column of sessions, or of what else holds a user's rows together."""
    found = [
        name
        for name, facts in log.items()
        if names_id_of(name, UNITS) and facts.is_key and name not in taken and not facts.is_unique
    ]
    return min(found, key=lambda name: ("session" not in tokens(name), name), default=None)


def _id(
    entity: str, words: frozenset[str], log: Mapping[str, Facts], join: Join | None, taken: set[str], choices: Choices
) -> Id:
    if join is not None:
        return _found(log[join.column], f"the key of the table of {entity}s")
    keys = {name: facts for name, facts in log.items() if facts.is_key and name not in taken}
    named = sorted(name for name, facts in keys.items() if _is_named(facts, words) and not _other(name, entity))
    if len(named) == 1:
        return _found(log[named[0]], f"the name says {entity}; {len(log[named[0]].different):,} different ones")
    if named:
        best = min(named, key=lambda name: (not is_id(name), -len(log[name].different), name))
        chosen, guess = choices.choose(entity, f"which column has the ids of {entity}s?", [*named, NONE], best)
        others = ", ".join(name for name in named if name != chosen)
        if chosen != NONE:
            return _found(log[chosen], f"ids of {entity}s; might be {others} as well", guess)
        return Id(None, "")
    possible = sorted(name for name, facts in keys.items() if _may_be(facts, entity))
    if not possible:
        return Id(None, "")
    best = max(possible, key=lambda name: (len(log[name].different), name))
    chosen, guess = choices.choose(entity, f"which column has the ids of {entity}s?", [*possible, NONE], best)
    if chosen == NONE:
        return Id(None, "", guess)
    return _found(log[chosen], f"ids that come again, and no name that says {entity}", guess)


def _is_named(facts: Facts, words: frozenset[str]) -> bool:
    """Return whether a name says that the values are ids; where it is but the word, as `job`, few are categories."""
    return names_id_of(facts.name, words) and (is_id(facts.name) or len(facts.different) >= FEWEST_IDS)


def _other(name: str, entity: str) -> bool:
    """Return whether a name speaks of the other side, too: an `item_user_count` is no id of a user."""
    words = set(tokens(name))
    return bool(words & (ITEMS if entity == "user" else USERS)) and bool(words & (USERS if entity == "user" else ITEMS))


def _may_be(facts: Facts, entity: str) -> bool:
    """Return whether a column without a telling name may hold the ids: it is called an id, and they come again."""
    words = set(tokens(facts.name))
    is_other = bool(words & (UNITS | TIMES | (ITEMS if entity == "user" else USERS)))
    few = len(facts.different) < FEWEST_IDS or 2 * len(facts.different) > facts.num_present
    return is_id(facts.name) and not is_other and not few and not ROWS.match(facts.name)


def _found(facts: Facts, reason: str, is_guess: bool = False) -> Id:
    often = facts.num_present / max(1, len(facts.different))
    if often >= FREQUENT:
        return Id(facts.name, reason, is_guess)
    return Id(facts.name, f"{reason}; they hardly come again, so the id is a key, not an input", is_guess, False)


def _of_rows(log: Mapping[str, Facts], user: Id) -> Id:
    """Return the key of users where no column says who they are: each row is another one."""
    names = sorted(
        name for name, facts in log.items() if facts.is_key and facts.is_unique and facts.num_present == facts.num_rows
    )
    named = next((name for name in names if ROWS.match(name) or is_id(name)), None)
    if named is not None:
        return Id(named, "no column says who it was; each row has a value of its own here", user.is_guess, False)
    return Id(None, "no column says who it was, so each row is somebody else", user.is_guess, False)


def free_name(name: str, log: Mapping[str, Facts]) -> str:
    """Return a name for a column that the log does not have yet."""
    while name in log:
        name += "_key"
    return name
