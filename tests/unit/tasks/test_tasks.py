import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its customary name

from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    CountTaskConfig,
    MulticlassTaskConfig,
    MultilabelTaskConfig,
    OrdinalTaskConfig,
    RegressionTaskConfig,
    ValueTaskConfig,
)
from mtl_ray.models import build_model
from mtl_ray.schema import FittedTask
from mtl_ray.tasks.base import TaskHead, build_task
from tests.unit.conftest import batch_of, schema_of

NAN = math.nan
CASES = {
    "regression": (
        build_task(RegressionTaskConfig(range=(1, 5)), FittedTask(mean=3, std=2)),
        torch.tensor([[0.5], [9.0]]),
        torch.tensor([5.0, NAN]),
        (0.5 - 1.0) ** 2,
    ),
    "binary": (
        build_task(BinaryTaskConfig(), FittedTask()),
        torch.tensor([[0.3], [1.0]]),
        torch.tensor([1.0, NAN]),
        math.log(1 + math.exp(-0.3)),
    ),
    "multiclass": (
        build_task(MulticlassTaskConfig(), FittedTask(classes=("a", "b"))),
        torch.tensor([[1.0, 2.0], [0.0, 0.0]]),
        torch.tensor([1, -1], dtype=torch.int32),
        math.log(1 + math.exp(-1)),
    ),
    "multilabel": (
        build_task(MultilabelTaskConfig(), FittedTask(classes=("a", "b"))),
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
    task, logits = build_task(MultilabelTaskConfig(), FittedTask()), torch.zeros(3, 1, requires_grad=True)
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


def test_corn_learns_each_step_on_the_rows_that_reached_it():
    head = build_task(OrdinalTaskConfig(), FittedTask(classes=("1", "2", "3", "5"), mean=2, std=1))
    logits = torch.tensor([[0.2, -0.3, 0.5], [1.0, 0.1, -2.0]], dtype=torch.float64)
    label = torch.tensor([2.0, 5.0], dtype=torch.float64)
    total, count = head.loss(logits, label, head.labelled(label))
    up, down = F.logsigmoid, lambda x: F.logsigmoid(-x)
    first = up(logits[0, 0]) + down(logits[0, 1])  # level 2 of 4: above the first, not above the second
    second = up(logits[1, 0]) + up(logits[1, 1]) + up(logits[1, 2])
    torch.testing.assert_close(total, -(first + second))
    assert count == 2 + 3
    above = logits.sigmoid().cumprod(1)
    torch.testing.assert_close(head.predict(logits), 1 + above[:, 0] + above[:, 1] + 2 * above[:, 2])


def test_counts_have_the_likelihood_of_poisson():
    head = build_task(CountTaskConfig(), FittedTask(mean=2.0, std=1))
    logits, label = torch.tensor([[0.0], [0.7]]), torch.tensor([3.0, float("nan")])
    total, count = head.loss(logits, label, head.labelled(label))
    likelihoods = [torch.distributions.Poisson(rate).log_prob(torch.tensor(3.0)) for rate in (2.0, 3.0)]
    torch.testing.assert_close(total, likelihoods[1] - likelihoods[0])
    assert count == 1
    torch.testing.assert_close(head.predict(logits), 2 * logits[:, 0].exp())


def test_amounts_have_the_likelihood_of_a_zero_inflated_lognormal():
    head = build_task(ValueTaskConfig(), FittedTask(mean=3.0, std=4.0))
    logits, label = torch.tensor([[0.3, -0.2, 0.5], [0.3, -0.2, 0.5]]), torch.tensor([0.0, 6.0])
    total, _ = head.loss(logits, label, head.labelled(label))
    p, deviation = torch.tensor(0.3).sigmoid(), F.softplus(torch.tensor(0.5))
    amount = torch.distributions.LogNormal(-0.2, deviation).log_prob(torch.tensor(1.5))
    torch.testing.assert_close(total, -torch.log(1 - p) - torch.log(p) - amount)
    expected = p * torch.exp(-0.2 + deviation**2 / 2) * 4.0
    torch.testing.assert_close(head.predict(logits)[0], expected)


def test_losses_can_be_chosen():
    fitted = FittedTask(classes=("a", "b", "c"), mean=0.0, std=2.0)
    logits, label = torch.tensor([[3.0]]), torch.tensor([1.0])
    mask = torch.ones(1, dtype=torch.bool)
    losses = {
        k: build_task(RegressionTaskConfig(loss=k), fitted).loss(logits, label, mask)[0]
        for k in ("mse", "mae", "huber")
    }
    assert losses["mse"] == pytest.approx(2.5**2)
    assert losses["mae"] == pytest.approx(2.5)
    assert losses["huber"] == pytest.approx(2.0)
    focal = build_task(BinaryTaskConfig(loss="focal", gamma=2.0), fitted).loss(torch.tensor([[1.0]]), label, mask)[0]
    p = torch.tensor(1.0).sigmoid()
    torch.testing.assert_close(focal, -((1 - p) ** 2) * p.log())
    smooth = build_task(MulticlassTaskConfig(label_smoothing=0.3), fitted)
    scores = torch.tensor([[1.0, 0.0, -1.0]])
    found = smooth.loss(scores, torch.tensor([0]), mask)[0]
    log = scores.log_softmax(1)[0]
    torch.testing.assert_close(found, -(0.7 * log[0] + 0.1 * log.sum()))


def test_a_rare_task_starts_from_the_share_of_its_positives(experiment):
    rare = schema_of(experiment)
    tasks = {**rare.tasks, "click": FittedTask(mean=0.01), "rating": FittedTask(mean=3.0)}
    torch.manual_seed(0)
    ordinary = build_model(experiment, rare).eval()
    torch.manual_seed(0)
    model = build_model(experiment, rare.model_copy(update={"tasks": tasks})).eval()
    batch = batch_of(100)
    with torch.no_grad():
        before, after = ordinary(batch).logits, model(batch).logits
    shift = math.log(0.01 / 0.99)
    assert torch.allclose(after["click"], before["click"] + shift, atol=1e-5)
    assert torch.equal(after["rating"], before["rating"])


LABELS = {
    "regression": [1.0, 2.0, 2.0, 9.0],
    "ordinal": [1.0, 2.0, 2.0, 5.0],
    "count": [0.0, 0.0, 1.0, 7.0],
    "value": [0.0, 0.0, 2.5, 40.0],
    "binary": [0.0, 0.0, 0.0, 1.0],
}
KINDS = {
    "regression": RegressionTaskConfig(),
    "absolute": RegressionTaskConfig(loss="mae"),
    "huber": RegressionTaskConfig(loss="huber"),
    "ordinal": OrdinalTaskConfig(),
    "count": CountTaskConfig(),
    "binary": BinaryTaskConfig(),
    "focal": BinaryTaskConfig(loss="focal"),
}


@pytest.mark.parametrize("name", KINDS)
def test_no_constant_output_has_a_smaller_loss_than_that_of_the_constant(name: str):
    spec = KINDS[name]
    label = torch.tensor(LABELS[spec.kind], dtype=torch.float64)
    levels, counts = label.unique(return_counts=True)
    fitted = FittedTask(
        mean=label.mean().item(),
        std=label.std(correction=0).item(),
        classes=tuple(f"{level:g}" for level in levels.tolist()) if spec.kind == "ordinal" else (),
        levels=tuple(levels.tolist()),
        shares=tuple((counts / len(label)).tolist()),
    )
    head = build_task(spec, fitted)
    found = head.constant_loss(1024)
    axis = torch.linspace(-4, 4, 161, dtype=torch.float64)
    losses = []
    for output in torch.cartesian_prod(*[axis] * head.num_outputs).reshape(-1, head.num_outputs):
        total, count = head.loss(output.expand(len(label), -1), label, head.labelled(label))
        losses.append((total / count).item())
    assert found == pytest.approx(min(losses), rel=2e-2)
    assert found <= min(losses) + 1e-6
    assert head.loss_scale(1024) == pytest.approx(1 / found)


def test_classes_have_the_entropy_of_their_shares():
    shares = (0.5, 0.25, 0.25)
    fitted = FittedTask(classes=("a", "b", "c"), shares=shares)
    assert build_task(MulticlassTaskConfig(), fitted).constant_loss(1) == pytest.approx(1.5 * math.log(2))
    each = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in shares]
    assert build_task(MultilabelTaskConfig(), fitted).constant_loss(1) == pytest.approx(sum(each) / 3)


def test_labels_without_a_difference_leave_the_loss_as_it_is():
    head = build_task(CountTaskConfig(), FittedTask(mean=2.0, levels=(2.0,), shares=(1.0,)))
    assert head.loss_scale(1) == 1.0
