import math

import pytest
import torch

from mtl_ray.experiment.tasks import BinaryTask, MulticlassTask, MultilabelTask, RegressionTask
from mtl_ray.schema import FittedTask
from mtl_ray.tasks import TaskHead, build_task

NAN = math.nan
CASES = {
    "regression": (
        build_task(RegressionTask(range=(1, 5)), FittedTask(mean=3, std=2)),
        torch.tensor([[0.5], [9.0]]),
        torch.tensor([5.0, NAN]),
        (0.5 - 1.0) ** 2,
    ),
    "binary": (
        build_task(BinaryTask(), FittedTask()),
        torch.tensor([[0.3], [1.0]]),
        torch.tensor([1.0, NAN]),
        math.log(1 + math.exp(-0.3)),
    ),
    "multiclass": (
        build_task(MulticlassTask(), FittedTask(classes=("a", "b"))),
        torch.tensor([[1.0, 2.0], [0.0, 0.0]]),
        torch.tensor([1, -1], dtype=torch.int32),
        math.log(1 + math.exp(-1)),
    ),
    "multilabel": (
        build_task(MultilabelTask(), FittedTask(classes=("a", "b"))),
        torch.tensor([[1.0, -1.0], [0.0, 0.0]]),
        torch.tensor([[1, 0], [-1, -1]], dtype=torch.int8),
        math.log(1 + math.exp(-1)),
    ),
}
every_task = pytest.mark.parametrize(("task", "logits", "label", "expected"), CASES.values(), ids=CASES)


@every_task
def test_loss_is_the_sum_over_labelled_rows(task: TaskHead, logits, label, expected):
    total, count = task.loss(logits, label, task.labelled(label))
    assert count.item() == 1
    assert total.item() == pytest.approx(expected, rel=1e-6)


@every_task
def test_a_batch_without_labels_has_a_zero_and_finite_gradient(task: TaskHead, logits, label, expected):
    logits = logits.clone().requires_grad_()
    total, count = task.loss(logits, label, torch.zeros(2, dtype=torch.bool))
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    assert logits.grad is not None
    assert logits.grad.tolist() == torch.zeros_like(logits).tolist()


@every_task
def test_an_unlabelled_row_has_no_gradient(task: TaskHead, logits, label, expected):
    logits = logits.clone().requires_grad_()
    task.loss(logits, label, task.labelled(label))[0].backward()
    assert logits.grad is not None
    assert logits.grad[1].abs().sum() == 0
    assert torch.isfinite(logits.grad).all()


def test_a_multilabel_task_without_classes_has_no_labelled_row():
    task, logits = build_task(MultilabelTask(), FittedTask()), torch.zeros(3, 1, requires_grad=True)
    label = torch.zeros(3, 0, dtype=torch.int8)
    total, count = task.loss(logits, label, task.labelled(label))
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_predictions_are_on_the_natural_scale():
    assert CASES["regression"][0].predict(torch.tensor([[0.25], [7.0]])).tolist() == [3.5, 5.0]
    assert CASES["binary"][0].predict(torch.zeros(1, 1)).tolist() == [0.5]
    assert CASES["multiclass"][0].predict(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]
    assert CASES["multilabel"][0].predict(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]


def test_labels_of_another_width_are_an_error():
    task, label = CASES["multilabel"][0], torch.zeros(2, 1, dtype=torch.int8)
    with pytest.raises(ValueError, match="must be the same"):
        task.loss(torch.zeros(2, 2), label, task.labelled(label))
