"""`compare`: train a grid of variants, folds and seeds side by side through Ray; finished trainings survive a stop."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from mtl_ray.cluster.session import connect
from mtl_ray.cluster.storage_check import check_storage
from mtl_ray.comparison.grid import GridRun, grid
from mtl_ray.comparison.report import read_results, write_report
from mtl_ray.comparison.results import Comparison, comparison_of
from mtl_ray.comparison.single_task import against_single_task
from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.runs.choose_epochs import training_of
from mtl_ray.runs.earlier_models import stage_models
from mtl_ray.runs.lifecycle import finish_on_exit, new_name
from mtl_ray.runs.parallel import train_in_parallel
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.single_process import Training


@dataclass(frozen=True)
class Compared:
    """A finished comparison, and where its files are."""

    name: str
    folder: RunFolder
    run_id: str | None
    comparison: Comparison


def compare(
    experiment: Experiment, resume: str | None = None, echo: Callable[[str], None] = print, command: str = ""
) -> Compared:
    """Train every run of the grid `experiment.compare` that has not finished, and compare the variants.

    The run's folder receives `report.html`, `comparison.md`, `comparison.json` and
    `cells/VARIANT/[FOLD-]seedN.json`; MLflow one run with a child per training.

    Args:
        experiment: has a section `compare`.
        resume: name of an unfinished comparison of the same experiment.
        echo: receives lines of text for the user.
        command: the command line that asks for it, for the report.

    Raises:
        InputError: a variant is no valid experiment, its data are bad, or `resume` names no run of this experiment.
    """
    grid_runs = grid(experiment)
    settings = experiment.compare
    assert settings is not None
    name = resume or new_name(experiment, "-compare")
    folder = RunFolder.of(experiment, name)
    record = folder.record_to_resume("compare", experiment) if resume else None
    finished = read_results(folder, grid_runs)
    missing = [each for each in grid_runs if each.name not in finished]
    missing = [replace(each, experiment=stage_models(each.experiment, folder)) for each in missing]
    connect()
    check_storage(experiment)
    trainings = _prepare(missing, echo)
    if record:
        run = record.tracked_run(folder)
        echo(f"resuming run {name}: {len(finished)} of {len(grid_runs)} cells are there")
    else:
        run = Run.start(experiment, name, folder.create())
        folder.write_record("compare", experiment, run)
        run.log_experiment(experiment, None)
        echo(f"run {name}: {len(grid_runs)} cells; if it is interrupted, continue with: {_resume_command(name)}")
    with finish_on_exit(run, echo, _resume_command(name), lambda: f" with {len(finished)} of {len(grid_runs)} cells"):
        results = train_in_parallel(trainings, folder.grid_runs, settings.split, settings.cpus_per_cell, run, name)
        for trained, result in results:
            finished[trained] = result
            echo(f"{len(finished)}/{len(grid_runs)} {trained}: {result['seconds']:.0f} s")
        comparison = comparison_of(experiment, grid_runs, finished)
        folder.keep_comparison(comparison.markdown(command), comparison.to_dict(), run)
        write_report(experiment, folder, run)
        for line in against_single_task(comparison, grid_runs):
            echo(line)
    return Compared(name, folder, run.run_id, comparison)


def _resume_command(name: str) -> str:
    return f"mtl-ray compare EXPERIMENT --resume {name}"


def _prepare(grid_runs: list[GridRun], echo: Callable[[str], None]) -> dict[str, Training]:
    """Return each run by name with its data set, made once for all runs with the same settings of the data."""
    made: dict[str, Prepared] = {}

    def prepared(experiment: Experiment) -> Prepared:
        settings = experiment.model_dump(mode="json", include={"data", "features", "tasks"})
        key = json.dumps([experiment.data_seed, settings])
        if key not in made:
            made[key] = prepare(experiment, echo)
        return made[key]

    return {each.name: training_of(each.experiment, prepared) for each in grid_runs}
