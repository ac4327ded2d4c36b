"""The searchers and schedulers of Ray Tune and Optuna that a section `tune` names."""

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
from mtl_ray.config import tuning as settings
from mtl_ray.tuning.space import Domain, changes_of, parameters_of, tune_of
from mtl_ray.tuning.trial import EPOCH, KEPT

Violations = Callable[[Mapping[str, float]], Sequence[float]]
"""From a trial's searched metrics to by how much they break each constraint; at most 0 where they do not."""


class ConstrainedOptunaSearch(OptunaSearch):
    """Tells Optuna of broken constraints before it tells the values."""

    violations: Violations = staticmethod(lambda _: [])

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Receives the trial's last report."""
        if result and (trial := running_optuna_trial(self, trial_id)):
            kept = {key.removeprefix(f"{KEPT}/"): v for key, v in result.items() if key.startswith(f"{KEPT}/")}
            for number, violation in enumerate(self.violations(kept)):
                trial.set_constraint(str(number), violation)
        super().on_trial_complete(trial_id, result, error)


def build_searcher(experiment: Experiment, violations: Violations) -> ConstrainedOptunaSearch | BasicVariantGenerator:
    """What proposes parameters; of a population only those to begin with."""
    tune = tune_of(experiment)
    if tune.algorithm.is_population:
        random.seed(tune.seed)  # what the schedulers of populations draw from
        np.random.seed(tune.seed)
        return BasicVariantGenerator(random_state=tune.seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    keys, modes = [f"{KEPT}/{key}" for key in tune.objectives], [str(mode) for mode in tune.objectives.values()]
    several = len(keys) > 1
    search = ConstrainedOptunaSearch(
        _Space(experiment), keys if several else keys[0], modes if several else modes[0], sampler=_sampler(tune)
    )
    search.violations = violations
    return search


@dataclass(frozen=True)
class _Space:
    """Optuna's define-by-run function; a class, since Ray Tune pickles it."""

    experiment: Experiment

    def __call__(self, trial: optuna.Trial) -> None:
        changes_of(self.experiment, lambda name, domain: suggest(trial, name, domain))


def _sampler(tune: settings.TuneConfig) -> BaseSampler:
    match tune.algorithm:
        case settings.TPEConfig(startup_trials=number):
            # Trials run side by side: without the liar they would all be proposed in the same place.
            return TPESampler(n_startup_trials=number, seed=tune.seed, constant_liar=True)
        case settings.NSGA2Config(population=size):
            return NSGAIISampler(population_size=size, seed=tune.seed)
        case _:
            return RandomSampler(tune.seed)


def suggest(trial: optuna.Trial, name: str, domain: Domain) -> Any:
    """Optuna's value of a parameter; of a choice its label."""
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
    """Optuna's distribution of a domain."""
    match domain:
        case settings.ChoiceConfig(values=values):
            return optuna.distributions.CategoricalDistribution(list(values))
        case settings.RandIntConfig(low=low, high=high):
            return optuna.distributions.IntDistribution(low, high)
        case _:
            return optuna.distributions.FloatDistribution(
                domain.low, domain.high, log=isinstance(domain, settings.LogUniformConfig)
            )


def population_space(experiment: Experiment) -> dict[str, Any]:
    """Ray Tune's distributions from which a population begins; empty for other algorithms, which propose all."""
    if not tune_of(experiment).algorithm.is_population:
        return {}
    return {name: _ray_domain(domain) for name, domain in parameters_of(experiment).items()}


def _ray_domain(domain: Domain) -> Any:
    match domain:
        case settings.LogUniformConfig(low=low, high=high):
            return ray.tune.loguniform(low, high)
        case settings.UniformConfig(low=low, high=high):
            return ray.tune.uniform(low, high)
        case _:
            raise AssertionError(domain.kind)


Reports = Mapping[str, Mapping[int, Mapping[str, float]]]
"""By the id of a trial and epoch, its searched metrics."""


class _Remembering(TrialScheduler):
    """Tells a new scheduler what trials of a resumed search reported that had ended before."""

    reports: Reports

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        if trial.is_finished():
            for epoch, kept in self.reports.get(trial.trial_id, {}).items():
                result = {EPOCH: epoch, **{f"{KEPT}/{key}": value for key, value in kept.items()}}
                self.on_trial_result(tune_controller, trial, result)


class RememberingASHA(_Remembering, ASHAScheduler):
    """Its rungs hold what was reported before a search was resumed, too."""


class RememberingMedian(_Remembering, MedianStoppingRule):
    """Its medians are over what was reported before a search was resumed, too."""


def build_scheduler(experiment: Experiment, reports: Reports) -> TrialScheduler:
    """What stops trials, or replaces those of a population; `reports` are those before the search was resumed."""
    tune = tune_of(experiment)
    key, mode = next(iter(tune.objectives.items()))
    common: dict[str, Any] = {"time_attr": EPOCH, "metric": f"{KEPT}/{key}", "mode": mode}
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
    return domain.high if isinstance(domain, settings.RandIntConfig) else experiment.training.epochs


def _ranges(parameters: Mapping[str, Domain]) -> dict[str, settings.UniformConfig | settings.LogUniformConfig]:
    return {n: d for n, d in parameters.items() if isinstance(d, settings.UniformConfig | settings.LogUniformConfig)}


def _clipped(parameters: Mapping[str, Domain]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Population based training multiplies; this keeps what it makes within the ranges."""
    ranges = {name: (domain.low, domain.high) for name, domain in _ranges(parameters).items()}

    def clip(params: dict[str, Any]) -> dict[str, Any]:
        return {n: min(max(v, ranges[n][0]), ranges[n][1]) for n, v in params.items()}

    return clip
