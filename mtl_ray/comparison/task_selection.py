"""`compare --affinity`: which auxiliary tasks to train with a target, from one training run."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from statistics import fmean

import ray
import yaml
from rich.table import Table

from mtl_ray.balancing.affinity import affinity_of, helpful_tasks
from mtl_ray.cluster.session import connect
from mtl_ray.comparison.figures import affinity_map
from mtl_ray.config import Experiment, override, parse
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.reporting.figures import png
from mtl_ray.runs.run_folder import new_name
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import stage_warm_start
from mtl_ray.training.single_process import start_single_process

EVERY = 10
"""Steps between two looks, where the experiment sets no `training.affinity_every`: a look costs a step a task."""


@dataclass(frozen=True)
class Selection:
    """How much a step on one task lowers the loss of another, and what follows for a target."""

    target: str
    affinity: dict[str, dict[str, float]]
    """By task that steps, by task whose loss is looked at: mean over the run; a pair without labels is absent."""
    helpful: list[str]
    """Auxiliary tasks with a positive affinity to the target, the best first."""
    folder: Folder

    def table(self) -> Table:
        """For the terminal."""
        result = Table(title="affinity: relative fall of a task's loss (column) after a step on a task (row)")
        result.add_column("step on")
        for task in self.affinity:
            result.add_column(task, justify="right")
        for task, row in self.affinity.items():
            result.add_row(task, *(f"{row[other]:+.5f}" if other in row else "-" for other in self.affinity))
        return result


def select_tasks(experiment: Experiment, target: str, echo: Callable[[str], None] = print) -> Selection:
    """Train once with all tasks, measure lookahead affinity (Fifty et al. 2021), suggest the tasks that help `target`.

    Leaves `affinity.json`, `affinity.png` and `suggested.yaml`, the experiment with the target and the suggested tasks
    alone, in a folder under `training.output`.

    Raises:
        InputError: `target` is no task, or bad data.
    """
    if target not in experiment.tasks or len(experiment.tasks) == 1:
        raise InputError(
            f"--affinity {target}: expected one of at least two tasks; found {', '.join(experiment.tasks)}"
        )
    name = new_name(experiment, "-affinity")
    folder = (Folder(experiment.training.output) / name).create()
    every = experiment.training.affinity_every or EVERY
    settings = override(experiment, {"training.affinity_every": every, "compare": None})
    settings = stage_warm_start(settings, folder)
    connect()
    prepared = prepare(settings, echo)
    result = ray.get(start_single_process(settings, prepared, "valid", name))
    epochs = [affinity_of(metrics) for metrics in result["history"]]
    tasks = list(settings.tasks)
    affinity: dict[str, dict[str, float]] = {task: {} for task in tasks}
    for a, b in product(tasks, tasks):
        if seen := [epoch[a][b] for epoch in epochs if b in epoch.get(a, {})]:
            affinity[a][b] = fmean(seen)
    selection = Selection(target, affinity, helpful_tasks(affinity, target), folder)
    folder.write_bytes("affinity.png", png(affinity_map(affinity)))
    numbers = {"target": target, "affinity": affinity, "helpful": selection.helpful}
    folder.write_bytes("affinity.json", (json.dumps(numbers, indent=2) + "\n").encode())
    kept = experiment.model_dump(mode="json", exclude_unset=True, exclude={"compare"})
    kept["tasks"] = {n: t for n, t in kept["tasks"].items() if n in (target, *selection.helpful)}
    parse(kept, "suggested.yaml")
    folder.write_bytes("suggested.yaml", yaml.safe_dump(kept, sort_keys=False).encode())
    return selection
