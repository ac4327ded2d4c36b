"""The task kind `ranking`: its losses, what counts as a negative, its place in the model."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from mlflow.types import DataType

from mtl_ray.config import Experiment, parse
from mtl_ray.config.tasks import RankingTaskConfig
from mtl_ray.data.encoding import to_flags
from mtl_ray.errors import InputError
from mtl_ray.evaluation.segments import compute
from mtl_ray.models import MultiTaskModel, build_model
from mtl_ray.models.sizes import num_parameters_by_part
from mtl_ray.schema import FittedTask
from mtl_ray.tasks.base import UserItemVectors, build_task
from mtl_ray.tracking.registry import signature_of
from tests.support import TREE, architectures
from tests.unit.conftest import batch_of, schema_of

LABEL = torch.tensor([1.0, 0.0, 1.0, math.nan], dtype=torch.float64)
ROWS = torch.tensor([5, 6, 7, 5])
SUPPORT = torch.tensor([4, 0, 2, 4])
"""The third row's item was seen twice, the second's never."""


def pairs_of(rows: torch.Tensor = ROWS) -> UserItemVectors:
    generator = torch.Generator().manual_seed(0)
    user, item = (torch.randn(4, 3, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    return UserItemVectors(user, item, rows, SUPPORT)


def loss_of(
    pairs: UserItemVectors, mask: torch.Tensor | None = None, **settings: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    head = build_task(RankingTaskConfig(**settings), FittedTask())
    labelled = head.labelled(LABEL)
    logits = (pairs.user * pairs.item).sum(1, keepdim=True)
    return head.loss(logits, LABEL, labelled if mask is None else mask, pairs)


def test_sampled_softmax_takes_off_the_probability_of_each_item():
    pairs = pairs_of()
    total, count = loss_of(pairs, loss="sampled_softmax", temperature=0.5)
    scores = pairs.user @ pairs.item.T / 0.5 - torch.tensor([4, 1, 2, 4]).double().log()
    # Row 0 and row 3 have the same item: neither is a negative of row 0, both are negatives of row 2.
    first = -scores[0, [0, 1, 2]].log_softmax(0)[0]
    third = -scores[2].log_softmax(0)[2]
    torch.testing.assert_close(total, first + third)
    assert count == 2


def test_bpr_is_the_mean_over_the_negatives_of_a_positive():
    pairs = pairs_of()
    total, count = loss_of(pairs, loss="bpr", temperature=2.0)
    scores = pairs.user @ pairs.item.T / 2.0
    first = -F.logsigmoid(scores[0, 0] - scores[0, [1, 2]]).mean()
    third = -F.logsigmoid(scores[2, 2] - scores[2, [0, 1, 3]]).mean()
    torch.testing.assert_close(total, first + third)
    assert count == 2


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
def test_without_another_item_there_is_nothing_to_learn(loss: str):
    pairs = pairs_of(torch.full((4,), 5))
    total, count = loss_of(pairs, loss=loss)
    total.backward()
    assert (total.item(), count.item()) == (0, 2)
    assert pairs.item.grad is not None
    assert pairs.item.grad.abs().max() < 1e-12


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
def test_a_batch_without_positives_has_a_zero_and_finite_gradient(loss: str):
    pairs = pairs_of()
    total, count = loss_of(pairs, torch.zeros(4, dtype=torch.bool), loss=loss)
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    for side in (pairs.user, pairs.item):
        assert side.grad is not None
        assert side.grad.abs().sum() == 0


def test_evaluated_rows_have_no_loss():
    head = build_task(RankingTaskConfig(), FittedTask())
    total, count = head.loss(torch.randn(4, 1), LABEL, head.labelled(LABEL))
    assert (total.item(), count.item()) == (0, 0)
    assert head.predict(torch.tensor([[3.5], [-1.0]])).tolist() == [3.5, -1.0]


def test_positives_are_flags_or_numbers_from_a_threshold_on():
    numbers = pa.array([1.0, 4.0, None, 5.0])
    flags = to_flags(numbers, RankingTaskConfig(relevant=4))
    assert flags[[0, 1, 3]].tolist() == [0, 1, 1]
    assert math.isnan(flags[2])
    assert to_flags(pa.array(["1", "0"]), RankingTaskConfig()).tolist() == [1, 0]


def test_auc_goes_by_the_order_of_raw_scores():
    score = torch.tensor([800.0, 801.0, 802.0, 803.0], dtype=torch.float64)
    label = torch.tensor([0.0, 1.0, 0.0, 1.0])
    users = torch.zeros(4, dtype=torch.int64)
    assert compute("auc", RankingTaskConfig(), score, label, users) == 0.75
    assert compute("auc", RankingTaskConfig(), torch.zeros(4).double(), label, users) == 0.5


def test_lists_go_by_the_order_of_raw_scores():
    score = torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2], dtype=torch.float64)
    label, users = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0]), torch.tensor([7, 7, 9, 9, 9])
    for shift in (0.0, -10.0, 1e9):
        assert compute("recall@1", RankingTaskConfig(), score + shift, label, users) == 0.5
        assert compute("recall@2", RankingTaskConfig(), score + shift, label, users) == 0.75
        first = 1 / math.log2(3) / (1 + 1 / math.log2(3))
        found = compute("ndcg@2", RankingTaskConfig(), score + shift, label, users)
        assert found == pytest.approx((1 + first) / 2, rel=1e-6)


def experiment_of(**changes: Any) -> Experiment:
    features = {**TREE["features"], "category": {"kind": "categorical", "entity": "context"}}
    tasks = {"click": "binary", "taken": {"kind": "ranking", "column": "purchase"}}
    return parse({**TREE, "features": features, "tasks": tasks, "model": "shared_bottom", **changes}, "test")


def model_of(experiment: Experiment) -> MultiTaskModel:
    torch.manual_seed(0)
    return build_model(experiment, schema_of(experiment)).eval()


@pytest.mark.parametrize("beside", [True, False], ids=["beside", "alone"])
@pytest.mark.parametrize("settings", architectures().values(), ids=architectures())
def test_every_parameter_gets_a_gradient(settings: dict[str, Any], beside: bool):
    tasks = {"taken": {"kind": "ranking"}, **({"click": "binary", "rating": "regression"} if beside else {})}
    wide = {**settings, "encoder": {"hidden": [16, 16]}, "tower": {"hidden": [8]}}
    model = model_of(experiment_of(model=wide, tasks=tasks))
    with torch.no_grad():  # gates and networks that start equal have no gradient to tell
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    batch = batch_of(64)
    batch["history"][:5] = 0
    forward = model(batch)
    total = torch.zeros(()) if forward.penalty is None else forward.penalty.mean()
    label = (torch.arange(64) % 3 == 0).float()
    for name, task in model.tasks.items():
        total = total + task.loss(forward.logits[name], label, task.labelled(label), forward.pairs.get(name))[0]
    total.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    assert "two_towers" in num_parameters_by_part(model)


def test_the_score_is_the_product_of_the_two_sides():
    model, batch = model_of(experiment_of()), batch_of(8)
    forward = model(batch)
    pair = forward.pairs["taken"]
    torch.testing.assert_close(forward.logits["taken"][:, 0], (pair.user * pair.item).sum(1))
    item_changed = model({**batch, "item_id": batch["item_id"].flip(0), "price": batch["price"].flip(0)})
    assert torch.equal(item_changed.pairs["taken"].user, pair.user)
    assert not torch.equal(item_changed.pairs["taken"].item, pair.item)
    context_changed = model({**batch, "category": batch["category"].flip(0)})
    assert torch.equal(context_changed.logits["taken"], forward.logits["taken"])


def test_hidden_ids_reach_the_towers():
    model, batch = model_of(experiment_of()), batch_of(6)
    hide = torch.ones(6, dtype=torch.bool)
    hidden = model(batch, {"item_id": hide}).pairs["taken"]
    other = model({**batch, "item_id": batch["item_id"].flip(0)}, {"item_id": hide}).pairs["taken"]
    assert torch.equal(hidden.item, other.item)
    assert not torch.equal(hidden.item, model(batch).pairs["taken"].item)


def test_the_signature_says_a_number():
    scorer = SimpleNamespace(experiment=experiment_of(), model=None, input_columns=lambda: ["user_id", "item_id"])
    outputs = {column.name: column.type for column in signature_of(cast(Any, scorer)).outputs.inputs}
    assert outputs["taken"] == DataType.double


ATTENTION = {**TREE["features"]["history"], "encoder": {"kind": "attention"}}
ID_ALONE = {"kind": "id", "entity": "item", "embed": False}
STOPPING = {"early_stopping": {"metric": "valid/taken/loss"}}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "masked": ({"tasks": {"taken": {"kind": "ranking", "masked_input": 0.1}}}, r"tasks\.taken.*masked_input"),
    "temperature": ({"tasks": {"taken": {"kind": "ranking", "temperature": 0}}}, r"tasks\.taken.*temperature"),
    "attention": ({"features": {**TREE["features"], "history": ATTENTION}}, r"features\.history\.encoder"),
    "no item": (
        {"features": {"user_id": TREE["features"]["user_id"], "item_id": ID_ALONE}},
        r"tasks\.taken.*input of the item",
    ),
    "balancing": ({"balancing": {"kind": "mgda"}}, r"balancing\.kind.*mgda"),
    "graddrop": ({"balancing": {"kind": "graddrop"}}, r"balancing\.kind.*graddrop"),
    "own tables": ({"balancing": {"kind": "db_mtl"}, "model": "stem"}, r"balancing\.kind.*db_mtl"),
    "bandit": ({"balancing": {"kind": "bandit", "targets": ["taken"]}}, r"balancing\.targets"),
    "guarded": ({"main": "taken", "balancing": {"kind": "guarded"}}, r"main: a ranking task has no loss"),
    "famo": ({"balancing": {"kind": "famo", "sample": 0.5}}, r"balancing\.sample.*expected 1"),
    "stopping": ({"training": STOPPING}, r"training\.early_stopping\.metric"),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        experiment_of(**changes)
