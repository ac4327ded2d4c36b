"""`compare --affinity`: find out from one training which auxiliary tasks help a target."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from statistics import fmean

import ray
from rich.table import Table

from mtl_ray.balancing.affinity import affinity_of, helpful_tasks
from mtl_ray.cluster.session import connect
from mtl_ray.comparison.figures import affinity_map
from mtl_ray.config import Experiment, override
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.reporting.figures import png
from mtl_ray.runs.earlier_models import stage_models
from mtl_ray.runs.lifecycle import new_name
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.training.recipe import completed
from mtl_ray.training.single_process import Training, start_single_process

EVERY = 10
"""Steps between two measurements if `training.affinity_every` is not set. One costs a step per task."""


@dataclass(frozen=True)
class Selection:
    """The affinities between tasks, and the tasks that help a target."""

    target: str
    affinity: dict[str, dict[str, float]]
    """Relative fall of a loss (mean over the run) by task that steps and task of the loss; absent without labels."""
    helpful: list[str]
    """Auxiliary tasks with a positive affinity to the target, the best first."""
    folder: RunFolder

    def table(self) -> Table:
        """Return a table for the terminal."""
        result = Table(title="affinity: relative fall of a task's loss (column) after a step on a task (row)")
        result.add_column("step on")
        for task in self.affinity:
            result.add_column(task, justify="right")
        for task, row in self.affinity.items():
            result.add_row(task, *(f"{row[other]:+z.5f}" if other in row else "-" for other in self.affinity))
        return result


def select_tasks(experiment: Experiment, target: str, echo: Callable[[str], None] = print) -> Selection:
    """Train once with all tasks, measure lookahead affinity (Fifty et al. 2021) and suggest tasks that help `target`.

    A folder under `training.output` receives `affinity.json`, `affinity.png` and `suggested.yaml`: the experiment with
    only the target and the suggested tasks.

    Raises:
        InputError: `target` is no task, or bad data.
    """
    if target not in experiment.tasks or len(experiment.tasks) == 1:
        raise InputError(
            f"--affinity {target}: expected one of at least two tasks; found {', '.join(experiment.tasks)}"
        )
    name = new_name(experiment, "-affinity")
    folder = RunFolder.of(experiment, name)
    folder.create()
    every = experiment.training.affinity_every or EVERY
    settings = override(experiment, {"training.affinity_every": every, "training.ensemble": 1, "compare": None})
    settings = stage_models(settings, folder)
    connect()
    prepared = prepare(settings, echo=echo)
    settings = completed(settings, prepared.schema)
    result = ray.get(start_single_process(Training(settings, prepared), "valid", name))
    epochs = [affinity_of(metrics) for metrics in result["history"]]
    tasks = list(settings.tasks)
    affinity: dict[str, dict[str, float]] = {task: {} for task in tasks}
    for a, b in product(tasks, tasks):
        if seen := [epoch[a][b] for epoch in epochs if b in epoch.get(a, {})]:
            affinity[a][b] = fmean(seen)
    selection = Selection(target, affinity, helpful_tasks(affinity, target), folder)
    suggested = experiment.model_dump(mode="json", exclude_unset=True, exclude={"compare"})
    suggested["tasks"] = {n: t for n, t in suggested["tasks"].items() if n in (target, *selection.helpful)}
    results = {"target": target, "affinity": affinity, "helpful": selection.helpful}
    folder.write_task_selection(results, png(affinity_map(affinity)), suggested)
    return selection
