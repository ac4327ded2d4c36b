"""The report of a run from what is in its folder, as one HTML file and pictures."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mtl_ray.compare_report import compare_report
from mtl_ray.comparison import comparison_of
from mtl_ray.data.prepare import open_prepared
from mtl_ray.data.storage import Folder
from mtl_ray.errors import InputError
from mtl_ray.evaluate import Evaluation
from mtl_ray.experiment import Experiment, parse
from mtl_ray.experiment.grid import Cell, grid
from mtl_ray.page import Page
from mtl_ray.reliability import Bin
from mtl_ray.run_folder import EVALUATION, RUN_FILE, read_history
from mtl_ray.tracking import Run
from mtl_ray.train_report import train_report
from mtl_ray.trials import read_trials
from mtl_ray.tuning import Tuning, read_references
from mtl_ray.tuning_report import tuning_report


def report(location: str) -> Folder:
    """Make the report of the run in a folder anew; returns the folder.

    Raises:
        InputError: it is no run's folder, or the run did not end.
    """
    folder = Folder(location)
    if not folder.exists(RUN_FILE):
        raise InputError(f"{location}: expected the folder of a run, such as runs/NAME; found no {RUN_FILE} there")
    note = folder.read_json(RUN_FILE)
    write_report(folder, Run(note["tracking_uri"], note["run_id"], folder))
    return folder


def write_report(folder: Folder, run: Run) -> None:
    """Write `report.html` and its pictures into the folder of a run that ended, and log them.

    Raises:
        InputError: the run did not end.
    """
    note = folder.read_json(RUN_FILE)
    experiment = parse(note["experiment"], RUN_FILE)
    match note["command"]:
        case "compare":
            page = _of_comparison(experiment, folder)
        case "tune":
            page = tuning_report(Tuning(experiment, read_trials(folder), read_references(experiment, folder)))
        case _:
            page = _of_training(experiment, folder, note)
    run.keep(page.files())


def write_evaluation(folder: Folder, evaluation: Evaluation, model_uri: str | None) -> None:
    """Keep what the report of a training run tells."""
    folder.write_whole(EVALUATION, json.dumps({"model_uri": model_uri, **asdict(evaluation)}, indent=2))


def read_cells(folder: Folder, cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """Results of the cells of a comparison that are there, by name."""
    place = folder / "cells"
    return {c.name: place.read_json(f"{c.name}.json") for c in cells if place.exists(f"{c.name}.json")}


def _of_training(experiment: Experiment, folder: Folder, note: dict[str, Any]) -> Page:
    if not folder.exists(EVALUATION):
        raise InputError(f"{folder}: the run did not end, so there is nothing to report; resume it with --resume")
    saved = folder.read_json(EVALUATION)
    model_uri = saved.pop("model_uri")
    calibration = {task: [Bin(*values) for values in bins] for task, bins in saved.pop("calibration").items()}
    prepared = open_prepared(note["dataset"])
    facts = {
        "run": folder.location,
        "MLflow run": note["run_id"] or "none",
        "model": model_uri or "none",
        "data set": prepared.folder.location,
        "content of the data set": prepared.schema.content_hash,
    }
    return train_report(experiment, Evaluation(**saved, calibration=calibration), prepared, read_history(folder), facts)


def _of_comparison(experiment: Experiment, folder: Folder) -> Page:
    cells = grid(experiment)
    results = read_cells(folder, cells)
    if len(results) < len(cells):
        raise InputError(
            f"{folder}: {len(results)} of {len(cells)} cells are there, so there is nothing to report; "
            "resume it with --resume"
        )
    return compare_report(comparison_of(experiment, cells, results), cells, results)
