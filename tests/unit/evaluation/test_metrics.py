from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score, roc_auc_score

from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    MulticlassTaskConfig,
    MultilabelTaskConfig,
    RegressionTaskConfig,
    TaskConfig,
)
from mtl_ray.evaluation.metrics import METRICS, Metric
from mtl_ray.evaluation.roc_auc import SortedRows
from mtl_ray.evaluation.segments import compute, evaluate_task, segment_masks
from mtl_ray.schema import segments


def test_gauc_is_the_mean_auc_of_users_weighted_by_their_rows():
    rng = np.random.default_rng(0)
    users, score = rng.integers(0, 30, 600), rng.integers(0, 8, 600) / 8  # with ties
    label = (rng.random(600) < 0.3).astype(float)
    total, weight = 0.0, 0
    for user in range(30):
        mine = users == user
        if 0 < label[mine].sum() < mine.sum():
            total += roc_auc_score(label[mine], score[mine]) * mine.sum()
            weight += mine.sum()
    found = SortedRows(torch.tensor(score), torch.tensor(label), torch.tensor(users)).gauc()
    assert found == pytest.approx(total / weight, abs=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_the_areas_of_a_part_are_those_of_its_rows_alone(share: float):
    generator = torch.Generator().manual_seed(2)
    score = torch.randint(0, 50, (4000,), generator=generator) / 50
    label, users = (torch.randint(0, high, (4000,), generator=generator) for high in (2, 40))
    inside = torch.rand(4000, generator=generator) < share
    part, alone = SortedRows(score, label, users).part(inside), SortedRows(score[inside], label[inside], users[inside])
    assert part.auc() == alone.auc() == pytest.approx(roc_auc_score(label[inside], score[inside]), abs=1e-12)
    assert part.gauc() == alone.gauc() is not None


def test_gauc_is_undefined_without_a_user_of_both_classes():
    assert SortedRows(torch.tensor([0.1, 0.2]), torch.tensor([1.0, 1.0]), torch.tensor([1, 2])).gauc() is None


def test_ndcg_is_the_mean_over_users():
    rng = np.random.default_rng(1)
    score, label, users = rng.random(60), rng.integers(0, 5, 60).astype(float), np.repeat(np.arange(6), 10)
    expected = np.mean([ndcg_score([label[users == u]], [score[users == u]], k=5) for u in range(6)])
    task = RegressionTaskConfig()
    found = compute("ndcg@5", task, torch.tensor(score), torch.tensor(label), torch.tensor(users))
    assert found is not None
    assert 0 < found <= 1
    linear = [
        sum(g / np.log2(r + 2) for r, g in enumerate(label[users == u][np.argsort(-score[users == u])][:5]))
        / sum(g / np.log2(r + 2) for r, g in enumerate(sorted(label[users == u], reverse=True)[:5]))
        for u in range(6)
    ]
    assert found == pytest.approx(np.mean(linear), abs=1e-6)
    assert expected == pytest.approx(np.mean(linear), abs=1e-9)


def test_recall_counts_relevant_rows_among_the_first():
    task = RegressionTaskConfig(relevant=4)
    score, label = torch.tensor([0.9, 0.8, 0.1, 0.7]), torch.tensor([5.0, 1.0, 4.0, 4.0])
    assert compute("recall@2", task, score, label, torch.zeros(4, dtype=torch.int64)) == pytest.approx(1 / 3)


def test_segments_part_the_rows_and_counts_stand_beside_metrics():
    user_support, item_support = torch.tensor([0, 3, 0, 30]), torch.tensor([9, 0, 0, 1])
    masks = segment_masks(user_support, item_support, segments((1, 5, 20)))
    assert {n: m.nonzero()[:, 0].tolist() for n, m in masks.items() if m.any()} == {
        "new_user": [0],
        "new_item": [1],
        "new_both": [2],
        "warm": [3],
        "user_support_0": [0, 2],
        "user_support_1-4": [1],
        "user_support_20+": [3],
        "item_support_0": [1, 2],
        "item_support_1-4": [3],
        "item_support_5-19": [0],
    }
    prediction, label = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 3.0, 3.0, float("nan")])
    values, counts = evaluate_task(
        "t",
        RegressionTaskConfig(),
        prediction=prediction,
        label=label,
        mask=~torch.isnan(label),
        users=torch.arange(4),
        segments=masks,
    )
    assert counts["t/count"] == 3
    assert counts["t/count/warm"] == 0
    assert "t/rmse/warm" not in values
    assert values["t/rmse/new_item"] == 1.0
    assert values["t/rmse"] == pytest.approx((1 / 3) ** 0.5)


def test_metrics_of_class_tasks():
    prediction = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]], dtype=torch.float64)
    label, users = torch.tensor([0, 1, 2]), torch.arange(3)
    task = MulticlassTaskConfig()
    assert compute("accuracy", task, prediction, label, users) == pytest.approx(2 / 3)
    assert compute("macro_f1", task, prediction, label, users) == pytest.approx((1 + 2 / 3 + 0) / 3)
    expected = -np.log([0.7, 0.8, 0.3]).mean()
    assert compute("log_loss", task, prediction, label, users) == pytest.approx(expected)
    flags = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    micro = compute("micro_auc", MultilabelTaskConfig(), prediction, flags, users)
    assert micro == pytest.approx(roc_auc_score(flags.flatten(), prediction.flatten()))
    macro = compute("macro_auc", MultilabelTaskConfig(), prediction, flags, users)
    assert macro == pytest.approx(roc_auc_score(flags[:, :2], prediction[:, :2], average="macro"))


@pytest.mark.parametrize("metric", ["ndcg@2", "recall@2"])
def test_a_ranking_without_relevant_rows_is_undefined(metric: str):
    score, label, users = torch.rand(4).double(), torch.zeros(4), torch.tensor([0, 0, 1, 1])
    assert compute(metric, BinaryTaskConfig(), score, label, users) is None


def test_auc_of_one_class_is_undefined():
    assert compute("auc", BinaryTaskConfig(), torch.rand(3).double(), torch.ones(3), torch.arange(3)) is None


KINDS = {member.model_fields["kind"].default: member for member in get_args(get_args(TaskConfig)[0])}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_best_for_predictions_that_are_right(metric: Metric):
    """Every metric of the list, for every task kind that reports it."""
    assert [each.name for each in METRICS].count(metric.name) == 1
    generator, users = torch.Generator().manual_seed(0), torch.arange(60) // 20
    for kind in metric.kinds:
        task, shape = KINDS[kind](), (60, 3) if kind == "multilabel" else (60,)
        label = torch.randint(0, 3 if kind == "multiclass" else 2, shape, generator=generator)
        right = (torch.nn.functional.one_hot(label) if kind == "multiclass" else label).double()
        found = [compute(metric.default, task, p.clamp(1e-3, 1 - 1e-3), label, users) for p in (right, 1 - right)]
        assert None not in found
        best, worst = found
        if metric.higher_is_better is not None:
            assert (best > worst) == metric.higher_is_better, (kind, best, worst)
