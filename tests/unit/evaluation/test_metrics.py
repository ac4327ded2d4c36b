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
from mtl_ray.evaluation.metrics import (
    METRICS,
    Metric,
    default_metrics,
    expected_metrics,
    is_known,
    metric_of,
    metric_of_key,
)
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


USERS = torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("metric", "task", "prediction", "label", "expected"),
    [
        ("rmse", "regression", [1.0, 2.0, 3.0, 5.0], [1.0, 2.0, 5.0, 1.0], (20 / 4) ** 0.5),
        ("mae", "regression", [1.0, 2.0, 3.0, 5.0], [1.0, 2.0, 5.0, 1.0], 6 / 4),
        ("deviance", "count", [1.0, 2.0, 4.0, 1.0], [1.0, 1.0, 2.0, 0.0], 2 * (3 * np.log(0.5) + 1 + 2 + 1) / 4),
        ("ratio", "binary", [0.5, 0.25, 0.5, 0.75], [1.0, 0.0, 1.0, 0.0], 1.0),
        ("ratio", "count", [3.0, 1.0, 1.0, 1.0], [2.0, 0.0, 1.0, 1.0], 1.5),
        ("ratio", "count", [3.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], None),
        ("log_loss", "binary", [0.75, 0.25, 0.5, 0.9], [1.0, 0.0, 1.0, 0.0], -np.log([0.75, 0.75, 0.5, 0.1]).mean()),
        ("accuracy", "ordinal", [1.4, 2.6, 1.9, 0.9], [1.0, 3.0, 3.0, 1.0], 0.75),
        ("auc", "binary", [0.1, 0.5, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0], 3.5 / 4),
        ("ece", "binary", [0.03, 0.05, 0.62, 0.66], [0.0, 1.0, 1.0, 1.0], (0.46 + 0.36) / 2),  # bins of 1/15
    ],
)
def test_metrics_of_four_rows_are_those_by_hand(metric: str, task: str, prediction, label, expected: float | None):
    found = compute(metric, KINDS[task](), torch.tensor(prediction).double(), torch.tensor(label), USERS)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-6))


def test_a_probability_of_nothing_costs_a_finite_loss():
    found = compute(
        "log_loss", BinaryTaskConfig(), torch.tensor([0.0, 1.0]).double(), torch.tensor([1.0, 0.0]), USERS[:2]
    )
    assert found == pytest.approx(-np.log(np.finfo(np.float32).tiny))


def test_the_mean_auc_of_labels_leaves_out_those_of_one_class():
    score = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5], [0.3, 0.2, 0.1]]).double()
    two = torch.tensor([[0, 0, 1], [1, 1, 1], [1, 0, 1]])  # areas of 0 and 1; the last label is always there
    assert compute("macro_auc", MultilabelTaskConfig(), score, two, torch.arange(3)) == pytest.approx(0.5)
    one = torch.tensor([[1, 0, 1], [1, 1, 1], [1, 0, 1]])
    assert compute("macro_auc", MultilabelTaskConfig(), score, one, torch.arange(3)) == 1.0
    assert compute("macro_auc", MultilabelTaskConfig(), score, torch.ones(3, 3).long(), torch.arange(3)) is None


def test_a_class_task_of_one_class_has_no_f1():
    assert (
        compute("macro_f1", MulticlassTaskConfig(), torch.ones(2, 1).double(), torch.zeros(2), torch.arange(2)) is None
    )


def test_gains_below_zero_are_counted_from_the_lowest_one():
    score, users = torch.tensor([0.9, 0.5, 0.1]).double(), torch.zeros(3, dtype=torch.int64)
    found = compute("ndcg@3", RegressionTaskConfig(), score, torch.tensor([-1.0, 1.0, 0.0]), users)
    discount = 1 / np.log2([2, 3, 4])
    assert found == pytest.approx(np.dot([0, 2, 1], discount) / np.dot([2, 1, 0], discount), rel=1e-6)


def test_users_without_a_relevant_row_are_left_out_of_the_mean():
    score, users = torch.tensor([0.1, 0.9, 0.9, 0.1]).double(), torch.tensor([5, 5, 8, 8])
    label = torch.tensor([5.0, 1.0, 1.0, 2.0])
    assert compute("recall@1", RegressionTaskConfig(relevant=4), score, label, users) == 0.0
    assert compute("recall@1", RegressionTaskConfig(relevant=2), score, label, users) == 0.0
    assert compute("recall@2", RegressionTaskConfig(relevant=1), score, label, users) == 1.0
    assert compute("recall@1", RegressionTaskConfig(relevant=1), score, label, users) == pytest.approx(0.5)


def test_equal_scores_of_other_users_do_not_matter():
    score = torch.tensor([0.5, 0.5, -3.0, -7.0, 0.25, 0.5]).double()
    label, users = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0]), torch.tensor([9, 4, 4, 9, 2, 2])
    alone = [
        compute("ndcg@1", RegressionTaskConfig(), score[users == user], label[users == user], users[users == user])
        for user in (2, 4, 9)
    ]
    assert alone == [0.0, 0.0, 1.0]
    assert compute("ndcg@1", RegressionTaskConfig(), score, label, users) == pytest.approx(1 / 3)


def test_no_row_has_no_area():
    empty = SortedRows(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert empty.auc() is None
    assert empty.gauc() is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *[("ndcg@10", "ndcg"), ("ndcg@1", "ndcg"), ("recall@3", "recall"), ("auc", "auc"), ("ratio", "ratio")],
        *[("ndcg@0", None), ("ndcg", None), ("ndcg@", None), ("ndcg@x", None), ("auc@3", None), ("nothing", None)],
    ],
)
def test_a_name_has_a_cut_off_of_one_at_least_where_the_metric_has_one(name: str, found: str | None):
    metric = metric_of(name)
    assert (metric.name if metric else None) == found


def test_a_key_names_its_metric_in_the_third_place():
    for key in ("test/click/auc", "test/click/auc/new_user"):
        metric = metric_of_key(key)
        assert metric is not None
        assert metric.name == "auc"
    assert metric_of_key("test/loss") is None
    assert metric_of_key("auc/auc") is None


def test_a_task_reports_the_metrics_of_its_kind_and_may_name_those_of_every_number():
    assert default_metrics("binary") == ("auc", "log_loss", "gauc", "ece", "ratio")
    assert default_metrics("ranking") == ("ndcg@10", "recall@10", "auc")
    assert default_metrics("regression") == ("rmse", "mae")
    assert [*expected_metrics("regression", predicts_number=True)] == ["rmse", "mae", "ndcg@K", "recall@K"]
    assert [*expected_metrics("multiclass", predicts_number=False)] == ["accuracy", "macro_f1", "log_loss"]
    assert is_known("ndcg@5", "regression", predicts_number=True)
    assert not is_known("ndcg@5", "multiclass", predicts_number=False)
    assert not is_known("auc", "regression", predicts_number=True)
    assert not is_known("nothing", "regression", predicts_number=True)
    assert is_known("auc", "binary", predicts_number=True)


def test_what_other_modules_read_of_each_metric():
    def names(flag: str) -> set[str]:
        return {metric.name for metric in METRICS if getattr(metric, flag)}

    assert names("is_mean_over_users") == names("cutoff") == names("for_every_number") == {"ndcg", "recall"}
    assert names("reads_order_alone") == {"ndcg", "recall", "auc", "gauc"}
    assert names("reads_relevance") == {"recall"}
    assert {metric.name for metric in METRICS if metric.higher_is_better is None} == {"ratio"}
