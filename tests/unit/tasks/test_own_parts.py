"""Losses and metrics of the user's own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_ray.config import Experiment, parse
from mtl_ray.config.tasks import directed_metrics, is_higher_better, metric_names
from mtl_ray.errors import InputError
from mtl_ray.evaluation.segments import compute
from mtl_ray.schema import FittedTask
from mtl_ray.tasks.base import build_task
from mtl_ray.tasks.own_loss import RowLoss
from tests.custom_parts import HitShare
from tests.support import TREE

PINBALL = {"kind": "custom", "class": "tests.custom_parts:Pinball", "settings": {"quantile": 0.75}}
HITS = {"kind": "custom", "class": "tests.custom_parts:HitShare", "settings": {"within": 1.0}}


class Total(RowLoss):
    """The loss of the batch, which is not what is asked for."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Add up all rows."""
        return (output - target).square().sum()


def experiment(rating: dict[str, Any], **changes: Any) -> Experiment:
    return parse({**TREE, "tasks": {**TREE["tasks"], "rating": rating}, **changes}, "e.yaml")


def test_a_loss_takes_the_place_of_the_kinds_and_leaves_the_rest():
    spec = experiment({"kind": "regression", "loss": PINBALL}).tasks["rating"]
    head = build_task(spec, FittedTask(mean=3.0, std=2.0))
    logits, label = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([5.0, 3.0, torch.nan])
    loss, count = head.loss(logits, label, head.labelled(label))
    assert loss.item() == pytest.approx(0.75 * 1 + 0.25 * 1)  # one standard deviation above, one below
    assert count == 2
    assert head.predict(logits).tolist() == [3.0, 5.0, 3.0]


def test_the_best_constant_of_a_loss_is_found_for_comparable_losses():
    spec = experiment({"kind": "regression", "loss": PINBALL}).tasks["rating"]
    levels = tuple(float(level) for level in range(101))
    head = build_task(spec, FittedTask(mean=50.0, std=10.0, levels=levels, shares=(1 / 101,) * 101))
    quantile = torch.quantile(torch.tensor(levels), 0.75)
    errors = (torch.tensor(levels) - quantile) / 10
    expected = torch.maximum(0.75 * errors, -0.25 * errors).mean()
    assert head.constant_loss(1) == pytest.approx(expected.item(), rel=1e-3)


def test_a_loss_of_another_shape_is_refused():
    total = {"kind": "custom", "class": "tests.unit.tasks.test_own_parts:Total"}
    for kind in ("binary", "regression"):
        head = build_task(experiment({"kind": kind, "loss": total}).tasks["rating"], FittedTask())
        with pytest.raises(
            InputError, match=r"test_own_parts:Total: expected the loss of each row, \(2,\); found \(\)"
        ):
            head.loss(torch.zeros(2, 1), torch.zeros(2), torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("rating", "message"),
    [
        (
            {"kind": "regression", "loss": "mze"},
            "tasks.rating.loss: input should be 'mse', 'mae' or 'huber'; found 'mze'",
        ),
        (
            {"kind": "binary", "loss": {"clas": "x"}},
            "tasks.rating.loss.class: required key is missing; tasks.rating.loss",
        ),
        ({"kind": "regression", "loss": HITS}, "tasks.rating.loss.class: expected .* to inherit from .*RowLoss"),
        ({"kind": "regression", "metrics": [5]}, "tasks.rating.metrics.0: input should be a valid string; found 5"),
        ({"kind": "regression", "metrics": [PINBALL]}, "tasks.rating.metrics.0.class: expected .* inherit .*OwnMetric"),
        ({"kind": "regression", "metrics": [HITS, HITS]}, "expected metrics with a name each; found two called 'HitSh"),
        ({"kind": "regression", "metrics": [HITS | {"name": "rmse"}]}, "found two called 'rmse'; set `name` of one"),
        ({"kind": "regression", "metrics": ["HitShare"]}, "expected metrics among rmse, mae, .*; found 'HitShare'"),
    ],
)
def test_a_mistake_is_told_at_its_place(rating: dict[str, Any], message: str):
    with pytest.raises(InputError, match=f"^e.yaml: {message}" if message.startswith("tasks") else message):
        experiment(rating)


def test_a_metric_is_computed_named_and_larger_is_better():
    settings = experiment({"kind": "regression", "metrics": ["rmse", HITS | {"name": "near"}]})
    rating = settings.tasks["rating"]
    assert metric_names(rating) == directed_metrics(rating) == ("rmse", "near")
    assert is_higher_better("test/rating/near/new_user")
    assert not is_higher_better("valid/rating/loss")
    assert not is_higher_better("valid/loss")
    prediction, label = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.5, 4.0, 3.0])
    assert compute("near", rating, prediction, label, torch.zeros(3)) == pytest.approx(2 / 3)
    assert HitShare.__name__ == "HitShare"


def test_early_stopping_searches_and_the_gate_may_name_a_metric():
    stopping = {"early_stopping": {"metric": "valid/rating/HitShare"}}
    tune = {
        "space": {"model.embedding_dim": {"kind": "choice", "values": [4, 8]}},
        "objectives": "valid/rating/HitShare",
    }
    settings = experiment(
        {"kind": "regression", "metrics": [HITS]},
        training={**TREE["training"], **stopping},
        tune=tune,
        promotion={"metric": "rating/HitShare"},
    )
    assert settings.tune is not None
    assert settings.tune.objectives == {"valid/rating/HitShare": "max"}
