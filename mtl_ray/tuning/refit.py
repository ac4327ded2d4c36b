"""The winner of a search, trained on training and validation rows over several seeds; the first becomes a candidate."""

import json
from collections.abc import Callable
from typing import Any

from mtl_ray.config import Experiment, override
from mtl_ray.config.comparison import Changes
from mtl_ray.config.data import ColdSplitConfig, PredefinedSplitConfig, TimeSplitConfig
from mtl_ray.evaluation.significance import Summary, summarize
from mtl_ray.runs.train import train
from mtl_ray.tracking.tracked_run import Run

PLACE = "refit"
"""Folder of the results in the run's folder."""


def refit(
    experiment: Experiment, epochs: int, num_seeds: int, run: Run, echo: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train `num_seeds` times, as far as that is not done, and register the first model, which becomes the candidate.

    The model is registered as `tracking.register_as`, or under the experiment's name. Which seed becomes the candidate
    does not depend on test rows.

    Args:
        experiment: the winner.
        epochs: of the training; without validation rows nothing else says when to stop.
        num_seeds: `seed`, `seed` + 1, ... on one data set.
        run: that of the search, the parent in MLflow; its folder receives `refit/seedN.json`.
        report: receives lines of text for the user.

    Returns:
        `candidate`, the URI of the model, and `summary`: by metric of the test rows, mean, deviation and number.
    """
    name = experiment.tracking.register_as or experiment.name
    place, results = run.folder / PLACE, []
    whole = on_all_labels(experiment, epochs)
    for number in range(num_seeds):
        seed = experiment.seed + number
        file = f"seed{seed}.json"
        if not place.exists(file):
            changes = {"seed": seed, "tracking.register_as": name if number == 0 else None}
            trained = train(override(whole, changes, "--refit:"), echo=echo, parent=run.run_id)
            result = {
                "run": trained.name,
                "run_id": trained.run_id,
                "model_uri": trained.model_uri,
                "metrics": trained.evaluation.metrics,
            }
            place.write_atomic(file, json.dumps(result, indent=2))
        results.append(place.read_json(file))
    return {"candidate": results[0]["model_uri"], "summary": summary_of([result["metrics"] for result in results])}


def on_all_labels(experiment: Experiment, epochs: int) -> Experiment:
    """The experiment without validation rows, which it trains on; its test rows are the same."""
    split = experiment.data.split
    changes: Changes = {"training.early_stopping": None, "training.epochs": epochs, "data.seed": experiment.data_seed}
    match split:
        case PredefinedSplitConfig():
            changes |= {"data.split.train": [*split.train, *split.valid], "data.split.valid": []}
            changes["data.split.valid_share"] = 0.0
        case ColdSplitConfig():
            changes |= {"data.split.valid_users": 0.0, "data.split.valid_items": 0.0}
        case TimeSplitConfig(valid_from=str() | float()):
            changes["data.split.valid_from"] = split.test_from
        case _:
            changes["data.split.valid"] = 0.0
    return override(experiment, changes, "--refit:")


def summary_of(metrics: list[dict[str, float]]) -> dict[str, Summary]:
    """Mean and deviation over the seeds of each metric that all of them have."""
    keys = [key for key in metrics[0] if all(key in own for own in metrics)]
    return {key: summarize([own[key] for own in metrics]) for key in keys}
