"""`mtl-ray init`: draft an experiment file, and ask about what is in doubt."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtl_ray.cli.console import Json, echo, write_result
from mtl_ray.errors import InputError

if TYPE_CHECKING:
    from mtl_ray.drafting.choices import Doubt

# Libraries are slow to load, and `mtl-ray --help` needs none.
# ruff: noqa: PLC0415

Table = Annotated[str | None, typer.Option(help="Table with a row for each: file, folder or glob.", metavar="FILE")]


def init(
    log: Annotated[str, typer.Argument(help="The log, Parquet or CSV: file, folder or glob.", metavar="LOG")],
    users: Table = None,
    items: Table = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; by default LOG.yaml here.", metavar="FILE")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take the guesses instead of asking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file, if it is there.")] = False,
    json_file: Json = None,
) -> None:
    """Look at a log and its tables, and draft an experiment file with the reasons as comments."""
    from mtl_ray.drafting.draft import drafted, look_at, name_of

    name = name_of(output or log)
    path = output or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise InputError(f"{path}: expected a new file, found one that is there already; overwrite it with --force")
    found = look_at(log, users, items)
    answers: dict[str, str] = {}
    draft = drafted(found, name, answers)
    if sys.stdin.isatty() and sys.stdout.isatty() and not yes:
        while draft.doubts:  # an answer may settle others, or bring new ones
            answers[draft.doubts[0].key] = _ask(draft.doubts[0])
            draft = drafted(found, name, answers)
    elif draft.doubts and not yes:
        echo(f"not a terminal, so {len(draft.doubts)} guesses are taken without asking, as with --yes")
    draft.save(path, overwrite=force)
    for doubt in draft.doubts:
        echo(f"guessed: {doubt.question} {doubt.guess}")
    guesses = draft.text.count("# ? ")
    echo(f"{path}: please look at the {guesses} lines with `# ?`" if guesses else f"{path}: written, nothing in doubt")
    write_result(json_file, {"file": str(path), "guesses": {doubt.key: doubt.guess for doubt in draft.doubts}})
    echo(f"next: mtl-ray check {path}, then mtl-ray train {path}")


def _ask(doubt: "Doubt") -> str:
    """Return the option that a person chooses."""
    echo(doubt.question)
    for number, option in enumerate(doubt.options, 1):
        echo(f"  {number} {option}")
    default = doubt.options.index(doubt.guess) + 1
    while not 1 <= (number := typer.prompt("number", default=default, type=int)) <= len(doubt.options):
        echo(f"expected a number from 1 to {len(doubt.options)}")
    return doubt.options[number - 1]
