"""The default recipe: what it fills in, what it leaves as it is, and that the result is always an experiment."""

from pathlib import Path
from typing import Any

import pytest

from mtl_ray.config import Experiment, load, override
from mtl_ray.schema import FittedFeature, FittedTask, Schema
from mtl_ray.training.recipe import choices, completed
from tests.support import architectures, small_experiment

JOBS = [file for file in sorted(Path(__file__).parents[3].glob("jobs/*.yaml")) if "\ntasks:" in file.read_text()]


def schema_of(experiment: Experiment, rows: int = 50_000) -> Schema:
    quantiles = {n: (0.0, 1.0, 2.0) for n, f in experiment.features.items() if f.kind == "numeric"}
    return Schema(
        features={name: FittedFeature(quantiles=quantiles.get(name)) for name in experiment.features},
        tasks={name: FittedTask() for name in experiment.tasks},
        num_rows={"train": rows, "valid": 10, "test": 10},
        train_offsets=(0, rows),
        num_lanes=1,
        fingerprint="",
        content_hash="",
    )


def bare(experiment: Experiment) -> Experiment:
    """The experiment without a word about the model and training."""
    tree = experiment.model_dump(mode="json", exclude_unset=True, exclude={"model", "training", "defaults", "compare"})
    return Experiment.model_validate({name: part for name, part in tree.items() if name != "tune"})


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
@pytest.mark.parametrize("rows", [1, 50_000, 20_000_000])
def test_every_shipped_file_without_a_model_is_completed_to_an_experiment(file: Path, rows: int):
    experiment = bare(load(file))
    schema = schema_of(experiment, rows)
    found = completed(experiment, schema)
    assert choices(experiment, schema)
    assert not choices(found, schema)
    assert completed(found, schema) == found


@pytest.mark.parametrize("model", architectures().values(), ids=architectures())
def test_so_is_one_of_any_architecture(model: dict[str, Any]):
    named = {key: model[key] for key in ("kind", "class") if key in model}
    experiment = override(bare(small_experiment()), {"model": named})
    assert completed(experiment, schema_of(experiment)).model.kind == model["kind"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.epochs", 7),
        ("training.optimizer.kind", "sgd"),
        ("training.early_stopping", None),
        ("model.encoder.hidden", [5]),
        ("features.age.encoder", "linear"),
    ],
)
def test_what_the_file_says_stays(path: str, value: Any):
    experiment = override(bare(small_experiment()), {path: value})
    found = completed(experiment, schema_of(experiment))
    assert path not in {choice.path for choice in choices(experiment, schema_of(experiment))}
    assert override(found, {path: value}) == found


def test_fixed_defaults_are_those_of_the_settings():
    experiment = override(bare(small_experiment()), {"defaults": "fixed"})
    assert completed(experiment, schema_of(experiment)) == experiment


def test_every_choice_has_a_reason():
    experiment = bare(small_experiment())
    assert all(choice.reason and choice.reason in str(choice) for choice in choices(experiment, schema_of(experiment)))


def test_losses_of_several_tasks_are_made_half_comparable():
    several = bare(small_experiment())
    one = override(several, {f"tasks.{name}": None for name in list(several.tasks)[1:]})
    assert completed(several, schema_of(several)).balancing.comparable_losses == 0.5
    assert completed(one, schema_of(one)).balancing.comparable_losses is True


def test_vectors_of_different_widths_are_not_multiplied():
    experiment = override(bare(small_experiment()), {"features.age.dim": 5})
    assert completed(experiment, schema_of(experiment)).model.interaction.kind == "concat"
    chosen = completed(bare(small_experiment()), schema_of(experiment)).model.interaction
    assert (chosen.kind, chosen.numbers) == ("dot", "gated")
