"""The gate on models whose predictions, or metrics, are no numbers."""

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.config.promotion import PromotionConfig
from mtl_ray.errors import InputError
from mtl_ray.promotion.decision import Decision
from mtl_ray.promotion.findings import GateResult, Requirement
from mtl_ray.promotion.gate import check_requirement, run_gate
from mtl_ray.scoring.scorer import Scorer

FIXTURE = Path(__file__).parents[2] / "fixtures/registered_before_rooms"


def scorer(task: str | None = None) -> Scorer:
    """A model; the predictions of `task` are NaN, although all of its weights are finite."""
    found = Scorer(FIXTURE / "checkpoint")
    if task:
        head = found.model.tasks[task]
        head.fitted = head.fitted.model_copy(update={"mean": math.nan})
    return found


def gate(candidate: Scorer, champion: Scorer) -> GateResult:
    rows = pq.read_table(FIXTURE / "log.parquet").slice(0, 300)
    settings = candidate.experiment.promotion.model_copy(update={"draws": 10})
    candidate.experiment = candidate.experiment.model_copy(update={"promotion": settings})
    return run_gate(candidate, champion, [rows], 300)


def test_a_sound_model_is_compared_on_every_task():
    found = gate(scorer(), scorer())
    assert not found.broken
    assert {finding.requirement.task for finding in found.findings} == set(scorer().experiment.tasks)


@pytest.mark.parametrize("task", ["rating", "clicks"])
def test_a_candidate_whose_predictions_are_not_finite_is_refused(task: str):
    found = gate(scorer(task), scorer())
    assert found.broken == {task: 300}
    assert found.refusals[0] == f"the candidate's prediction of `{task}` is not finite on 300 of 300 rows"
    assert found.refusals[0] in Decision("shop", "2", "refused", "1", gate_result=found).markdown()


def test_a_champion_whose_predictions_are_not_finite_is_said_to_be_so():
    found = gate(scorer(), scorer("clicks"))
    assert not found.broken
    assert "clicks/rmse: the champion's prediction is not finite on 300 rows" in found.missing


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("margin", [None, 0.5])
def test_a_candidate_whose_metric_is_not_finite_is_refused(value: float, margin: float | None):
    users = torch.arange(40)
    wanted = Requirement("rating", "rmse", "new_user", margin)
    found = check_requirement(PromotionConfig(draws=5, min_users=1000), wanted, lambda *_: value, lambda *_: 1.0, users)
    assert found is not None
    assert not found.passed
    assert "rating/rmse/new_user: 1.0000 -> " in found.refusal()
    assert json.dumps(found.to_dict()["candidate"], allow_nan=False) == "null"


def test_a_metric_that_is_defined_for_neither_decides_nothing():
    users = torch.arange(4)
    wanted = Requirement("click", "auc", "", 0.1)
    assert check_requirement(PromotionConfig(draws=5), wanted, lambda *_: math.nan, lambda *_: math.nan, users) is None


def test_a_model_that_cannot_score_a_row_is_told_in_one_line():
    scorer().check("models:/shop/1")
    with pytest.raises(InputError, match="models:/shop/2: expected finite predictions; those of rating are not"):
        scorer("rating").check("models:/shop/2")
    broken = scorer()
    broken.model.tasks["rating"] = None  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="models:/shop/3: the model cannot score a row: ") as told:
        broken.check("models:/shop/3")
    assert "\n" not in str(told.value)
