"""Settings of a search that is given nothing but time: a portfolio first, then a search around the recipe.

An experiment file, or `--minutes`, with no more than `tune: {minutes: 20}` gets a space, an objective, a scheduler, the
settings of the first trials, and an ensemble of the best trials. Each of these that the file has stays as it is, and
what the file says of the model and its training is not searched.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from mtl_ray.config import Experiment, override
from mtl_ray.data.dataset import Prepared
from mtl_ray.errors import InputError
from mtl_ray.runs.choose_epochs import holdout_like_test
from mtl_ray.schema import Schema
from mtl_ray.training.recipe import completed, is_given
from mtl_ray.tuning.resources import num_trials_that_fit
from mtl_ray.tuning.space import tune_of
from mtl_ray.tuning.trial_store import Trial

GRACE = 3
"""Epochs that every trial gets: the mean over the weights of an epoch lags behind."""
MEMBERS = 16
"""Most members of the ensemble, repeated ones counted each time."""
TRIALS = 10_000
"""More trials than a search has time for."""
ENDING, LARGEST_ENDING = 45.0, 0.15
"""Seconds that are left for the ensemble, its evaluation and its registration, and their largest share of the time."""


def searched(experiment: Experiment, schema: Schema) -> Experiment:
    """Return the experiment that is searched: completed by the recipe and, if time alone is given, with a search.

    Args:
        experiment: what the file says, with a section `tune`.
        schema: of its prepared data set.

    Raises:
        InputError: the file leaves nothing to search.
    """
    complete, tune = completed(experiment, schema), tune_of(experiment)
    if tune.minutes is None:
        return complete
    metric = experiment.stopping_metric or f"valid/{experiment.main_task}/loss"
    chosen: dict[str, Any] = {"objectives": metric, "trials": TRIALS, "ensemble": MEMBERS}
    if not tune.space:
        space = dict(_space(experiment, complete))
        if not space:
            raise InputError("tune.minutes: expected settings that the file leaves open, found none; give tune.space")
        chosen |= {"space": space, "first": _first(space, complete)}
    if complete.training.epochs > GRACE:
        chosen["scheduler"] = {"kind": "asha", "grace": GRACE}
    changes = {f"tune.{key}": value for key, value in chosen.items() if key not in tune.model_fields_set}
    return override(complete, changes, "tune.minutes:")


def with_validation_rows(
    experiment: Experiment, prepare: Callable[[Experiment], Prepared]
) -> tuple[Experiment, Prepared]:
    """Return the experiment with its prepared data set; a search by time without validation rows holds some out.

    They are cut from the training rows as the test rows are from all, and stay out of the training.

    Args:
        experiment: what the file says, with a section `tune`.
        prepare: makes, or finds, the data set of an experiment.
    """
    prepared = prepare(experiment)
    if tune_of(experiment).minutes is None or prepared.schema.num_rows["valid"] or experiment.data.holdout is not None:
        return experiment, prepared
    experiment = override(experiment, {"data.holdout": holdout_like_test(experiment, prepared)}, "tune.minutes:")
    return experiment, prepare(experiment)


def seconds_left(experiment: Experiment, trials: Sequence[Trial], began: float) -> float | None:
    """Return the seconds that trials may still take; None without `tune.minutes`.

    Args:
        experiment: has a section `tune`.
        trials: those of an interrupted search, whose time counts.
        began: `time.monotonic()` at the start of the command.
    """
    minutes = tune_of(experiment).minutes
    if minutes is None:
        return None
    total = 60 * minutes
    used = sum(trial.seconds for trial in trials) / num_trials_that_fit(experiment)
    return total - min(ENDING, total * LARGEST_ENDING) - used - (time.monotonic() - began)


@cache
def _portfolio() -> Mapping[str, Any]:
    return yaml.safe_load(files("mtl_ray.tuning").joinpath("portfolio.yaml").read_text())


def _space(experiment: Experiment, complete: Experiment) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entry of each path of the portfolio that the file leaves open and that has a value."""
    given, tree = (each.model_dump(mode="json", exclude_unset=True) for each in (experiment, complete))
    known = complete.model_dump(mode="json")
    rules: dict[str, dict[str, Any]] = _portfolio()["space"]
    for path, rule in rules.items():
        value = _value(known, path)
        if is_given(given, path) or value is None or (rule.get("several_tasks") and len(tree["tasks"]) == 1):
            continue
        entry = {key: rule[key] for key in rule if key not in ("times", "several_tasks")}
        if rule["kind"] == "choice":
            values = rule.get("values") or [max(1, round(value * factor)) for factor in rule["times"]]
            yield path, {**entry, "values": values if value in values else [value, *values]}
        elif "times" in rule:
            if value:
                yield (
                    path,
                    entry | dict(zip(("low", "high"), (value * factor for factor in rule["times"]), strict=True)),
                )
        else:
            yield path, entry | {"low": min(value, rule["low"]), "high": max(value, rule["high"])}


def _first(space: Mapping[str, Mapping[str, Any]], complete: Experiment) -> list[dict[str, Any]]:
    """Return the parameters of the first trials: what the experiment has, with the changes of each of the portfolio."""
    known = complete.model_dump(mode="json")
    found: list[dict[str, Any]] = []
    for changes in _portfolio()["first"]:
        point = {}
        for path, entry in space.items():
            value = changes.get(path, _value(known, path))
            if isinstance(value, Mapping):
                value = _value(known, path) * value["times"]
                value = max(1, round(value)) if entry["kind"] == "choice" else value
            if entry["kind"] == "choice":
                value = next(each for each in entry["values"] if each == value)  # true is 1.0, too
                value = value if isinstance(value, str) else json.dumps(value)
            point[path] = value
        if point not in found:
            found.append(point)
    return found


def _value(tree: Any, path: str) -> Any:
    """Return the value at a dotted path of a plain tree, None if there is none."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
