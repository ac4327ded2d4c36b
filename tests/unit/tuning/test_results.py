"""What a search found, and its report, from trials made by hand."""

import pytest

from mtl_ray.comparison.grid import grid
from mtl_ray.config import Experiment, override
from mtl_ray.tuning.importance import importance_of
from mtl_ray.tuning.report import summary, tuning_report
from mtl_ray.tuning.results import Tuning, reference_experiments
from mtl_ray.tuning.trial_store import Trial
from tests.support import small_experiment

RMSE, AUC, WARM = "valid/rating/rmse", "valid/click/auc", "valid/rating/rmse/warm"
REFERENCES = {
    "incumbent": {RMSE: 1.0, AUC: 0.7, WARM: 1.0},
    "alone_rating": {RMSE: 1.0, WARM: 1.0},
    "alone_click": {AUC: 0.8},
}
SPACE = {
    "training.optimizer.lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2},
    "model.kind": {"kind": "choice", "values": ["shared_bottom", "mmoe"]},
    "model.experts": {"kind": "randint", "low": 2, "high": 4, "when": {"model.kind": "mmoe"}},
}


def searched(**changes) -> Experiment:
    constraint = {"metric": WARM, "worse_by": 0.01}
    tune = {"objectives": [RMSE, AUC], "constraints": [constraint], "space": SPACE, **changes}
    return override(small_experiment(), {"tune": tune})


def trial(number: int, rmse: float, auc: float, warm: float = 1.0, state="finished", kind="mmoe") -> Trial:
    metrics = {RMSE: rmse, AUC: auc, WARM: warm}
    changes = {"model.kind": kind, "training.optimizer.lr": 10 ** (-4 + number / 4)}
    params = changes | ({"model.experts": 3} if kind == "mmoe" else {})
    return Trial(f"id{number}", number, params, state, changes, {1: metrics, 2: metrics}, metrics, best_epoch=2)


TRIALS = [
    trial(0, 0.90, 0.70),
    trial(1, 0.91, 0.79),
    trial(2, 0.99, 0.80, kind="shared_bottom"),
    trial(3, 0.95, 0.75),  # beaten by 1
    trial(4, 0.80, 0.90, warm=1.02),  # breaks the constraint
    trial(5, 0.70, 0.95, state="stopped"),
    Trial("id6", 6, {"model.kind": "mmoe"}, "failed", failure="the training loss is not finite"),
]


@pytest.fixture
def tuning() -> Tuning:
    return Tuning(searched(), TRIALS, REFERENCES)


def test_only_whole_trials_within_the_constraints_are_suggested(tuning: Tuning):
    assert [t.number for t in tuning.candidates] == [0, 1, 2, 3]
    assert [t.number for t in tuning.front] == [0, 1, 2]
    assert tuning.best is TRIALS[1]
    assert tuning.violations({WARM: 1.02}) == [pytest.approx(0.01)]


def test_the_best_is_an_ordinary_experiment(tuning: Tuning):
    best = tuning.best_experiment()
    assert best is not None
    assert (best.model.kind, best.tune) == ("mmoe", None)
    assert best.training.optimizer.lr == TRIALS[1].params["training.optimizer.lr"]


def test_the_best_is_compared_with_the_file_as_it_stands_on_test_rows_of_one_data_set(tuning: Tuning):
    experiment = tuning.comparison()
    assert experiment is not None
    cells = grid(experiment)
    compare = experiment.compare
    assert compare is not None
    assert (compare.baseline, compare.split) == ("incumbent", "test")
    assert (compare.metrics, compare.segments) == (("rating/rmse", "click/auc"), ("warm", "all"))
    by_variant = {variant: [c for c in cells if c.variant == variant] for variant in ("incumbent", "tuned")}
    assert [[c.seed for c in own] for own in by_variant.values()] == [[3, 4, 5, 6, 7]] * 2
    assert {c.experiment.data_seed for c in cells} == {3}
    assert {c.experiment.model.kind for c in by_variant["tuned"]} == {"mmoe"}
    assert {c.experiment.model.kind for c in by_variant["incumbent"]} == {small_experiment().model.kind}


def test_the_file_as_it_stands_competes(tuning: Tuning):
    settings = searched(objectives=RMSE, constraints=[])
    worse, better = trial(0, 1.1, 0.7), trial(1, 0.9, 0.7)
    kept = Tuning(settings, [worse], REFERENCES)
    assert kept.keeps_file
    assert kept.best_experiment() == override(settings, {"tune": None})
    assert kept.comparison() is None
    assert kept.to_dict()["best"] == "incumbent"
    assert "Suggested: the file as it stands, since no trial is better" in " ".join(summary(kept))
    assert next(kept.rows())[:2] == ["incumbent", "best"]
    assert Tuning(settings, [worse, better], REFERENCES).best is better
    assert Tuning(settings, [trial(2, 1.0, 0.7)], REFERENCES).keeps_file, "what is as good brings nothing"
    assert Tuning(settings, [Trial("id", 0, {}, "failed")], REFERENCES).best is None
    assert Tuning(settings, [worse], {"incumbent": {AUC: 0.7}}).best is worse
    assert not tuning.keeps_file


def test_gains_are_over_each_task_trained_alone(tuning: Tuning):
    assert tuning.delta_m({RMSE: 0.9, AUC: 0.84}) == pytest.approx((0.1 + 0.05) / 2)
    assert Tuning(searched(), TRIALS, {}).delta_m({RMSE: 0.9, AUC: 0.84}) is None


def test_references_are_the_file_as_it_stands_and_each_task_of_an_objective_alone():
    experiment = override(searched(), {"training.early_stopping": {"metric": "valid/click/auc"}})
    references = reference_experiments(experiment)
    assert list(references) == ["incumbent", "alone_rating", "alone_click"]
    assert list(references["incumbent"].tasks) == list(experiment.tasks)
    alone = references["alone_rating"]
    assert list(alone.tasks) == ["rating"]
    assert alone.weights() == {"rating": 1.0}
    assert alone.training.early_stopping is not None
    assert alone.training.early_stopping.metric == RMSE


def test_the_report_tells_of_every_trial_and_draws_what_there_is(tuning: Tuning):
    page = tuning_report(tuning)
    files = page.files()
    html = files["report.html"].decode()
    assert set(files) == {*("report.html", "pareto.png", "parallel_coordinates.png", "importance.png", "trials.png")}
    for found in TRIALS:
        assert found.name in html
    for text in ("Suggested: trial_00001, the knee", "not finite", "breaks a constraint", "at most 1.0100", "Delta-m"):
        assert text in html


def test_the_report_of_a_population_has_its_schedules():
    weights = {"click": {"0": 0.2, "1": 0.4}, "rating": {"0": 0.8}}
    changes = {
        "balancing": {"kind": "scheduled", "weights": weights},
        "training.optimizer.lr": 0.01,
        "training.schedule.epochs": {"1": 0.5},
    }
    space = {"tasks.*.weight": {"kind": "simplex", "of": ["click", "rating"]}}
    metrics = {RMSE: 0.9}
    params = {"tasks.click.weight": 0.5, "tasks.rating.weight": 0.5}
    trials = [Trial("a", 0, params, "finished", changes, {1: metrics}, metrics)]
    settings = searched(objectives=RMSE, constraints=[], algorithm="pbt", space=space)
    page = tuning_report(Tuning(settings, trials, {}))
    assert "schedules.png" in page.files()


def test_the_parameter_that_decides_matters_most():
    trials = [trial(n, 1 + 0.1 * (n % 2), 0.7, kind=("shared_bottom", "mmoe")[n % 2]) for n in range(8)]
    importance = importance_of(Tuning(searched(), trials, {**REFERENCES}))
    assert max(importance, key=lambda name: importance[name]) == "model.kind"
    assert importance_of(Tuning(searched(), trials[:3], REFERENCES)) == {}


def test_while_a_search_is_on_the_table_shows_what_runs_and_the_best(tuning: Tuning):
    running = [Trial(f"r{n}", 10 + n, {}) for n in range(3)]
    table = Tuning(searched(), [*TRIALS, *running], REFERENCES).table(most=5)
    assert table.row_count == len(REFERENCES) + 5
    assert "3 running" in str(table.title)
