"""The last lines of a command: what was lost, and what was not done though it was asked for."""

from typing import TYPE_CHECKING

import typer

from mtl_ray.cli.console import echo

if TYPE_CHECKING:
    from mtl_ray.config import Experiment
    from mtl_ray.storage import Folder

# Libraries are slow to load, and `mtl-ray --help` needs none.
# ruff: noqa: PLC0415


def tell_findings(quality: dict) -> None:
    """Print what may spoil a model, from the content of `quality.json`."""
    from mtl_ray.data.preparation.findings import findings

    found = findings(quality)
    for line in ["found, the gravest first:" if found else "found nothing amiss", *(f"  {line}" for line in found)]:
        echo(line)


def tell_lost(folder: "Folder") -> None:
    """Print what MLflow lacks of the run in a folder."""
    from mtl_ray.tracking.tracked_run import LOST, lost_entries

    if lost := lost_entries(folder):
        more = f"; and {len(lost) - 3:,} more, see {folder}/{LOST}" if len(lost) > 3 else ""
        echo(f"MLflow lacks of this run: {'; '.join(lost[:3])}{more}")


def require_registered(experiment: "Experiment", model_uri: str | None, resume_command: str) -> None:
    """Exit with code 1 if a model should be registered and was not."""
    if experiment.tracking.register_as and model_uri is None:
        echo(
            f"error: the model was not registered as {experiment.tracking.register_as}, see the warnings; once MLflow "
            f"answers, continue with: {resume_command}"
        )
        raise typer.Exit(1)
