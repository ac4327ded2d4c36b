"""`compare`: a grid of variants, folds and seeds, trained side by side through Ray; finished cells survive a stop."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from mtl_ray.cluster.session import connect
from mtl_ray.cluster.storage_check import check_storage
from mtl_ray.comparison.grid import GridRun, grid
from mtl_ray.comparison.report import read_results, write_report
from mtl_ray.comparison.results import Comparison, comparison_of
from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.runs.parallel import train_in_parallel
from mtl_ray.runs.run_folder import finish_on_exit, new_name, read_note, write_note
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import stage_warm_start
from mtl_ray.tracking.tracked_run import Run


@dataclass(frozen=True)
class Compared:
    """A finished comparison, and where its files are."""

    name: str
    folder: Folder
    run_id: str | None
    comparison: Comparison


def compare(
    experiment: Experiment, resume: str | None = None, echo: Callable[[str], None] = print, command: str = ""
) -> Compared:
    """Train every cell of `experiment.compare` that is not there yet, and compare the variants.

    Leaves `report.html`, `comparison.md`, `comparison.json` and `cells/VARIANT/[FOLD-]seedN.json` in the run's folder;
    one MLflow run with one child a cell.

    Args:
        experiment: with a section `compare`.
        resume: name of an earlier comparison of the same experiment that did not end.
        report: receives lines of text for the user.
        command: the command line that asks for it, for the report.

    Raises:
        InputError: a variant is no experiment, its data are bad, or `resume` names no run of this experiment.
    """
    cells = grid(experiment)
    settings = experiment.compare
    assert settings is not None
    name = resume or new_name(experiment, "-compare")
    folder = Folder(experiment.training.output) / name
    note = read_note("compare", experiment, folder) if resume else None
    finished = read_results(folder, cells)
    missing = [cell for cell in cells if cell.name not in finished]
    missing = [replace(cell, experiment=stage_warm_start(cell.experiment, folder)) for cell in missing]
    connect()
    check_storage(experiment)
    prepared = _prepare(missing, echo)
    if note:
        run = Run(note["tracking_uri"], note["run_id"], folder)
        echo(f"resuming run {name}: {len(finished)} of {len(cells)} cells are there")
    else:
        run = Run.start(experiment, name, folder.create())
        write_note("compare", experiment, folder, run)
        run.log_experiment(experiment, None)
        echo(f"run {name}: {len(cells)} cells; if it is interrupted, continue with: {_resume_command(name)}")
    with finish_on_exit(run, echo, _resume_command(name), lambda: f" with {len(finished)} of {len(cells)} cells"):
        trained = {cell.name: (cell.experiment, prepared[cell.name]) for cell in missing}
        for cell, result in train_in_parallel(trained, "cells", settings.split, settings.cpus_per_cell, run, name):
            finished[cell] = result
            echo(f"{len(finished)}/{len(cells)} {cell}: {result['seconds']:.0f} s")
        comparison = comparison_of(experiment, cells, finished)
        numbers = json.dumps(comparison.to_dict(), indent=2) + "\n"
        run.keep({"comparison.md": comparison.markdown(command), "comparison.json": numbers})
        write_report(experiment, folder, run)
    return Compared(name, folder, run.run_id, comparison)


def _resume_command(name: str) -> str:
    return f"mtl-ray compare EXPERIMENT --resume {name}"


def _prepare(cells: list[GridRun], echo: Callable[[str], None]) -> dict[str, Prepared]:
    """The data set of each cell; made once for all cells with the same settings of the data."""
    made: dict[str, Prepared] = {}
    result = {}
    for cell in cells:
        shape = cell.experiment.model_dump(mode="json", include={"data", "features", "tasks"})
        key = json.dumps([cell.experiment.data_seed, shape])
        if key not in made:
            made[key] = prepare(cell.experiment, echo)
        result[cell.name] = made[key]
    return result
