"""From what is known of the data to the lines of an experiment file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mtl_ray.config.feature_base import Entity
from mtl_ray.config.validation import RESERVED
from mtl_ray.drafting.choices import Choices, Doubt, Line
from mtl_ray.drafting.data_lines import data_lines, row_lines
from mtl_ray.drafting.events import Events, events_of
from mtl_ray.drafting.ids import ITEM, USER, Id, free_name, unit_of, user_and_item
from mtl_ray.drafting.inputs import Input, input_of
from mtl_ray.drafting.labels import INPUT, NEITHER, Label, labels_of, only_positives
from mtl_ray.drafting.leaks import gives_away, row_halves
from mtl_ray.drafting.look import ITEMS, USERS, Look
from mtl_ray.drafting.names import feedback
from mtl_ray.drafting.when import When, time_of
from mtl_ray.errors import InputError

ENTITIES: tuple[Entity, ...] = ("user", "item", "context")
TABLES: dict[Entity, str] = {"user": USERS, "item": ITEMS}


@dataclass(frozen=True)
class Decisions:
    """All that a draft says."""

    data: list[Line]
    features: dict[Entity, list[Line]]
    tasks: list[Line]
    left: dict[str, str]
    """Columns that are no inputs, with the reasons."""
    notes: list[str]
    """Remarks on the tasks, for the reader of the file."""
    doubts: list[Doubt]


def decide(look: Look, answers: Mapping[str, str]) -> Decisions:
    """Decide what a draft says; neither the order of columns nor that of rows changes it.

    Raises:
        InputError: the log has nothing to learn from, or an answer is none of the options.
    """
    choices = Choices(answers)
    user, item = user_and_item(look.columns, look.joins, choices)
    owners: Mapping[str, Entity] = _owners(look, user, item)
    owned = {name for name, entity in owners.items() if entity != "context"}
    keys: set[str | None] = {user.column, item.column}
    when = time_of(look.columns, keys, owned, choices)
    unit = unit_of(look.columns, keys | {when.column})
    taken = keys | {when.column, unit}
    events = events_of(look.columns, taken, owned)
    if events is not None and None in keys:
        raise InputError(
            f"{look.log.shown}: a row is an event, as `{events.column}` says ({', '.join(events.counts)}); expected a "
            "row for each user and item, with a 0/1 column for each event; group the rows by user and item"
        )
    is_log = item.column is not None or user.is_input
    labels, left = _labels(look, events, taken, owned if is_log else set(), choices, is_log=is_log)
    if not user.column and not item.column:
        owners = dict.fromkeys(owners, ENTITIES[0])
    inputs, more = _inputs(look, owners, taken | set(left), labels, events, when)
    left |= more
    inputs, doubted = _answered(inputs, choices)
    left |= doubted
    if unit is not None:
        left[unit] = "rows of one session belong together; a new session says nothing by its id"
    if events is not None:
        left[events.column] = "says which event a row is: the labels are made of it"
    features = _features(inputs, user, item, when, labels, look)
    choices.refuse_others()
    return Decisions(
        [*data_lines(look, events, unit, when, is_log=is_log), *row_lines(look, user, item, when, labels)],
        features,
        _tasks(labels, features),
        dict(sorted(left.items())),
        _notes(events, labels),
        [*choices.open.values()],
    )


def _owners(look: Look, user: Id, item: Id) -> dict[str, Entity]:
    """Return to whom each column of the log belongs: the id that says it best, if one does."""
    found: dict[str, Entity] = {}
    keys: tuple[tuple[Entity, Id], ...] = (("item", item), ("user", user))
    for name in look.columns:
        best, strongest = 0.0, "context"
        for entity, key in keys:
            if key.column and key.is_input and name != key.column and (share := look.belongs(name, key.column)) > best:
                best, strongest = share, entity
        found[name] = strongest
    if user.column and not item.column and look.columns[user.column].is_unique:
        found = dict.fromkeys(found, "user")
    return found


def _labels(
    look: Look, events: Events | None, taken: set[str | None], owned: set[str], choices: Choices, *, is_log: bool
) -> tuple[list[Label], dict[str, str]]:
    """Return the tasks, the main one first, and why other columns of labels are none."""
    if events is not None:
        return [_of_event(events, name) for name in events.labels], {}
    found = labels_of(look.columns, taken, owned, choices)
    if found.labels:
        return found.labels, found.left
    if not is_log:
        raise InputError(
            f"{look.log.shown}: expected a column that says what to predict, such as click, rating or label; found "
            f"none among {', '.join([*look.columns][:30])}; call it `label`"
        )
    single = sorted(
        (name, facts.different[0].as_py()) for name, facts in look.columns.items() if facts.form == "constant"
    )
    meanings = [meaning for name, value in single if (meaning := feedback(str(value)) or feedback(name))]
    meaning = meanings[0] if meanings and meanings[0] not in look.columns else None
    return [only_positives(meaning)], found.left


def _of_event(events: Events, name: str) -> Label:
    values = ", ".join(f"`{value}`" for value in events.values[name])
    reason = f"1 if there was {values}: {events.counts[name]:,} of {sum(events.counts.values()):,} events"
    return Label(name, {"kind": "binary"}, reason, np.zeros(0), name)


def _inputs(
    look: Look,
    owners: Mapping[str, Entity],
    taken: set[str | None],
    labels: list[Label],
    events: Events | None,
    when: When,
) -> tuple[dict[tuple[Entity, str], Input], dict[str, str]]:
    """Return how columns are read, by entity and column, and why others are not."""
    inputs: dict[tuple[Entity, str], Input] = {}
    left: dict[str, str] = {}
    has_time = when.is_instant
    for entity, table in TABLES.items():
        for name, facts in look.table_columns.get(table, {}).items():
            if name != look.joins[table].column:
                inputs[entity, name] = input_of(facts, entity, has_time=has_time, in_table=True)
    targets = [label.target for label in labels if len(label.labels)]
    asked = {label.name for label in labels}
    drawn_by = [f for name, f in look.columns.items() if name not in asked and (name in taken or when.column is None)]
    chosen = row_halves(drawn_by)
    for name, facts in look.columns.items():
        if name in taken | asked or (events is not None and name == events.column):
            continue
        entity = owners[name]
        if any((other, name) in inputs for other in TABLES):
            left[name] = f"is in the table of {next(t for e, t in TABLES.items() if (e, name) in inputs)} as well"
            continue
        made = input_of(facts, entity, has_time=has_time, in_table=False)
        if made.settings and targets and (why := gives_away(facts, targets, chosen)):
            made = Input(None, why)
        inputs[entity, name] = made
    left |= {name: made.reason for (_, name), made in inputs.items() if made.settings is None}
    return {key: made for key, made in inputs.items() if made.settings is not None}, left


def _answered(
    inputs: Mapping[tuple[Entity, str], Input], choices: Choices
) -> tuple[dict[tuple[Entity, str], Input], dict[str, str]]:
    """Ask about the inputs in doubt."""
    kept: dict[tuple[Entity, str], Input] = {}
    left: dict[str, str] = {}
    for (entity, name), made in inputs.items():
        if (key := f"column.{name}") in choices.asked:  # whether it is a label, or as a column of another table
            kept[entity, name] = Input(made.settings, made.reason, key in choices.open)
            continue
        if not made.is_guess:
            kept[entity, name] = made
            continue
        question = f"`{name}`: {made.reason}; is it an input?"
        chosen, is_guess = choices.choose(key, question, (INPUT, NEITHER), INPUT)
        if chosen == INPUT:
            kept[entity, name] = Input(made.settings, made.reason, is_guess)
        else:
            left[name] = "you said so"
    return kept, left


def _features(
    inputs: Mapping[tuple[Entity, str], Input], user: Id, item: Id, when: When, labels: list[Label], look: Look
) -> dict[Entity, list[Line]]:
    """Return the features of each entity, its key first, with names of their own."""
    names: set[str] = set()
    features: dict[Entity, list[Line]] = {entity: [] for entity in ENTITIES}
    keys: tuple[tuple[Entity, Id, str], ...] = (("user", user, USER), ("item", item, ITEM))
    for entity, key, missing in keys:
        own = {} if key.is_input and key.column else {"embed": False}
        name, column = _named(key.column or free_name(missing, look.columns), names)
        features[entity].append(Line(name, {"kind": "id", "entity": entity, **column, **own}, key.reason, key.is_guess))
    ids = {entity: lines[0].name for entity, lines in features.items() if lines}
    if _has_history(user, item, when, look):
        rating = next((label.name for label in labels if label.meaning == "rating"), None)
        values = {"values": rating} if rating else {}
        name, _ = _named("history", names | set(look.columns))
        line = Line(name, {"kind": "sequence", "of": ids["item"], **values}, "items of the user's earlier rows")
        features["user"].append(line)
        names.add(name)
    for (entity, raw), made in sorted(inputs.items(), key=lambda entry: entry[0][1]):
        name, column = _named(raw, names, entity)
        settings = made.settings or {}
        kind, *rest = settings.items()
        head = [kind, *([rest.pop(0)] if rest and rest[0][0] == "entity" else [])]
        features[entity].append(Line(name, {**dict(head), **column, **dict(rest)}, made.reason, made.is_guess))
    return features


def _has_history(user: Id, item: Id, when: When, look: Look) -> bool:
    both = user.column is not None and item.column is not None and user.is_input and item.is_input
    return both and when.column is not None and not look.columns[user.column or ""].is_unique


def _tasks(labels: list[Label], features: Mapping[Entity, list[Line]]) -> list[Line]:
    taken = {line.name for lines in features.values() for line in lines}
    lines = []
    for label in labels:
        name, column = _named(label.name, taken, "label")
        kind, *rest = label.settings.items()
        lines.append(Line(name, {**dict([kind]), **column, **dict(rest)}, label.reason, label.is_guess))
    return lines


def _notes(events: Events | None, labels: list[Label]) -> list[str]:
    if events is not None:
        base = ", ".join(f"`{value}`" for value in events.values[events.base])
        notes = [f"A row is what one user did with one item (in one session): {base} is there in all or most of them."]
        return notes + ([f"No label is made of {', '.join(events.unknown)}."] if events.unknown else [])
    if labels[0].settings["kind"] == "ranking":
        return [
            "The log says what was taken, and nothing of what was shown and not taken. With such rows, and a column",
            "that is 0 for them, a model can also tell how likely somebody takes an item that is shown.",
        ]
    return []


def _named(column: str, names: set[str], prefix: str = "") -> tuple[str, dict[str, str]]:
    """Return a name for what reads a column, and the setting that names the column if the name does not."""
    name = re.sub(r"\W+", "_", column).strip("_") or "column"
    name = name if name == column else name.lower()
    while name in names or name in RESERVED:
        name = f"{prefix or 'the'}_{name}"
    names.add(name)
    return name, {} if name == column else {"column": column}
