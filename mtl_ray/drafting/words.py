"""The text of a draft: an experiment file, with the reason for each line beside it."""

import textwrap
from collections.abc import Iterator, Sequence

import yaml

from mtl_ray.drafting.choices import Line
from mtl_ray.drafting.decide import Decisions
from mtl_ray.drafting.look import Look

WIDTH, COLUMN = 120, 60
"""Characters of a line; the furthest place at which the comments of a section begin."""


def text_of(name: str, look: Look, decisions: Decisions) -> str:
    """Return the text of an experiment file."""
    return "\n".join(
        [
            *_head(look),
            f"name: {_value(name)}",
            "data:",
            *_data(decisions.data),
            "features:",
            *_features(decisions),
            "tasks:",
            *_comment(_about_tasks(decisions), "  "),
            *_section(decisions.tasks, "  "),
            *_section([Line("tracking", {"register_as": name}, "the name under which MLflow keeps the models")], ""),
            "",
        ]
    )


def _head(look: Look) -> Iterator[str]:
    log = look.log
    rows = f"all {log.num_rows:,} rows" if log.is_whole else f"{len(log.rows):,} of about {log.num_rows:,} rows"
    tables = " and ".join(f"{table.shown} ({table.num_rows:,} rows)" for table in look.tables.values())
    yield from _comment(f"Drafted by `mtl-ray init` from {rows} of {log.shown}{', with ' if tables else ''}{tables}.")
    yield from _comment(
        "`# ?` marks a guess: please look at these lines. Settings of the model and of training are not here: they are "
        "chosen for the data, and `mtl-ray check` prints them."
    )


def _data(lines: Sequence[Line]) -> Iterator[str]:
    source, *others = lines
    assert isinstance(source.settings, list)
    if len(source.settings) == 1:
        yield from _section([Line("source", source.settings[0].settings, source.settings[0].reason), *others], "  ")
        return
    yield "  source:"
    yield from _section(source.settings, "    ")
    yield from _section(others, "  ")


def _features(decisions: Decisions) -> Iterator[str]:
    for entity, lines in decisions.features.items():
        if lines:
            said = {"user": "who", "item": "what", "context": "the circumstances of a row"}
            yield f"  # {said[entity]}"
            yield from _section(lines, "  ")
    if decisions.left:
        yield "  # left out:"
        for name, reason in decisions.left.items():
            yield from _comment(f"{name}: {reason}", "  ", "    ")


def _about_tasks(decisions: Decisions) -> str:
    first = "The first one is the main task: it decides how long is trained." if decisions.tasks[1:] else ""
    return " ".join([*decisions.notes, first]).strip()


def _section(lines: Sequence[Line], indent: str) -> Iterator[str]:
    """Yield lines with their reasons in one column, as far as they fit; a longer one stands above its line."""
    entries = [(f"{indent}{_entry(line)}", line) for line in lines]
    column = max((len(text) for text, _ in entries if len(text) <= COLUMN), default=0) + 2
    for text, line in entries:
        reason = f"{'? ' if line.is_guess else ''}{line.reason}"
        if not reason:
            yield text
        elif (whole := f"{text.ljust(column - 2)}  # {reason}") and len(whole) <= WIDTH:
            yield whole
        else:
            yield from _comment(reason, indent)
            yield text


def _comment(text: str, indent: str = "", hang: str = "") -> list[str]:
    if not text:
        return []
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{indent}# {hang[2:]}",
        subsequent_indent=f"{indent}# {hang}",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _entry(line: Line) -> str:
    return _flow({line.name: line.settings})[1:-1]


def _value(value: object) -> str:
    return _flow([value])[1:-1]


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.rstrip("\n")
