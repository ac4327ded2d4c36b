"""The draft of an experiment file, for the command `mtl-ray init` and for Python programs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mtl_ray.config import Experiment
from mtl_ray.config.loading import parse
from mtl_ray.config.yaml_text import read_yaml
from mtl_ray.drafting.choices import Doubt
from mtl_ray.drafting.decide import decide
from mtl_ray.drafting.look import Look, look
from mtl_ray.drafting.words import text_of
from mtl_ray.errors import InputError, first_line

DEFAULT_NAME, LONGEST_NAME = "shop", 100


@dataclass(frozen=True, repr=False)
class Draft:
    """A drafted experiment file.

    Example:
        >>> import pandas as pd
        >>> rows = [(f"u{row % 7}", f"i{row % 11}", row % 2, 1767222000 + row) for row in range(200)]
        >>> draft = init(pd.DataFrame(rows, columns=["user_id", "item_id", "click", "timestamp"]), name="small")
        >>> draft.experiment.main_task, draft.experiment.data.split.kind
        ('click', 'time')
    """

    text: str
    """The file, with the reasons as comments."""
    doubts: tuple[Doubt, ...]
    """Decisions that rest on a guess; `init(..., answers={doubt.key: option})` decides them."""

    @property
    def experiment(self) -> Experiment:
        """The experiment that the file describes."""
        return parse(read_yaml(self.text), "the draft")

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the file, and return its path. Raises InputError if it cannot be written, or is there already."""
        path = Path(path)
        if path.exists() and not overwrite:
            raise InputError(f"{path}: expected a new file, found one that is there already; it is not overwritten")
        try:
            path.write_text(self.text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: expected a place for a file, found {first_line(error)}") from error
        return path

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.text)}</pre>"


def init(
    log: Any, users: Any = None, items: Any = None, *, name: str | None = None, answers: Mapping[str, str] | None = None
) -> Draft:
    """Draft an experiment file from a log and, if there are, tables of users and items.

    It looks at about 100,000 rows from all over the log and writes down what it recognised, with the reasons.

    Args:
        log: a file, folder or glob, or a frame of pandas, polars or Arrow: a row an interaction, an event, or a person.
        users: table of user attributes, given as the log is.
        items: table of item attributes.
        name: of the experiment; by default that of the log.
        answers: options for what is in doubt, by the key of the doubt.

    Raises:
        InputError: something cannot be read, nothing in it can be learned, a table is joined by no column, or an answer
            is none of the options.

    Example:
        >>> import pandas as pd
        >>> people = pd.DataFrame({"age": range(20, 80), "income": ["low", "high"] * 30})
        >>> draft = init(people, name="people")
        >>> draft.experiment.tasks["income"].positive
        'high'
        >>> [doubt.key for doubt in draft.doubts]
        ['column.income', 'positive.income']
        >>> init(people, answers={"positive.income": "low"}).experiment.tasks["income"].positive
        'low'
    """
    found = look_at(log, users, items)
    return drafted(found, name or name_of(log), answers or {})


def look_at(log: Any, users: Any = None, items: Any = None) -> Look:
    """Look at the data, for drafts with different answers. Raises InputError as `init` does."""
    given = [each for each in (log, users, items) if each is not None]
    given = [str(each) if isinstance(each, Path) else each for each in given]
    if len({isinstance(each, str) for each in given}) > 1:
        raise InputError("expected either paths or frames, found both; read the files, or write the frames to files")
    log, users, items = (str(each) if isinstance(each, Path) else each for each in (log, users, items))
    return look(log, users, items)


def drafted(found: Look, name: str, answers: Mapping[str, str]) -> Draft:
    """Return the draft for what was looked at. Raises InputError as `init` does."""
    decisions = decide(found, answers)
    return Draft(text_of(name, found, decisions), tuple(decisions.doubts))


def name_of(log: Any) -> str:
    """Return a name for an experiment with this log."""
    if not isinstance(log, str | Path):
        return DEFAULT_NAME
    parts = [part for part in re.split(r"[/\\]", str(log).split("?")[0]) if part and not re.search(r"[*\[]", part)]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", parts[-1].split(".")[0]).strip("-_") if parts else ""
    return stem[:LONGEST_NAME] or DEFAULT_NAME
