"""Train the winner of a search on training and validation rows over several seeds, and register the first model."""

from collections.abc import Callable
from typing import Any

from mtl_ray.config import Experiment, override
from mtl_ray.config.comparison import Changes
from mtl_ray.config.data import ColdSplitConfig, PredefinedSplitConfig, TimeSplitConfig
from mtl_ray.evaluation.significance import Summary, summarize
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.runs.train import Trained
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.tuning.space import candidate_name


def refit(
    experiment: Experiment,
    epochs: int,
    num_seeds: int,
    folder: RunFolder,
    run: Run,
    train: Callable[..., Trained],
) -> dict[str, Any]:
    """Train over the seeds that are not done yet, and register the model of the first one as a candidate.

    It is registered as `tracking.register_as`, or under the experiment's name. The first seed becomes the candidate
    whatever the test rows say.

    Args:
        experiment: the winner.
        epochs: number of epochs; without validation rows there is no early stopping.
        num_seeds: number of seeds, counted from `seed`, on one data set.
        folder: the folder of the search; receives `refit/seedN.json`.
        run: the MLflow run of the search, the parent of the trainings.
        train: `runs.train.train`, with the frames of the data if they are in memory.

    Returns:
        `candidate`, the URI of the model, and `summary`: mean, deviation and number by metric of the test rows.
    """
    name = candidate_name(experiment)
    files, results = folder.refits, []
    whole = on_all_labels(experiment, epochs)
    for number in range(num_seeds):
        seed = experiment.seed + number
        title = f"seed{seed}"
        if not files.exists(title):
            changes = {"seed": seed, "tracking.register_as": name if number == 0 else None}
            trained = train(override(whole, changes, "--refit:"), parent=run.run_id)
            result = {
                "run": trained.name,
                "run_id": trained.run_id,
                "model_uri": trained.model_uri,
                "metrics": trained.evaluation.metrics,
            }
            run.adopt_lost(trained.folder, f"refit/{title}")
            files.write(title, result)
        results.append(files.read(title))
    return {"candidate": results[0]["model_uri"], "summary": summary_of([result["metrics"] for result in results])}


def on_all_labels(experiment: Experiment, epochs: int) -> Experiment:
    """Return the experiment with its validation rows moved to the training rows. The test rows stay the same."""
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
    """Return mean and deviation over the seeds, for each metric that all of them have."""
    keys = [key for key in metrics[0] if all(key in own for own in metrics)]
    return {key: summarize([own[key] for own in metrics]) for key in keys}
