"""What all commands share: how they speak to a person and to machines, and common options."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 140)

Json = Annotated[Path | None, typer.Option("--json", help="Write the result for machines to this file.")]
Model = Annotated[str, typer.Argument(help="Checkpoint folder or model URI.", metavar="MODEL")]
TrackingUri = Annotated[str | None, typer.Option(help="MLflow server; that of the environment by default.")]
Keys = Annotated[
    str | None, typer.Option(help="Input columns to keep, with commas between; all by default.", metavar="A,B")
]


def names_of(keys: str | None) -> list[str] | None:
    """The names in the text of an option."""
    return None if keys is None else [name.strip() for name in keys.split(",") if name.strip()]


def say(line: str) -> None:
    """A line for a person."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def write_result(path: Path | None, result: dict[str, Any]) -> None:
    """The result for machines, where `--json` asks for it."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")
