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

from mtl_ray.balancing import gradients, losses, surgery, targets
from mtl_ray.balancing.balancer import Balancer
from mtl_ray.experiment import Experiment
from mtl_ray.experiment import balancing as settings


def build_method(experiment: Experiment) -> Balancer:
    """The balancer of a method. Raises AssertionError for weights that the experiment file gives."""
    tasks, num_tasks = list(experiment.tasks), len(experiment.tasks)
    declared = torch.tensor(list(experiment.weights().values()), dtype=torch.float64)
    lr = experiment.training.optimizer.lr
    match experiment.balancing:
        case settings.UncertaintyBalancing() as s:
            return losses.LearnedScalarization(UW(num_tasks), s.lr or lr)
        case settings.IMTLLBalancing() as s:
            return losses.LearnedScalarization(IMTLL(num_tasks), s.lr or lr)
        case settings.DWABalancing(temperature=temperature):
            return losses.DWABalancer(num_tasks, temperature)
        case settings.RLWBalancing():
            return losses.PlainScalarization(Random())
        case settings.GeometricMeanBalancing():
            return losses.PlainScalarization(GeometricMean())
        case settings.SmoothTchebycheffBalancing(mu=mu):
            return losses.PlainScalarization(STCH(mu))
        case settings.FAMOBalancing() as s:
            return losses.FAMOBalancer(num_tasks, s.lr, s.gamma, s.sample)
        case settings.DTPBalancing() as s:
            return losses.DTPBalancer(num_tasks, s.alpha, s.gamma)
        case settings.GradNormBalancing() as s:
            return gradients.GradNormBalancer(s.space, num_tasks, s.alpha, s.lr)
        case settings.PCGradBalancing(space=space):
            return gradients.GramianBalancer(space, PCGradWeighting())
        case settings.MGDABalancing() as s:
            return gradients.GramianBalancer(s.space, MGDAWeighting(s.epsilon, s.max_iters))
        case settings.CAGradBalancing() as s:
            return gradients.GramianBalancer(s.space, CAGradWeighting(s.c))
        case settings.IMTLGBalancing(space=space):
            return gradients.GramianBalancer(space, IMTLGWeighting())
        case settings.AlignedMTLBalancing() as s:
            return gradients.GramianBalancer(s.space, AlignedMTLWeighting(scale_mode=s.scale_mode))
        case settings.FairGradBalancing() as s:
            return gradients.GramianBalancer(s.space, FairGradWeighting(s.alpha))
        case settings.UPGradBalancing(space=space):
            return gradients.GramianBalancer(space, UPGradWeighting(projector=gradients.NonNegativeProjector()))
        case settings.NashMTLBalancing() as s:
            return gradients.NashMTLBalancer(s.space, num_tasks, s.update_weights_every, s.max_norm)
        case settings.GradVacBalancing() as s:
            return gradients.GradVacBalancer(s.space, num_tasks, s.beta)
        case settings.GradDropBalancing(leak=leak):
            return surgery.GradDropBalancer(leak)
        case settings.DBMTLBalancing() as s:
            return surgery.DBMTLBalancer(s.beta, s.beta_sigma)
        case settings.GradientToTargetBalancing() as s:
            return targets.GradientToTargetBalancer(s.space, declared, tasks.index(s.target), s.gate)
        case settings.BanditBalancing() as s:
            return targets.BanditBalancer(declared, [tasks.index(name) for name in s.targets], s.every, s.eta, s.rows)
        case _:
            raise AssertionError(experiment.balancing)
