"""The search space: what trials get, and what is refused before any work."""

import numpy as np
import pytest

from mtl_ray.config import Experiment, override
from mtl_ray.errors import InputError
from mtl_ray.tuning.schedule import changed_from, schedule_changes
from mtl_ray.tuning.space import changes_of, check_tune, dirichlet, parameters_of, trial_experiment
from tests.support import random_draw, small_experiment

SPACE = {
    "tasks": {"kind": "subset", "of": ["gender", "occupation"]},
    "tasks.*.weight": {"kind": "simplex"},
    "model.kind": {"kind": "choice", "values": ["shared_bottom", "mmoe", "ple"]},
    "model.experts": {"kind": "randint", "low": 2, "high": 8, "when": {"model.kind": "mmoe"}},
    "model.task_experts": {"kind": "randint", "low": 1, "high": 2, "when": {"model.kind": ["ple"]}},
    "model.encoder.hidden": {"kind": "choice", "values": {"narrow": [16], "wide": [64, 32]}},
    "training.optimizer.lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2},
}


def searched(**changes) -> Experiment:
    tune = {"objectives": "valid/rating/rmse", "space": SPACE, **changes}
    return override(small_experiment(), {"tune": tune})


def space(path: str, **entry) -> dict:
    return {"space": {path: entry}}


def test_trials_are_whole_experiments_within_the_space():
    experiment = searched()
    check_tune(experiment)
    draw, seen = random_draw(0), set()
    for _ in range(100):
        changes = changes_of(experiment, draw)
        trial = trial_experiment(experiment, changes)
        seen.add((trial.model.kind, *sorted(trial.tasks)))
        assert sum(task.weight for task in trial.tasks.values()) == pytest.approx(1)
        assert ("model.experts" in changes) == (trial.model.kind == "mmoe")
        assert ("model.task_experts" in changes) == (trial.model.kind == "ple")
        assert trial.model.encoder.hidden in ((16,), (64, 32))
        assert trial.model.embedding_dim == experiment.model.embedding_dim
        assert trial.model.interaction.kind == "dot"
        assert trial.tune is None
    assert len(seen) == 3 * 4


def test_the_parameters_are_named_by_path_and_task():
    names = set(parameters_of(searched()))
    weights = {f"tasks.{n}.weight" for n in small_experiment().tasks}
    plain = set(SPACE) - {"tasks", "tasks.*.weight"}
    assert names == weights | plain | {"tasks.gender", "tasks.occupation"}


@pytest.mark.parametrize("concentration", [0.5, 1.0, 4.0])
def test_simplex_weights_have_the_moments_of_the_dirichlet_distribution(concentration):
    """Mean 1/T, variance (T - 1) / (T^2 (T a + 1))."""
    units = np.random.default_rng(0).uniform(size=(10_000, 4))
    weights = np.array([dirichlet(list(row), concentration) for row in units])
    assert weights.sum(1) == pytest.approx(1)
    assert weights.mean(0) == pytest.approx(0.25, abs=0.01)
    assert weights.var(0) == pytest.approx(3 / (16 * (4 * concentration + 1)), rel=0.05)


def test_the_ends_of_a_simplex_are_finite():
    assert dirichlet([0.0, 1.0], 1.0) == pytest.approx([0, 1], abs=1e-6)
    assert dirichlet([0.0, 0.0], 0.01) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (space("model.embeding_dim", kind="randint", low=2, high=8), "unknown key; did you mean `embedding_dim`?"),
        (space("modle.kind", kind="choice", values=["mmoe"]), "modle: unknown key; did you mean `model`?"),
        (space("tasks.buy.weight", kind="uniform", low=0, high=1), "tune.space.tasks.buy.weight: no such entry; tasks"),
        (space("model.kind", kind="choice", values=[]), "tune.space.model.kind.values: value should have at least 1"),
        (space("model.kind", kind="choice", values=["mmoe", "mmoee"]), "did you mean 'mmoe'?"),
        (space("training.optimizer.lr", kind="loguniform", low=0, high=1), "loguniform range cannot reach 0: expected"),
        (space("training.optimizer.lr", kind="uniform", low=2, high=1), "expected low < high; found low 2 and high 1"),
        (space("training.optimizer.lr", kind="uniform", low=-1, high=1), "should be greater than 0; found -1.0"),
        (
            space("training.batch_size", kind="uniform", low=100, high=900),
            "training.batch_size: input should be a valid",
        ),
        (
            space("data.split.valid", kind="uniform", low=0.1, high=0.2),
            "expected a path that leaves alone the data set",
        ),
        (
            space("model.experts", kind="randint", low=2, high=8),
            "model.experts: unknown key; known keys: embedding_dim",
        ),
        (
            space("model.experts", kind="randint", low=2, high=8, when={"model.kind": "mmoee"}),
            "tune.space.model.experts: never searched, since its `when` never holds",
        ),
        (space("tasks", kind="uniform", low=0, high=1), "tasks: expected `subset` at `tasks`, and only there"),
        (space("tasks", kind="subset", of=["rating"]), "tasks.rating cannot be left out, `valid/rating/rmse` is its"),
        (space("tasks", kind="subset", of=["gendr"]), "expected tasks of this file (click, rating"),
        (
            {
                "space": {
                    "tasks.*.weight": {"kind": "simplex"},
                    "tasks.click.weight": {"kind": "uniform", "low": 0, "high": 1},
                }
            },
            "tune.space.tasks.click.weight: already part of the `simplex`",
        ),
        (
            {"objectives": "valid/stars/rmse"},
            "tune.objectives: expected a key valid/TASK/METRIC[/SEGMENT] of this file",
        ),
        ({"objectives": "valid/rating/rmse/new_usr"}, "did you mean `valid/rating/rmse/new_user`?"),
        ({"objectives": []}, "tune: expected `space` and `objectives`, or `minutes`; found no objectives"),
        ({"constraints": [{"metric": "valid/rating/rmse"}]}, "expected exactly one of at_most, at_least, worse_by"),
        ({"constraints": [{"metric": "valid/rating/rms", "at_most": 1}]}, "tune.constraints.0.metric: expected a key"),
        ({"algorithm": "pbt"}, "algorithm `pbt` changes task weights and training.optimizer.lr during training; found"),
        (
            {"space": {"training.warm_start": {"kind": "choice", "values": ["a", "b"]}}},
            "training.warm_start: the trials of a search know no earlier model",
        ),
        (
            {"space": {"training.ensemble": {"kind": "choice", "values": [1, 3]}}},
            "tune.space.training.ensemble: each trial trains a single model",
        ),
        ({"algorithm": "tpe", "scheduler": {"kind": "asha", "grace": 9}}, "tune.scheduler.grace: expected at most"),
        ({"algorithm": "tpee"}, "tune.algorithm.kind: expected one of 'random', 'tpe', 'nsga2', 'pbt', 'pb2'"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError) as caught:
        check_tune(searched(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"algorithm": "pbt"}, {"scheduler": "hyperband"}])
def test_what_halts_trials_takes_none_of_several_workers(changes):
    search = searched(space={"tasks.*.weight": {"kind": "simplex"}}, **changes)
    check_tune(search)
    with pytest.raises(InputError, match=r"halts trials on the way, .* expected training.num_workers 1, found 2"):
        check_tune(override(search, {"training.num_workers": 2}))


def test_without_a_section_there_is_nothing_to_search():
    with pytest.raises(InputError, match="tune: expected a section `tune`"):
        check_tune(small_experiment())


def test_objectives_have_the_direction_of_their_metric_unless_told():
    assert searched(objectives=["valid/rating/rmse", "valid/click/auc"]).tune.objectives == {
        "valid/rating/rmse": "min",
        "valid/click/auc": "max",
    }
    assert searched(objectives={"valid/rating/rmse": "max"}).tune.objectives == {"valid/rating/rmse": "max"}


def test_what_changes_on_the_way_becomes_one_experiment():
    begun = changed_from(small_experiment(), {"tasks.click.weight": 0.2, "training.optimizer.lr": 0.01}, 0)
    same = changed_from(begun, {"tasks.click.weight": 0.2, "training.optimizer.lr": 0.01}, 2)
    assert same.model_dump() == begun.model_dump()
    later = changed_from(begun, {"tasks.click.weight": 0.5, "training.optimizer.lr": 0.002}, 3)
    assert later.balancing.model_dump()["weights"] == {"click": {0: 0.2, 3: 0.5}}
    assert later.training.schedule.epochs == {3: pytest.approx(0.2)}
    assert override(small_experiment(), schedule_changes(later)).model_dump() == later.model_dump()
