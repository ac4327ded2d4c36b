"""Schedulers of a resumed search."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from mtl_ray.config import override
from mtl_ray.tuning.search_algorithms import Reports, build_scheduler
from mtl_ray.tuning.trial import BEST_METRICS, EPOCH
from tests.support import small_experiment

RMSE = "valid/rating/rmse"
REPORTS: Reports = {f"ended{n}": {epoch: {RMSE: 1.0 - 0.1 * n} for epoch in (1, 2)} for n in range(4)}


class RayTrial:
    """What schedulers ask of Ray Tune's trials."""

    def __init__(self, trial_id: str, ended: bool) -> None:
        self.trial_id, self.ended = trial_id, ended

    def is_finished(self) -> bool:
        return self.ended


def decision(kind: str, rmse: float, reports: Reports) -> str:
    """What becomes of a new trial after its first epoch, in a search that was resumed with trials that had ended."""
    space = {"training.optimizer.lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2}}
    tune = {"objectives": RMSE, "space": space, "scheduler": kind}
    scheduler = build_scheduler(override(small_experiment(), {"tune": tune, "training.epochs": 9}), reports)
    controller = SimpleNamespace(get_live_trials=list)
    new = RayTrial("new", ended=False)
    for trial in (*(RayTrial(name, ended=True) for name in REPORTS), new):
        scheduler.on_trial_add(controller, trial)  # pyright: ignore[reportArgumentType]
    return scheduler.on_trial_result(controller, new, {EPOCH: 1, f"{BEST_METRICS}/{RMSE}": rmse})  # pyright: ignore


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_resumed_scheduler_goes_by_what_trials_reported_before(kind: str):
    assert decision(kind, 0.99, REPORTS) == TrialScheduler.STOP
    assert decision(kind, 0.65, REPORTS) == TrialScheduler.CONTINUE
    assert decision(kind, 0.99, {}) == TrialScheduler.CONTINUE
