"""Weightings that TorchJD has equal plain TorchJD on one process."""

import pytest
import torch
from torchjd import aggregation, scalarization

from tests.unit.balancing.problem import NUM_TASKS, Problem, balancer_of, close


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
        problem, after = Problem(seed), Problem(seed + 100)
        close(problem.gradient(balancer), problem.plain_gradient(plain), 1e-6)  # TorchJD adds 1e-8 to each loss
        balancer.after(problem.step(), after.step())
        plain.update(after.values)


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
