"""Without validation rows, held-out training rows choose the number of epochs; then all are trained on."""

from pathlib import Path
from typing import Any

import pytest

from mtl_ray.balancing.guarded import guard_factors
from mtl_ray.config import Experiment
from mtl_ray.data.prepare import prepare
from mtl_ray.models.checkpoint import SCORE
from mtl_ray.runs.choose_epochs import holdout_like_test, on_holdout
from mtl_ray.training.kept_epoch import chooses_epochs, kept_epoch
from mtl_ray.training.single_process import run_single_process
from tests.support import small_experiment

SPLITS: dict[str, tuple[dict[str, Any], str]] = {
    "time": ({"kind": "time", "valid": 0.0, "test": 0.2}, "time"),
    "rows": ({"kind": "random", "valid": 0.0, "test": 0.2}, "rows"),
    "users": ({"kind": "cold", "valid_users": 0.0, "test_users": 0.2}, "users"),
    "items": ({"kind": "cold", "valid_users": 0.0, "test_users": 0.0, "test_items": 0.2}, "items"),
    "either": ({"kind": "cold", "valid_users": 0.0, "test_users": 0.2, "test_items": 0.2}, "either"),
    "few-shot": (
        {"kind": "cold", "valid_users": 0.0, "test_users": 0.2, "shown_users": 3, "shown_to": "training"},
        "users",
    ),
}


def experiment(folder: Path, split: dict[str, Any], **changes: Any) -> Experiment:
    """Settings that choose the number of epochs, unless the changes say otherwise."""
    changes = {"training__early_stopping": {}, "training__epochs": 6} | changes
    return small_experiment(data__output=str(folder), data__split=split, **changes)


@pytest.mark.parametrize("name", SPLITS)
def test_rows_are_held_out_as_test_rows_are(tmp_path: Path, name: str):
    split, kind = SPLITS[name]
    settings = experiment(tmp_path, split)
    prepared = prepare(settings)
    assert chooses_epochs(settings)
    found = holdout_like_test(settings, prepared)
    assert found["kind"] == kind
    assert bool(found.get("kept")) == (name == "few-shot")
    held_out = prepare(on_holdout(settings, prepared)).schema.num_rows
    assert held_out["test"] == prepared.schema.num_rows["test"]
    assert held_out["train"] + held_out["valid"] == prepared.schema.num_rows["train"]
    assert held_out["valid"] / prepared.schema.num_rows["train"] == pytest.approx(0.1, abs=0.06)


def test_the_training_on_all_rows_ends_after_the_epoch_that_is_best_on_held_out_ones(tmp_path: Path):
    settings = experiment(tmp_path, SPLITS["rows"][0], training__optimizer__lr=0.03)
    prepared = prepare(settings)
    inner = on_holdout(settings, prepared)
    trees = [each.model_dump(mode="json", exclude_unset=True) for each in (settings, inner)]
    alone = run_single_process(trees[1], prepare(inner).folder.location, "test", None, 1)
    best = kept_epoch({each["epoch"]: each for each in alone["history"]}, "valid/click/loss")
    assert best < 6  # it overfits
    held_out = (trees[1], prepare(inner).folder.location)
    whole = run_single_process(trees[0], prepared.folder.location, "test", None, 1, held_out)
    assert len(whole["history"]) == best
    assert not any(key.startswith("valid/") for key in whole["history"][-1])


def test_the_training_on_all_rows_keeps_the_weights_that_the_guard_found(tmp_path: Path):
    guard = {"kind": "guarded", "every": 1, "rows": 200}
    drowned = {"training__epochs": 3, "tasks__occupation__weight": 50.0}
    settings = experiment(tmp_path, SPLITS["rows"][0], balancing=guard, **drowned)
    prepared, inner = prepare(settings), on_holdout(settings, prepare(settings))
    trees = [each.model_dump(mode="json", exclude_unset=True) for each in (settings, inner)]
    held_out = (trees[1], prepare(inner).folder.location)
    alone = run_single_process(*held_out, "test", None, 1)
    best = max(alone["history"], key=lambda metrics: (metrics[SCORE], metrics["epoch"]))
    whole = run_single_process(trees[0], prepared.folder.location, "test", None, 1, held_out)
    assert guard_factors(best)["occupation"] < 1
    assert all(guard_factors(metrics) == guard_factors(best) for metrics in whole["history"])


@pytest.mark.parametrize(
    "changes",
    [
        {"training__choose_epochs": False},
        {"training__early_stopping": None},
        {"training__last_epoch": 1},
        {"data__split": {"kind": "random"}},
    ],
)
def test_nothing_is_chosen_where_the_file_says_so_or_there_are_validation_rows(changes: dict[str, Any]):
    settings = {"data__split": SPLITS["rows"][0], "training__early_stopping": {}} | changes
    assert not chooses_epochs(small_experiment(**settings))
