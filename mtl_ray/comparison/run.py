"""`compare`: train a grid of variants, folds and seeds side by side through Ray; finished trainings survive a stop."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtl_ray.cluster.session import connect
from mtl_ray.cluster.storage_check import check_storage
from mtl_ray.comparison.grid import GridRun, at_point, grid
from mtl_ray.comparison.report import read_results, write_report
from mtl_ray.comparison.results import Comparison, comparison_of
from mtl_ray.comparison.single_task import against_single_task
from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.reporting.results import Shown, metrics_frame
from mtl_ray.runs.choose_epochs import training_of
from mtl_ray.runs.earlier_models import stage_models
from mtl_ray.runs.lifecycle import finish_on_exit, new_name, resume_command
from mtl_ray.runs.parallel import train_in_parallel
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.single_process import Training

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Compared(Shown):
    """A finished comparison, and where its files are.

    Example:
        >>> compare(shop).to_frame().pivot_table("value", "metric", "variant")  # doctest: +SKIP
    """

    name: str
    folder: RunFolder
    run_id: str | None
    comparison: Comparison
    """The variants on each metric and segment, with tests against the baseline."""
    trainings: Sequence[tuple[GridRun, Mapping[str, float]]]
    """Each training of the grid with its metrics."""

    @property
    def metrics(self) -> dict[str, float]:
        """The mean of each compared metric: `VARIANT/split/task/metric[/segment]`."""
        return self.comparison.to_dict()["metrics"]

    def to_frame(self) -> "pd.DataFrame":
        """Return all metrics of all trainings as a tidy frame: variant, fold and seed, then the columns of one
        training's."""
        import pandas as pd  # noqa: PLC0415 - slow to load

        parts = []
        for run, metrics in self.trainings:
            part = metrics_frame(metrics)
            named = {"variant": at_point(run.variant, run.point), "fold": run.fold, "seed": run.seed}
            for place, (name, value) in enumerate(named.items()):
                part.insert(place, name, pd.Series([value] * len(part), dtype="int64" if name == "seed" else "object"))
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def table(self) -> Table:
        """Return the variants side by side as a table."""
        return self.comparison.table()

    def lines(self) -> Iterator[str]:
        """Yield whether other tasks help the main one, then where the run and its files are."""
        yield from against_single_task(self.comparison, [run for run, _ in self.trainings])
        yield f"MLflow run: {self.run_id}"
        yield f"report: {self.folder}/report.html, comparison.md, comparison.json"


def compare(
    experiment: Experiment,
    *,
    interactions: Any = None,
    users: Any = None,
    items: Any = None,
    resume: str | None = None,
    command: str = "",
    echo: Callable[[str], None] = print,
) -> Compared:
    """Train every run of the grid `experiment.compare` that has not finished, and compare the variants.

    The run's folder receives `report.html`, `comparison.md`, `comparison.json` and
    `cells/VARIANT/[FOLD-]seedN.json`; MLflow one run with a child per training.

    Args:
        experiment: has a section `compare`.
        interactions: for `data.source: memory`, the log as a frame, see `prepare`.
        users: for `memory`, the table of users, if there is one.
        items: for `memory`, the table of items, if there is one.
        resume: name of an unfinished comparison of the same experiment.
        command: what asks for it, for the report.
        echo: receives lines of text for the user.

    Raises:
        InputError: a variant is no valid experiment, its data are bad, or `resume` names no run of this experiment.

    Example:
        >>> from mtl_ray.config import load
        >>> compare(load("shop.yaml")).to_frame().groupby("variant")["value"].mean()  # doctest: +SKIP
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
    trainings = _prepare(missing, partial(prepare, interactions=interactions, users=users, items=items, echo=echo))
    continued = resume_command("compare", experiment, name)
    if record:
        run = record.tracked_run(folder)
        echo(f"resuming run {name}: {len(finished)} of {len(grid_runs)} cells are there")
    else:
        run = Run.start(experiment, name, folder.create())
        folder.write_record("compare", experiment, run)
        run.log_experiment(experiment, None)
        echo(f"run {name}: {len(grid_runs)} cells; if it is interrupted, continue with: {continued}")
    with finish_on_exit(run, echo, continued, lambda: f" with {len(finished)} of {len(grid_runs)} cells"):
        results = train_in_parallel(trainings, folder.grid_runs, settings.split, settings.cpus_per_cell, run, name)
        for trained, result in results:
            finished[trained] = result
            echo(f"{len(finished)}/{len(grid_runs)} {trained}: {result['seconds']:.0f} s")
        comparison = comparison_of(experiment, grid_runs, finished)
        folder.keep_comparison(comparison.markdown(command), comparison.to_dict(), run)
        write_report(experiment, folder, run)
    trained = [(each, finished[each.name]["metrics"]) for each in grid_runs]
    return Compared(name, folder, run.run_id, comparison, trained)


def _prepare(grid_runs: list[GridRun], prepare: Callable[[Experiment], Prepared]) -> dict[str, Training]:
    """Return each run by name with its data set, made once for all runs with the same settings of the data."""
    made: dict[str, Prepared] = {}

    def prepared(experiment: Experiment) -> Prepared:
        settings = experiment.model_dump(mode="json", include={"data", "features", "tasks"})
        key = json.dumps([experiment.data_seed, settings])
        if key not in made:
            made[key] = prepare(experiment)
        return made[key]

    return {each.name: training_of(each.experiment, prepared) for each in grid_runs}
