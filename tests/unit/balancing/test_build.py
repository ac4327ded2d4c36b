"""Weightings and losses from plain arguments: names of tasks, summed losses and numbers of labels."""

import pytest
import torch

from mtl_ray import balancing
from mtl_ray.balancing import TaskLosses
from mtl_ray.config import override
from mtl_ray.config.balancing import FAMOBalancingConfig
from tests.support import balancings, small_experiment

KINDS = balancings()


def sums(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, requires_grad=True) for value in values]


def test_losses_are_means_over_the_labels():
    losses = TaskLosses.of(sums(6.0, 0.0), [4, 0], scales=torch.tensor([2.0, 5.0]))
    assert losses.values.tolist() == [3.0, 0.0]
    assert [loss.item() for loss in losses.losses] == [3.0, 0.0]
    assert losses.present.tolist() == [True, False]
    assert losses.totals is not None
    assert losses.totals.tolist() == [6.0, 0.0, 4.0, 0.0]


def test_a_penalty_is_a_mean_over_rows_that_no_weight_changes():
    penalty = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    losses = TaskLosses.of(sums(8.0), [2], penalty=penalty)
    loss, weights = balancing.build("equal", ["click"])(losses)
    assert (loss.item(), weights.tolist()) == (7.0, [1.0])
    loss.backward()
    assert penalty.grad is not None
    assert penalty.grad.tolist() == pytest.approx([1 / 3] * 3)


def test_a_batch_without_labels_still_has_its_penalty():
    losses = TaskLosses.of(sums(0.0), [0], penalty=torch.tensor([4.0, 2.0]))
    loss, weights = balancing.build("uncertainty", ["click"])(losses)
    assert (loss.item(), weights.tolist()) == (3.0, [0.0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_and_a_file_make_the_same_balancer(kind: str):
    experiment = override(small_experiment(), {"balancing": KINDS[kind], "training.optimizer.lr": 0.1})
    from_file = balancing.build_balancer(experiment)
    weights = {name: 1.0 if task.weight is None else task.weight for name, task in experiment.tasks.items()}
    by_hand = balancing.build(KINDS[kind], weights, lr=0.1, batch_size=experiment.training.batch_size)
    assert type(by_hand) is type(from_file)
    found, expected = by_hand.state_dict(), from_file.state_dict()
    assert {name: str(value) for name, value in found.items()} == {name: str(value) for name, value in expected.items()}
    assert by_hand.probe_every == from_file.probe_every


def test_a_balancer_comes_from_a_kind_settings_or_a_section():
    made = [balancing.build(given, ["a", "b"]) for given in ("famo", {"kind": "famo", "sample": 0.5})]
    made.append(balancing.build(FAMOBalancingConfig(sample=0.25), ["a", "b"]))
    assert [balancer.sample for balancer in made] == [1.0, 0.5, 0.25]


def test_an_unknown_kind_or_task_is_refused():
    with pytest.raises(ValueError, match="uncertainty"):
        balancing.build("uncertain", ["click"])
    with pytest.raises(ValueError, match="like"):
        balancing.build({"kind": "gradient_to_target", "target": "like"}, ["click"])
