"""How much each parameter of a search mattered, by Optuna."""

import optuna

from mtl_ray.tuning.results import Tuning
from mtl_ray.tuning.search_algorithms import distribution_of
from mtl_ray.tuning.space import parameters_of

FEWEST = 4
"""Trials below which importance would say nothing."""


def importance_of(tuning: Tuning) -> dict[str, float]:
    """Share of the variance of the first objective that each parameter explains, over trials that trained to the end.

    Functional analysis of variance (Hutter et al. 2014); empty for too few trials, or values that do not vary.
    """
    key, higher = next(iter(tuning.objectives.items()))
    domains = {name: distribution_of(domain) for name, domain in parameters_of(tuning.experiment).items()}
    done = [trial for trial in tuning.trials if trial.state == "finished"]
    if len(done) < FEWEST or len({trial.kept[key] for trial in done}) == 1:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if higher else "minimize")
    for trial in done:
        own: dict[str, optuna.distributions.BaseDistribution] = {name: domains[name] for name in trial.params}
        study.add_trial(optuna.trial.create_trial(params=trial.params, distributions=own, value=trial.kept[key]))
    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
