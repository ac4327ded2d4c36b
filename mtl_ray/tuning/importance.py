"""The importance of each parameter of a search, by Optuna."""

import optuna

from mtl_ray.tuning.results import Tuning
from mtl_ray.tuning.search_algorithms import distribution_of
from mtl_ray.tuning.space import parameters_of

FEWEST = 4
"""The least number of trials from which importance is estimated."""


def importance_of(tuning: Tuning) -> dict[str, float]:
    """Return the share of the first objective's variance that each parameter explains, over fully trained trials.

    It is estimated by functional analysis of variance (Hutter et al. 2014). The result is empty for too few trials or
    for values that do not vary.
    """
    key, higher = next(iter(tuning.objectives.items()))
    domains = {name: distribution_of(domain) for name, domain in parameters_of(tuning.experiment).items()}
    done = [trial for trial in tuning.trials if trial.state == "finished"]
    if len(done) < FEWEST or len({trial.best_metrics[key] for trial in done}) == 1:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if higher else "minimize")
    for trial in done:
        own: dict[str, optuna.distributions.BaseDistribution] = {name: domains[name] for name in trial.params}
        study.add_trial(
            optuna.trial.create_trial(params=trial.params, distributions=own, value=trial.best_metrics[key])
        )
    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
