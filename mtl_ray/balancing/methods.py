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
        case settings.UncertaintyBalancing() as s:
            return loss_based.LearnedScalarization(UW(num_tasks), s.lr or lr)
        case settings.IMTLLBalancing() as s:
            return loss_based.LearnedScalarization(IMTLL(num_tasks), s.lr or lr)
        case settings.DWABalancing(temperature=temperature):
            return loss_based.DWABalancer(num_tasks, temperature)
        case settings.RLWBalancing():
            return loss_based.PlainScalarization(Random())
        case settings.GeometricMeanBalancing():
            return loss_based.PlainScalarization(GeometricMean())
        case settings.SmoothTchebycheffBalancing(mu=mu):
            return loss_based.PlainScalarization(STCH(mu))
        case settings.FAMOBalancing() as s:
            return loss_based.FAMOBalancer(num_tasks, s.lr, s.gamma, s.sample)
        case settings.DTPBalancing() as s:
            return loss_based.DTPBalancer(num_tasks, s.alpha, s.gamma)
        case settings.GradNormBalancing() as s:
            return gramian.GradNormBalancer(s.space, num_tasks, s.alpha, s.lr)
        case settings.PCGradBalancing(space=space):
            return gramian.GramianBalancer(space, PCGradWeighting())
        case settings.MGDABalancing() as s:
            return gramian.GramianBalancer(s.space, MGDAWeighting(s.epsilon, s.max_iters))
        case settings.CAGradBalancing() as s:
            return gramian.GramianBalancer(s.space, CAGradWeighting(s.c))
        case settings.IMTLGBalancing(space=space):
            return gramian.GramianBalancer(space, IMTLGWeighting())
        case settings.AlignedMTLBalancing() as s:
            return gramian.GramianBalancer(s.space, AlignedMTLWeighting(scale_mode=s.scale_mode))
        case settings.FairGradBalancing() as s:
            return gramian.GramianBalancer(s.space, FairGradWeighting(s.alpha))
        case settings.UPGradBalancing(space=space):
            return gramian.GramianBalancer(space, UPGradWeighting(projector=gramian.NonNegativeProjector()))
        case settings.NashMTLBalancing() as s:
            return gramian.NashMTLBalancer(s.space, num_tasks, s.update_weights_every, s.max_norm)
        case settings.GradVacBalancing() as s:
            return gramian.GradVacBalancer(s.space, num_tasks, s.beta)
        case settings.GradDropBalancing(leak=leak):
            return gradient_surgery.GradDropBalancer(leak)
        case settings.DBMTLBalancing() as s:
            return gradient_surgery.DBMTLBalancer(s.beta, s.beta_sigma)
        case settings.GradientToTargetBalancing() as s:
            return auxiliary.GradientToTargetBalancer(s.space, declared, tasks.index(s.target), s.gate)
        case settings.BanditBalancing() as s:
            return auxiliary.BanditBalancer(declared, [tasks.index(name) for name in s.targets], s.every, s.eta, s.rows)
        case _:
            raise AssertionError(experiment.balancing)
