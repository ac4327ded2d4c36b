"""A comparison says in a sentence whether the main task is better off with other tasks or alone."""

from typing import Any

import pytest

from mtl_ray.comparison.grid import grid
from mtl_ray.comparison.results import comparison_of
from mtl_ray.comparison.run import Compared
from mtl_ray.comparison.single_task import against_single_task
from mtl_ray.config import parse
from mtl_ray.evaluation.baselines import BASELINES
from mtl_ray.runs.run_folder import RunFolder
from tests.support import TREE

OTHERS = {f"tasks.{name}": None for name in TREE["tasks"] if name != "rating"}
VARIANTS: dict[str, Any] = {"multi": {}, "alone": OTHERS, "wide": {"model.embedding_dim": 16}}


def told(values: dict[str, list[float]], baseline: str, **changes: Any) -> list[str]:
    """The sentences below the table of a comparison, for the RMSE of each variant by seed."""
    compare = {"variants": VARIANTS, "baseline": baseline, "metrics": ["rating/rmse"], "segments": ["all"], **changes}
    experiment = parse({**TREE, "main": "rating", "compare": compare}, "test")
    grid_runs = grid(experiment)
    results = {
        run.name: {
            "metrics": {"test/rating/rmse": values[run.variant][run.seed], "test/rating/count": 40.0},
            "baselines": {name: {} for name in BASELINES},
        }
        for run in grid_runs
    }
    comparison = comparison_of(experiment, grid_runs, results)
    trainings = [(run, results[run.name]["metrics"]) for run in grid_runs]
    *sentences, _, _ = Compared("grid", RunFolder("runs/grid"), "run", comparison, trainings).lines()
    assert sentences == list(against_single_task(comparison, grid_runs))
    return sentences


CLEAR = {"multi": [0.90, 0.91, 0.92], "alone": [0.951, 0.959, 0.97], "wide": [0.95, 0.96, 0.97]}


@pytest.mark.parametrize("baseline", ["alone", "multi"])
def test_either_may_be_the_baseline(baseline: str):
    line = told(CLEAR, baseline)[0]
    assert line.startswith("rating: trained together with other tasks (multi) it is better than alone (alone):")
    assert "rmse 0.9100 against 0.9600, p = " in line


def test_what_is_not_significant_is_not_called_better():
    lines = told(CLEAR, "alone")
    assert len(lines) == 2
    assert "(wide) it is not shown to be better or worse than alone (alone): rmse 0.9600 against 0.9600" in lines[1]


def test_harm_is_told():
    values = {**CLEAR, "multi": [1.01, 1.02, 1.031]}
    assert "(multi) it is worse than alone (alone): rmse 1.0203 against 0.9600" in told(values, "alone")[0]


def test_without_a_variant_of_the_main_task_alone_there_is_nothing_to_say():
    assert told(CLEAR, "multi", variants={name: VARIANTS[name] for name in ("multi", "wide")}) == []
