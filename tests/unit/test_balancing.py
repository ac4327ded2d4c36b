"""Each weighting against plain TorchJD, or against a slow reference written from the paper's formula."""

import io
import math

import pytest
import torch
from torchjd import aggregation, scalarization
from torchjd.linalg import QuadprogProjector

from mtl_ray.balancing import Balancer, Step, build_balancer
from mtl_ray.balancing.gradients import NonNegativeProjector, bargain
from mtl_ray.experiment import override
from tests.support import balancings, small_experiment

NUM_TASKS, ROWS, WIDTH = 6, 5, 4
TASKS = list(small_experiment().tasks)
KINDS = balancings()


def balancer_of(kind: str, **settings) -> Balancer:
    changes = {"balancing": KINDS[kind] | settings, "training.optimizer.lr": 0.1}
    return build_balancer(override(small_experiment(), changes))


class Problem:
    """Losses that are linear in a representation: `jacobian` is their gradient, `values` their value."""

    def __init__(self, seed: int = 0, present: tuple[bool, ...] = (True,) * NUM_TASKS) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.jacobian = torch.randn(NUM_TASKS, ROWS * WIDTH, generator=generator).double()
        self.values = torch.rand(NUM_TASKS, generator=generator).double() + 0.2
        self.present = torch.tensor(present)
        self.jacobian[~self.present], self.values[~self.present] = 0, 0
        self.leaf = torch.randn(ROWS, WIDTH, generator=generator).double().requires_grad_()

    def losses(self) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.leaf * 1
        return self.values + self.jacobian @ (z - self.leaf.detach()).flatten(), z

    def step(self, epoch: int = 0) -> Step:
        losses, z = self.losses()
        return Step(losses, losses.detach(), self.present, z, epoch)

    def gradient(self, balancer: Balancer) -> torch.Tensor:
        """(numel,) what the representation receives."""
        torch.manual_seed(7)
        self.leaf.grad = None
        balancer(self.step())[0].backward()
        assert self.leaf.grad is not None
        return self.leaf.grad.flatten()

    def plain_gradient(self, scalarizer) -> torch.Tensor:
        torch.manual_seed(7)
        self.leaf.grad = None
        scalarizer(self.losses()[0]).backward()
        assert self.leaf.grad is not None
        return self.leaf.grad.flatten()


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("kind", "scalarizer"),
    [
        ("equal", scalarization.Mean()),
        ("geometric_mean", scalarization.GeometricMean()),
        ("smooth_tchebycheff", scalarization.STCH(0.1)),
        ("rlw", scalarization.Random()),
    ],
)
def test_scalarizations_are_those_of_torchjd(kind: str, scalarizer):
    problem = Problem()
    close(problem.gradient(balancer_of(kind)), problem.plain_gradient(scalarizer))


@pytest.mark.parametrize(("kind", "scalarizer"), [("uncertainty", scalarization.UW), ("imtl_l", scalarization.IMTLL)])
def test_learned_scalarizations_are_those_of_torchjd(kind: str, scalarizer):
    balancer, plain = balancer_of(kind), scalarizer(NUM_TASKS).double()
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.1)
    for seed in range(5):
        problem = Problem(seed)
        close(problem.gradient(balancer), problem.plain_gradient(plain))
        optimizer.step()
        optimizer.zero_grad()


def test_famo_is_that_of_torchjd():
    balancer, plain = balancer_of("famo"), scalarization.FAMO(NUM_TASKS).double()
    for seed in range(5):
        problem, after = Problem(seed), Problem(seed + 100).values
        close(problem.gradient(balancer), problem.plain_gradient(plain), 1e-6)  # TorchJD adds 1e-8 to each loss
        balancer.after(after)
        plain.update(after)


def test_dwa_is_that_of_torchjd():
    balancer, plain = balancer_of("dwa"), scalarization.DWA()
    for seed in range(4):
        problem = Problem(seed)
        close(problem.gradient(balancer), problem.plain_gradient(plain))
        plain.step()
        balancer.end_epoch(problem.values)


@pytest.mark.parametrize("space", ["representation", "parameters"])
@pytest.mark.parametrize(
    ("kind", "aggregator"),
    [
        ("pcgrad", aggregation.PCGrad()),
        ("mgda", aggregation.MGDA()),
        ("cagrad", aggregation.CAGrad(0.4)),
        ("imtl_g", aggregation.IMTLG()),
        ("aligned_mtl", aggregation.AlignedMTL()),
        ("upgrad", aggregation.UPGrad()),
    ],
)
def test_gradient_methods_are_those_of_torchjd(kind: str, aggregator, space: str):
    problem = Problem()
    found = problem.gradient(balancer_of(kind, space=space))
    torch.manual_seed(7)
    close(found, aggregator(problem.jacobian), 1e-6)


def test_fairgrad_is_that_of_torchjd_on_gradients_of_mean_square_one():
    problem = Problem()
    found = problem.gradient(balancer_of("fairgrad"))
    norm = problem.jacobian.square().sum(1).mean().sqrt()
    close(found / norm, aggregation.FairGrad(1.0)(problem.jacobian / norm), 1e-6)


def test_gradvac_is_that_of_torchjd_over_steps():
    balancer, plain = balancer_of("gradvac"), aggregation.GradVac(0.01)
    for seed in range(5):
        problem = Problem(seed)
        found = problem.gradient(balancer)
        torch.manual_seed(7)
        close(found, plain(problem.jacobian), 1e-6)


def test_gradient_methods_do_not_depend_on_the_number_of_rows():
    for kind in ("pcgrad", "mgda", "cagrad", "imtl_g", "aligned_mtl", "upgrad", "gradvac", "fairgrad"):
        problem, small = Problem(), Problem()
        small.jacobian *= 1e-4
        torch.manual_seed(7)
        weights = balancer_of(kind)(problem.step())[1]
        torch.manual_seed(7)
        close(balancer_of(kind)(small.step())[1], weights, 1e-6)


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem:UserWarning")
def test_nash_mtl_solves_its_equation_as_torchjd_does_nearly():
    problem = Problem()
    gramian = problem.jacobian @ problem.jacobian.T
    gramian = gramian / gramian.norm()
    weights = bargain(gramian)
    close(gramian @ weights * weights, torch.ones(NUM_TASKS).double(), 1e-6)
    found = problem.gradient(balancer_of("nash_mtl"))
    assert found.norm().item() == pytest.approx(1)
    plain = aggregation.NashMTL(NUM_TASKS)(problem.jacobian)
    assert torch.cosine_similarity(found, plain, 0) > 0.999


def test_nash_mtl_keeps_its_weights_between_solutions():
    balancer = balancer_of("nash_mtl", update_weights_every=2, max_norm=0)
    first, kept, second = (balancer(Problem(seed).step())[1] for seed in range(3))
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)


def test_the_projector_is_that_of_torchjd():
    for seed in range(5):
        jacobian = Problem(seed).jacobian
        gramian, vectors = jacobian @ jacobian.T, torch.eye(NUM_TASKS).double()
        close(NonNegativeProjector()(vectors, gramian), QuadprogProjector()(vectors, gramian), 1e-8)


def test_gradnorm_follows_its_loss():
    balancer = balancer_of("gradnorm")
    weights = torch.ones(NUM_TASKS).double().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.025)
    first = Problem(0).values
    for seed in range(5):
        problem = Problem(seed)
        close(balancer(problem.step())[1], weights.detach())
        norms = weights * problem.jacobian.norm(dim=1)
        rate = problem.values / first
        goal = (norms.mean() * (rate / rate.mean()) ** 1.5).detach()
        (norms - goal).abs().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            weights *= NUM_TASKS / weights.sum()


def test_graddrop_lets_one_sign_of_each_feature_pass():
    problem = Problem()
    found = problem.gradient(balancer_of("graddrop", leak=0.25)).view(ROWS, WIDTH)
    torch.manual_seed(7)
    draw = torch.rand(WIDTH, dtype=torch.float64)
    gradients, z = problem.jacobian.view(NUM_TASKS, ROWS, WIDTH), problem.leaf.detach()
    for feature in range(WIDTH):
        sums = [float((z[:, feature].sign() * g[:, feature]).sum()) for g in gradients]
        positive = 0.5 * (1 + sum(sums) / sum(map(abs, sums)))
        expected = torch.zeros(ROWS).double()
        for gradient, total in zip(gradients, sums, strict=True):
            passes = total > 0 if positive > draw[feature] else total < 0
            expected += gradient[:, feature] * (1 if passes else 0.25)
        close(found[:, feature], expected)


def test_db_mtl_follows_its_formula():
    balancer = balancer_of("db_mtl", beta=0.9, beta_sigma=0.5)
    average = torch.zeros(NUM_TASKS, ROWS * WIDTH).double()
    for k in range(1, 5):
        problem = Problem(k)
        newest = problem.jacobian / problem.values[:, None]
        forget = 0.9 / math.sqrt(k)
        average = forget * average + (1 - forget) * newest
        norms = average.norm(dim=1)
        close(problem.gradient(balancer), (norms.max() / norms) @ average)


def test_dtp_puts_the_harder_task_first():
    balancer = balancer_of("dtp", alpha=0.5, gamma=2.0)
    performance = None
    for seed in range(3):
        problem = Problem(seed)
        newest = torch.exp(-problem.values)
        performance = newest if performance is None else (performance + newest) / 2
        weights = balancer(problem.step())[1]
        close(weights, -((1 - performance) ** 2) * performance.log())
    assert performance is not None
    assert weights.argmax() == performance.argmin()


def test_scheduled_weights_change_at_their_epoch():
    balancer = balancer_of("scheduled", weights={"click": {2: 0.5, 4: 0.1}})
    found = [balancer(Problem().step(epoch))[1][TASKS.index("click")].item() for epoch in range(6)]
    assert found == [1 / 6, 1 / 6, 0.5, 0.5, 0.1, 0.1]


@pytest.mark.parametrize("gate", ["weighted", "unweighted"])
def test_auxiliary_tasks_count_by_their_cosine_with_the_target(gate: str):
    problem = Problem()
    target = TASKS.index("rating")
    weights = balancer_of("gradient_to_target", gate=gate)(problem.step())[1]
    for number, (name, declared) in enumerate(small_experiment().weights().items()):
        cosine = torch.cosine_similarity(problem.jacobian[number], problem.jacobian[target], 0).item()
        expected = max(0.0, cosine) if gate == "weighted" else float(cosine >= 0)
        assert weights[number].item() == pytest.approx(declared * (1 if name == "rating" else expected))


def test_the_bandit_leaves_out_what_harms_its_targets_and_can_take_it_back():
    balancer = balancer_of("bandit", targets=["rating"], eta=1.0)
    rating, click, tags = (TASKS.index(name) for name in ("rating", "click", "tags"))
    affinity = torch.full((NUM_TASKS, NUM_TASKS), torch.nan).double()
    affinity[rating, rating], affinity[click, rating], affinity[tags, rating] = 0.02, 0.01, -0.01
    for _ in range(30):
        balancer.reward(affinity)
    weights = balancer(Problem().step())[1]
    declared = torch.tensor(list(small_experiment().weights().values())).double()
    assert weights.sum().item() == pytest.approx(declared.sum().item())
    share = weights / declared
    assert share[tags] < 0.01 * share[rating]
    assert share[click] > 0.99 * share[rating]
    affinity[tags, rating] = 0.02
    for _ in range(30):
        balancer.reward(affinity)
    share = balancer(Problem().step())[1] / declared
    assert share[tags] > 0.9 * share[rating]


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_label_is_left_out(kind: str):
    balancer = balancer_of(kind)
    for absent in ((2,), (), (0, 2, 5), range(NUM_TASKS)):
        problem = Problem(1, tuple(number not in absent for number in range(NUM_TASKS)))
        loss, weights = balancer(problem.step())
        loss.backward()
        assert problem.leaf.grad is not None
        assert problem.leaf.grad.isfinite().all()
        assert all(weights[number] == 0 for number in absent)
        assert weights.isfinite().all()
        balancer.after(problem.values * 0.9)
        balancer.end_epoch(torch.where(problem.present, problem.values, torch.nan))


@pytest.mark.parametrize("kind", ["geometric_mean", "smooth_tchebycheff", "famo", "gradnorm", "graddrop", "db_mtl"])
def test_a_task_that_never_has_a_label_changes_nothing_for_the_others(kind: str):
    present = (True, True, False, True, True, True)
    names = [name for name, here in zip(TASKS, present, strict=True) if here]
    whole = balancer_of(kind)
    tree = small_experiment().model_dump(mode="json", exclude_unset=True)
    tree["tasks"] = {name: tree["tasks"][name] for name in names}
    alone = build_balancer(override(small_experiment(), {"tasks": tree["tasks"], "balancing": KINDS[kind]}))
    problem, left = Problem(1, present), Problem(1, present)
    left.jacobian, left.values = left.jacobian[problem.present], left.values[problem.present]
    left.present = left.present[problem.present]
    close(problem.gradient(whole), left.gradient(alone))


@pytest.mark.parametrize("kind", KINDS)
def test_state_survives_a_file_without_pickles(kind: str):
    whole, before = balancer_of(kind), balancer_of(kind)

    def advance(balancer: Balancer, seed: int) -> torch.Tensor:
        problem = Problem(seed)
        gradient = problem.gradient(balancer)
        balancer.after(problem.values * torch.linspace(0.7, 1.1, NUM_TASKS))
        balancer.end_epoch(problem.values)
        balancer.reward(problem.jacobian[:, :NUM_TASKS])
        return gradient

    for seed in range(3):
        advance(whole, seed), advance(before, seed)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    resumed = balancer_of(kind)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(3, 6):
        assert torch.equal(advance(resumed, seed), advance(whole, seed))


def test_without_a_shared_representation_gradient_methods_say_so():
    step = Problem().step()
    step.shared = None
    with pytest.raises(ValueError, match="this method compares the tasks' gradients on a shared representation"):
        balancer_of("pcgrad")(step)
