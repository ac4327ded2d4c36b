"""From the settings of a method that learns weights, or draws them, to its balancer."""

import torch
from torchjd.aggregation import (
    AlignedMTLWeighting,
    CAGradWeighting,
    FairGradWeighting,
    IMTLGWeighting,
    MGDAWeighting,
    PCGradWeighting,
    UPGradWeighting,
)
from torchjd.scalarization import IMTLL, STCH, UW, GeometricMean, Random

from mtl_ray.balancing import auxiliary, gradient_surgery, gramian, loss_based
from mtl_ray.balancing.base import Balancer
from mtl_ray.config import Experiment
from mtl_ray.config import balancing as settings


def build_method(experiment: Experiment) -> Balancer:
    """The balancer of a method. Raises AssertionError for weights that the experiment file gives."""
    tasks, num_tasks = list(experiment.tasks), len(experiment.tasks)
    declared = torch.tensor(list(experiment.weights().values()), dtype=torch.float64)
    lr = experiment.training.optimizer.lr
    match experiment.balancing:
        case settings.UncertaintyBalancingConfig() as s:
            return loss_based.LearnedScalarization(UW(num_tasks), s.lr or lr)
        case settings.IMTLLBalancingConfig() as s:
            return loss_based.LearnedScalarization(IMTLL(num_tasks), s.lr or lr)
        case settings.DWABalancingConfig(temperature=temperature):
            return loss_based.DWABalancer(num_tasks, temperature)
        case settings.RLWBalancingConfig():
            return loss_based.PlainScalarization(Random())
        case settings.GeometricMeanBalancingConfig():
            return loss_based.PlainScalarization(GeometricMean())
        case settings.SmoothTchebycheffBalancingConfig(mu=mu):
            return loss_based.PlainScalarization(STCH(mu))
        case settings.FAMOBalancingConfig() as s:
            return loss_based.FAMOBalancer(num_tasks, s.lr, s.gamma, s.sample)
        case settings.DTPBalancingConfig() as s:
            return loss_based.DTPBalancer(num_tasks, s.alpha, s.gamma)
        case settings.GradNormBalancingConfig() as s:
            return gramian.GradNormBalancer(s.space, num_tasks, s.alpha, s.lr)
        case settings.PCGradBalancingConfig(space=space):
            return gramian.GramianBalancer(space, PCGradWeighting())
        case settings.MGDABalancingConfig() as s:
            return gramian.GramianBalancer(s.space, MGDAWeighting(s.epsilon, s.max_iters))
        case settings.CAGradBalancingConfig() as s:
            return gramian.GramianBalancer(s.space, CAGradWeighting(s.c))
        case settings.IMTLGBalancingConfig(space=space):
            return gramian.GramianBalancer(space, IMTLGWeighting())
        case settings.AlignedMTLBalancingConfig() as s:
            return gramian.GramianBalancer(s.space, AlignedMTLWeighting(scale_mode=s.scale_mode))
        case settings.FairGradBalancingConfig() as s:
            return gramian.GramianBalancer(s.space, FairGradWeighting(s.alpha))
        case settings.UPGradBalancingConfig(space=space):
            return gramian.GramianBalancer(space, UPGradWeighting(projector=gramian.NonNegativeProjector()))
        case settings.NashMTLBalancingConfig() as s:
            return gramian.NashMTLBalancer(s.space, num_tasks, s.update_weights_every, s.max_norm)
        case settings.GradVacBalancingConfig() as s:
            return gramian.GradVacBalancer(s.space, num_tasks, s.beta)
        case settings.GradDropBalancingConfig(leak=leak):
            return gradient_surgery.GradDropBalancer(leak)
        case settings.DBMTLBalancingConfig() as s:
            return gradient_surgery.DBMTLBalancer(s.beta, s.beta_sigma)
        case settings.GradientToTargetBalancingConfig() as s:
            return auxiliary.GradientToTargetBalancer(s.space, declared, tasks.index(s.target), s.gate)
        case settings.BanditBalancingConfig() as s:
            return auxiliary.BanditBalancer(declared, [tasks.index(name) for name in s.targets], s.every, s.eta, s.rows)
        case _:
            raise AssertionError(experiment.balancing)
