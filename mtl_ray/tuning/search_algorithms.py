"""Build the searcher and the scheduler that a section `tune` names, of Ray Tune and Optuna."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import ray.tune
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.schedulers.pb2 import PB2
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from mtl_ray.cluster.ray_compat import running_optuna_trial
from mtl_ray.config import Experiment
from mtl_ray.config import search_algorithms as settings
from mtl_ray.config.tuning import ChoiceConfig, LogUniformConfig, RandIntConfig, TuneConfig, UniformConfig
from mtl_ray.tuning.space import Domain, changes_of, parameters_of, tune_of
from mtl_ray.tuning.trial import BEST_METRICS, EPOCH

Violations = Callable[[Mapping[str, float]], Sequence[float]]
"""Takes a trial's searched metrics; returns by how much they break each constraint, at most 0 where they do not."""


class ConstrainedOptunaSearch(OptunaSearch):
    """A searcher that tells Optuna how far a trial breaks the constraints, before it tells the values."""

    violations: Violations = staticmethod(lambda _: [])

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Take a trial's last report."""
        if result and (trial := running_optuna_trial(self, trial_id)):
            prefix = f"{BEST_METRICS}/"
            metrics = {key.removeprefix(prefix): v for key, v in result.items() if key.startswith(prefix)}
            for number, violation in enumerate(self.violations(metrics)):
                trial.set_constraint(str(number), violation)
        super().on_trial_complete(trial_id, result, error)


def build_searcher(experiment: Experiment, violations: Violations) -> ConstrainedOptunaSearch | BasicVariantGenerator:
    """Return what proposes parameters; for a population, only its first ones."""
    tune = tune_of(experiment)
    if tune.algorithm.is_population:
        random.seed(tune.seed)  # the schedulers of populations draw from the global generators
        np.random.seed(tune.seed)
        return BasicVariantGenerator(random_state=tune.seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    keys, modes = [f"{BEST_METRICS}/{key}" for key in tune.objectives], [str(mode) for mode in tune.objectives.values()]
    several = len(keys) > 1
    search = ConstrainedOptunaSearch(
        _Space(experiment),
        keys if several else keys[0],
        modes if several else modes[0],
        points_to_evaluate=[dict(point) for point in tune.first] or None,
        sampler=_sampler(tune),
    )
    search.violations = violations
    return search


@dataclass(frozen=True)
class _Space:
    """Optuna's define-by-run function, as a class so that Ray Tune can pickle it."""

    experiment: Experiment

    def __call__(self, trial: optuna.Trial) -> None:
        changes_of(self.experiment, lambda name, domain: suggest(trial, name, domain))


def _sampler(tune: TuneConfig) -> BaseSampler:
    match tune.algorithm:
        case settings.TPEConfig(startup_trials=number):
            # Trials run side by side. Without the constant liar all of them would be proposed in the same place.
            return TPESampler(n_startup_trials=number, seed=tune.seed, constant_liar=True)
        case settings.NSGA2Config(population=size):
            return NSGAIISampler(population_size=size, seed=tune.seed)
        case _:
            return RandomSampler(tune.seed)


def suggest(trial: optuna.Trial, name: str, domain: Domain) -> Any:
    """Return Optuna's value of a parameter; for a choice, its label."""
    distribution = distribution_of(domain)
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def distribution_of(
    domain: Domain,
) -> (
    optuna.distributions.FloatDistribution
    | optuna.distributions.IntDistribution
    | optuna.distributions.CategoricalDistribution
):
    """Return Optuna's distribution for a domain."""
    match domain:
        case ChoiceConfig(values=values):
            return optuna.distributions.CategoricalDistribution(list(values))
        case RandIntConfig(low=low, high=high):
            return optuna.distributions.IntDistribution(low, high)
        case _:
            return optuna.distributions.FloatDistribution(
                domain.low, domain.high, log=isinstance(domain, LogUniformConfig)
            )


def population_space(experiment: Experiment) -> dict[str, Any]:
    """Return Ray Tune's distributions of a population's first parameters; empty for other algorithms."""
    if not tune_of(experiment).algorithm.is_population:
        return {}
    return {name: _ray_domain(domain) for name, domain in parameters_of(experiment).items()}


def _ray_domain(domain: Domain) -> Any:
    match domain:
        case LogUniformConfig(low=low, high=high):
            return ray.tune.loguniform(low, high)
        case UniformConfig(low=low, high=high):
            return ray.tune.uniform(low, high)
        case _:
            raise AssertionError(domain.kind)


Reports = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Searched metrics by trial id and epoch."""


class _Remembering(TrialScheduler):
    """A scheduler that is told, when a search resumes, what its ended trials reported."""

    reports: Reports

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        if trial.is_finished():
            for epoch, metrics in self.reports.get(trial.trial_id, {}).items():
                result = {EPOCH: epoch, **{f"{BEST_METRICS}/{key}": value for key, value in metrics.items()}}
                self.on_trial_result(tune_controller, trial, result)


class RememberingASHA(_Remembering, ASHAScheduler):
    """ASHA whose rungs include reports from before a search was resumed."""


class RememberingMedian(_Remembering, MedianStoppingRule):
    """Median stopping whose medians include reports from before a search was resumed."""


def build_scheduler(experiment: Experiment, reports: Reports) -> TrialScheduler:
    """Return what stops trials, or replaces members of a population.

    Args:
        experiment: has a section `tune`.
        reports: reports from before the search was resumed.
    """
    tune = tune_of(experiment)
    key, mode = next(iter(tune.objectives.items()))
    common: dict[str, Any] = {"time_attr": EPOCH, "metric": f"{BEST_METRICS}/{key}", "mode": mode}
    match tune.algorithm, tune.scheduler:
        case settings.PBTConfig() as s, _:
            return PopulationBasedTraining(
                **common,
                perturbation_interval=s.every,
                hyperparam_mutations=population_space(experiment),
                quantile_fraction=s.quantile,
                resample_probability=s.resample,
                custom_explore_fn=_clipped(parameters_of(experiment)),
                log_config=False,
            )
        case settings.PB2Config() as s, _:
            bounds: dict[str, Any] = {
                name: [domain.low, domain.high] for name, domain in _ranges(parameters_of(experiment)).items()
            }
            return PB2(
                **common,
                perturbation_interval=s.every,
                hyperparam_bounds=bounds,
                quantile_fraction=s.quantile,
                log_config=False,
            )
        case _, settings.ASHAConfig(grace=grace, reduction=reduction):
            asha = RememberingASHA(
                **common, max_t=_max_epochs(experiment), grace_period=grace, reduction_factor=reduction
            )
            asha.reports = reports
            return asha
        case _, settings.MedianConfig(grace=grace, min_trials=number):
            median = RememberingMedian(**common, grace_period=grace, min_samples_required=number)
            median.reports = reports
            return median
        case _, settings.HyperBandConfig(reduction=reduction):
            return HyperBandScheduler(**common, max_t=_max_epochs(experiment), reduction_factor=reduction)
    return FIFOScheduler()


def _max_epochs(experiment: Experiment) -> int:
    domain = parameters_of(experiment).get("training.epochs")
    return domain.high if isinstance(domain, RandIntConfig) else experiment.training.epochs


def _ranges(parameters: Mapping[str, Domain]) -> dict[str, UniformConfig | LogUniformConfig]:
    return {n: d for n, d in parameters.items() if isinstance(d, UniformConfig | LogUniformConfig)}


def _clipped(parameters: Mapping[str, Domain]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that clips values to their ranges: population based training multiplies them."""
    ranges = {name: (domain.low, domain.high) for name, domain in _ranges(parameters).items()}

    def clip(params: dict[str, Any]) -> dict[str, Any]:
        return {n: min(max(v, ranges[n][0]), ranges[n][1]) for n, v in params.items()}

    return clip
