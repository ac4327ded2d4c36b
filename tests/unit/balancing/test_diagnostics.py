"""What is seen of the balance of tasks: diagnostics and lookahead affinity."""

import pytest
import torch
from torch import nn

from mtl_ray.balancing import TaskLosses
from mtl_ray.balancing.affinity import Lookahead, affinity_of, helpful_tasks, lookahead_affinity
from mtl_ray.balancing.diagnostics import Monitor
from mtl_ray.models.architectures.experts import Gate, gate_use


class TwoTasks(nn.Module):
    """A shared linear layer and one head a task, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared, self.heads = nn.Linear(4, 3).double(), nn.Linear(3, 2).double()
        self.x, self.y = torch.randn(16, 4).double(), torch.randn(16, 2).double()

    def step(self) -> TaskLosses:
        z = self.shared(self.x)
        losses = (self.heads(z) - self.y).square().mean(0)
        return TaskLosses(losses, losses.detach(), torch.ones(2, dtype=torch.bool), z)


def test_affinity_is_the_relative_fall_of_a_loss_after_a_step_on_another_task():
    model = TwoTasks()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = lookahead_affinity(model.step, model.step, torch.optim.SGD(model.parameters(), lr=0.1))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for i in range(2):
        moved = TwoTasks()
        values = moved.step().values
        moved.step().losses[i].backward()
        with torch.no_grad():
            for parameter in moved.shared.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
        torch.testing.assert_close(found[i], 1 - moved.step().values / values)


def test_the_use_of_experts_is_the_mean_weight_over_rows_and_steps():
    gate, monitor = Gate(3, 4), Monitor(["a"])
    network = nn.ModuleDict({"network": nn.ModuleDict({"gates": nn.ModuleDict({"a": gate})})})
    x = torch.randn(6, 3)
    gate(x, torch.randn(6, 4, 2))
    monitor.observe_gates(gate_use(network))
    found = monitor.end_epoch()
    expected = gate.weights(x).softmax(1).mean(0).tolist()
    assert [found[f"gate/gates.a/{e}"] for e in range(4)] == pytest.approx(expected)
    monitor.observe_gates({"a": torch.tensor([9.99, 0.01])})
    assert monitor.end_epoch()["gate/idle"] == 0.5


@pytest.mark.parametrize("steps", [0, 2])
def test_affinity_takes_the_step_of_adam(steps: int):
    model, moved = TwoTasks(), TwoTasks()
    optimizers = [torch.optim.Adam(m.shared.parameters(), lr=0.01) for m in (model, moved)]
    for m, optimizer in zip((model, moved), optimizers, strict=True):
        for _ in range(steps):
            optimizer.zero_grad()
            m.step().losses.sum().backward()
            optimizer.step()
    found = lookahead_affinity(model.step, model.step, optimizers[0])
    values = moved.step().values
    moved.zero_grad()
    moved.step().losses[1].backward()
    for state in optimizers[1].state.values():
        state["exp_avg"].zero_()
    optimizers[1].step()
    torch.testing.assert_close(found[1], 1 - moved.step().values / values)


def test_a_step_that_knows_the_gradients_has_the_same_backward_pass():
    weights, found = torch.tensor([0.3, -2.0]).double(), []
    for look in (False, True):
        model = TwoTasks()
        step = model.step()
        step.losses = [step.losses[0] * 1, step.losses[1] * 1]
        if look:
            assert step.gramian.shape == (2, 2)
        step.weighted_loss(weights).backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    assert "_passes" in step.__dict__
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


def test_a_task_without_label_has_no_affinity():
    model = TwoTasks()

    def without_second() -> TaskLosses:
        step = model.step()
        step.present = torch.tensor([True, False])
        return step

    found = lookahead_affinity(without_second, without_second, torch.optim.SGD(model.parameters(), lr=0.1))
    assert found.isnan().tolist() == [[False, True], [True, True]]


def test_helpful_tasks_are_those_with_positive_affinity_to_the_target():
    metrics = {"affinity/a/t": 0.1, "affinity/b/t": -0.1, "affinity/c/t": 0.3, "affinity/t/t": 0.5, "affinity/a/b": 1.0}
    assert helpful_tasks(affinity_of(metrics), "t") == ["c", "a"]


def test_the_monitor_reports_means_over_looked_at_steps():
    z = torch.zeros(2, requires_grad=True)

    def observe(monitor: Monitor, rows: list[list[float]], values: list[float], present=(True, True, True)) -> None:
        shared = z * 1
        losses = torch.tensor(rows) @ shared
        step = TaskLosses(losses, torch.tensor(values).double(), torch.tensor(present), shared)
        monitor.observe_step(step, torch.tensor([1.0, 2.0, 3.0]))

    monitor = Monitor(["a", "b", "c"])
    observe(monitor, [[3.0, 4.0], [-3.0, -4.0], [0.0, 0.0]], [2.0, 1.0, 0.0], (True, True, False))
    resumed = Monitor(["a", "b", "c"])
    resumed.resume(monitor.state())
    observe(resumed, [[3.0, 4.0], [4.0, -3.0], [3.0, 4.0]], [1.0, 1.0, 5.0])
    metrics = resumed.end_epoch()
    assert metrics["balance/weight/b"] == 2
    assert metrics["balance/loss_ratio/a"] == pytest.approx(0.75)
    assert metrics["balance/loss_ratio/c"] == 1
    assert metrics["balance/grad_norm/a"] == pytest.approx(5)
    assert metrics["balance/cosine/a/b"] == pytest.approx(-0.5)
    assert metrics["balance/cosine/a/c"] == pytest.approx(1)
    assert metrics["balance/conflicting"] == 0.5
    assert metrics["balance/conflicting_pairs"] == 0.5
    assert resumed.end_epoch() == {}


def test_losses_that_pass_the_representation_by_keep_their_whole_gradient():
    weights, found = torch.tensor([0.3, -2.0]).double(), []
    for look in (False, True):
        model = TwoTasks()
        step = model.step()
        step.losses = [loss + model.shared.weight.square().sum() for loss in step.losses]
        if look:
            assert step.gramian.shape == (2, 2)
        step.weighted_loss(weights).backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


@pytest.mark.parametrize(
    ("weights", "idle"), [([97.5, 2.5], 0.5), ([9.4, 0.6], 0.0), ([1.0, 1.0], 0.0), ([1.0, 0.0], 0.5)]
)
def test_an_expert_is_idle_below_a_tenth_of_an_equal_weight(weights: list[float], idle: float):
    monitor = Monitor(["a"])
    monitor.observe_gates({"a": torch.tensor(weights)})
    found = monitor.end_epoch()
    assert found["gate/idle"] == idle
    assert [found[f"gate/a/{expert}"] for expert in (0, 1)] == pytest.approx([w / sum(weights) for w in weights])


def test_idle_experts_are_a_share_of_all_gates():
    monitor = Monitor(["a", "b"])
    monitor.observe_gates({"a": torch.tensor([10.0, 0.0]), "b": torch.tensor([1.0, 1.0, 1.0, 0.01])})
    found = monitor.end_epoch()
    assert found["gate/idle"] == pytest.approx(2 / 6)
    assert found["gate/b/3"] == pytest.approx(0.01 / 3.01)
    monitor.observe_gates({})
    assert monitor.end_epoch() == {}


def test_what_is_not_finite_is_left_out_of_the_means():
    monitor = Monitor(["a", "b"])
    for value in (1.0, float("nan"), 3.0, float("inf")):
        monitor.observe_affinity(torch.tensor([[value, 0.5], [0.0, -1.0]]))
    assert monitor.end_epoch() == {"affinity/a/a": 2.0, "affinity/a/b": 0.5, "affinity/b/a": 0.0, "affinity/b/b": -1.0}


def test_a_gradient_of_nothing_has_no_cosine_and_no_conflict():
    shared = torch.zeros(2, requires_grad=True) * 1
    losses = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]) @ shared
    monitor = Monitor(["a", "b", "c"])
    step = TaskLosses(losses, torch.tensor([0.0, 2.0, 4.0]).double(), torch.tensor([True, True, True]), shared)
    monitor.observe_step(step, torch.ones(3))
    found = monitor.end_epoch()
    assert {key for key in found if key.startswith("balance/cosine")} == {"balance/cosine/a/c"}
    assert (found["balance/cosine/a/c"], found["balance/conflicting"], found["balance/conflicting_pairs"]) == (-1, 1, 1)
    assert "balance/loss_ratio/a" not in found  # its first loss is 0
    assert found["balance/grad_norm/b"] == 0


def test_orthogonal_gradients_do_not_conflict():
    shared = torch.zeros(2, requires_grad=True) * 1
    losses = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]) @ shared
    monitor = Monitor(["a", "b", "c"])
    monitor.observe_step(TaskLosses(losses, torch.ones(3).double(), torch.ones(3).bool(), shared), torch.ones(3))
    found = monitor.end_epoch()
    assert found["balance/conflicting"] == 1
    assert found["balance/conflicting_pairs"] == pytest.approx(1 / 3)


class Probed:
    """A balancer and a monitor that keep what they are given."""

    guarded = None

    def __init__(self, every: int) -> None:
        self.probe_every, self.rewards, self.affinities = every, [], []

    def reward(self, affinity: torch.Tensor) -> None:
        self.rewards.append(affinity)

    def observe_affinity(self, affinity: torch.Tensor) -> None:
        self.affinities.append(affinity)


@pytest.mark.parametrize(("monitor_every", "probe_every"), [(0, 0), (2, 0), (0, 3), (2, 3)])
def test_affinity_is_measured_every_so_many_steps_without_dropout(monitor_every: int, probe_every: int):
    model, modes = TwoTasks(), []
    kept, optimizer = Probed(probe_every), torch.optim.SGD(model.parameters(), lr=0.1)
    look = Lookahead(model, optimizer, kept, kept, monitor_every)  # pyright: ignore[reportArgumentType]

    def losses() -> TaskLosses:
        modes.append(model.training)
        return model.step()

    def validation() -> TaskLosses:
        step = losses()
        return TaskLosses(step.losses, 2 + step.values, step.present, step.shared)

    for step in range(6):
        look(step, losses, validation)
        assert model.training
    assert len(kept.affinities) == (3 if monitor_every else 0)
    assert len(kept.rewards) == (2 if probe_every else 0)
    assert not any(modes)
    if monitor_every and probe_every:
        expected = lookahead_affinity(model.step, model.step, optimizer)
        torch.testing.assert_close(kept.affinities[0], expected)
        assert (kept.rewards[0].diagonal() < expected.diagonal()).all()


def test_a_loss_of_nothing_has_no_affinity():
    model = TwoTasks()

    def solved() -> TaskLosses:
        step = model.step()
        step.values = step.values * torch.tensor([1.0, 0.0])
        return step

    found = lookahead_affinity(solved, solved, torch.optim.SGD(model.parameters(), lr=0.1))
    assert found.isnan().tolist() == [[False, True], [False, True]]


def test_a_task_without_affinity_to_the_target_does_not_help():
    table = {"a": {"t": 0.0}, "b": {"u": 1.0}, "c": {"t": 1e-9}, "d": {"t": 0.5}, "t": {"t": 1.0}}
    assert helpful_tasks(table, "t") == ["d", "c"]
    assert affinity_of({"balance/weight/a": 1.0, "affinity/a/b/c": 2.0}) == {"a": {"b/c": 2.0}}
