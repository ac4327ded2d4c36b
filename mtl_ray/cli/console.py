"""Output and options that all commands share."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 140)

Json = Annotated[Path | None, typer.Option("--json", help="Write the result as JSON to this file.")]
Model = Annotated[str, typer.Argument(help="Checkpoint folder or model URI.", metavar="MODEL")]
TrackingUri = Annotated[str | None, typer.Option(help="MLflow server; that of the environment by default.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Import the classes of its own that the model names; files run no code else.")
]
Keys = Annotated[
    str | None, typer.Option(help="Input columns to keep, with commas between; all by default.", metavar="A,B")
]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - as below

        print(f"mtl_ray {version('mtl_ray')}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but warnings and errors.")] = False,
) -> None:
    """Distributed training of multi-task recommenders that solve the cold-start problem."""
    console.quiet = quiet


def names_of(keys: str | None) -> list[str] | None:
    """Split an option's value at commas."""
    return None if keys is None else [name.strip() for name in keys.split(",") if name.strip()]


def echo(line: str) -> None:
    """Print a line."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def write_result(path: Path | None, result: dict[str, Any]) -> None:
    """Write the result as JSON, if `--json` gave a path."""
    from mtl_ray.storage import json_text  # noqa: PLC0415 - pyarrow is slow to load, and `--help` needs none

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json_text(result) + "\n")
