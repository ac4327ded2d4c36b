"""A search that is given nothing but time: what it searches, what it tries first, and how trials are joined."""

import time
from pathlib import Path

import pytest
import torch

from mtl_ray.config import Experiment, load, override
from mtl_ray.errors import InputError
from mtl_ray.tuning import automatic
from mtl_ray.tuning.automatic import searched, seconds_left
from mtl_ray.tuning.ensemble import select_greedily
from mtl_ray.tuning.results import Tuning
from mtl_ray.tuning.space import changes_of, check_tune, drawn_from, parameters_of, trial_experiment, tune_of
from mtl_ray.tuning.trial_store import Trial
from tests.support import random_draw, small_experiment
from tests.unit.training.test_recipe import JOBS, bare, schema_of


def timed(experiment: Experiment | None = None, **tune) -> Experiment:
    return override(experiment or bare(small_experiment()), {"tune": {"minutes": 20, **tune}})


def search_of(experiment: Experiment) -> Experiment:
    return searched(experiment, schema_of(experiment))


def test_the_search_is_around_the_recipe_and_every_setting_can_be_drawn():
    experiment = search_of(timed())
    check_tune(experiment)
    assert {"model.embedding_dim", "model.kind", "training.optimizer.lr"} <= set(parameters_of(experiment))
    draw = random_draw(0)
    kinds = {trial_experiment(experiment, changes_of(experiment, draw)).model.kind for _ in range(50)}
    assert kinds == {"shared_bottom", "single_task", "ple"}


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_every_shipped_file_can_be_searched(file: Path):
    check_tune(search_of(timed(bare(load(file)))))


def test_the_first_trial_is_the_recipe_itself_and_the_others_differ():
    experiment = search_of(timed())
    trials = [trial_experiment(experiment, changes_of(experiment, drawn_from(p))) for p in tune_of(experiment).first]
    assert trials[0] == trial_experiment(experiment, {})
    assert len({trial.model_dump_json() for trial in trials}) == len(trials) >= 6


def test_what_the_file_says_is_not_searched():
    experiment = override(bare(small_experiment()), {"training.optimizer.lr": 0.02, "model.kind": "mmoe"})
    found = search_of(timed(experiment))
    assert not {"training.optimizer.lr", "model.kind"} & set(parameters_of(found))
    assert trial_experiment(found, changes_of(found, random_draw(0))).training.optimizer.lr == 0.02


def test_a_section_keeps_what_it_says():
    space = {"training.optimizer.lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2}}
    tune = tune_of(search_of(timed(space=space, objectives="valid/click/auc", ensemble=3, trials=5)))
    assert list(tune.space) == list(space)
    assert (tune.objectives, tune.ensemble, tune.trials) == ({"valid/click/auc": "max"}, 3, 5)
    assert tune.first == ()


def test_without_time_a_space_and_objectives_are_needed():
    with pytest.raises(InputError, match="expected `space` and `objectives`, or `minutes`; found no objectives"):
        override(small_experiment(), {"tune": {"space": {"tasks.*.weight": {"kind": "simplex"}}}})
    with pytest.raises(InputError, match="`minutes` needs trials that do not change each other"):
        timed(algorithm="pbt")


def test_a_file_that_leaves_nothing_open_is_told(monkeypatch):
    monkeypatch.setattr(automatic, "_portfolio", lambda: {"space": {}, "first": []})
    with pytest.raises(InputError, match="expected settings that the file leaves open"):
        search_of(timed())


def test_the_time_of_an_interrupted_search_counts(monkeypatch):
    monkeypatch.setattr(automatic, "num_trials_that_fit", lambda _: 2)
    experiment = search_of(timed())
    fresh = seconds_left(experiment, [], time.monotonic())
    used = seconds_left(experiment, [Trial("a", 0, {}, seconds=100.0)], time.monotonic())
    assert fresh == pytest.approx(20 * 60 - automatic.ENDING, abs=1)
    assert used == pytest.approx(fresh - 50, abs=1)


def test_trials_that_the_time_ended_count_but_failed_ones_do_not():
    metrics = {"valid/rating/loss": 0.5}
    trials = [
        Trial("a", 0, {}, "stopped", best_metrics=metrics),
        Trial("b", 1, {}, "failed", best_metrics=metrics, failure="the loss is not finite"),
        Trial("c", 2, {}, "running"),
    ]
    assert [trial.id for trial in Tuning(search_of(timed()), trials, {}).candidates] == ["a"]


def mean_squared(label: torch.Tensor):
    return lambda output: float(((output - label) ** 2).mean())


def test_greedy_selection_finds_the_mean_that_is_best():
    label = torch.zeros(4, 1)
    outputs = [label + 1, label - 1, label + 3]
    chosen = select_greedily(outputs, mean_squared(label), 10, higher=False)
    assert (chosen.counts, chosen.value) == ({0: 1, 1: 1}, 0.0)


def test_greedy_selection_repeats_a_member_that_is_worth_more():
    label = torch.zeros(4, 1)
    chosen = select_greedily([label + 1, label - 2], mean_squared(label), 3, higher=False)
    assert (chosen.counts, chosen.value) == ({0: 2, 1: 1}, 0.0)


def test_greedy_selection_is_never_worse_than_the_best_alone():
    generator = torch.Generator().manual_seed(0)
    label = torch.randn(50, 1, generator=generator)
    outputs = [label + s * torch.randn(50, 1, generator=generator) for s in (0.1, 5.0, 5.0)]
    value = mean_squared(label)
    assert select_greedily(outputs, value, 8, higher=False).value <= min(map(value, outputs))


def test_greedy_selection_climbs_where_higher_is_better():
    label = torch.zeros(4, 1)
    chosen = select_greedily([label + 1, label - 1], lambda x: -mean_squared(label)(x), 4, higher=True)
    assert chosen.value == 0.0
