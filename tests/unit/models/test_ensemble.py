"""Ensembles: their predictions are means of the members', and a damaged one is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.errors import InputError
from mtl_ray.models import MultiTaskModel, build_model, checkpoint
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.schema import FittedTask, Schema
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.values.vocabulary import VOCABULARY
from tests.unit.conftest import batch_of, schema_of, vocabulary_table

OTHERS = (
    {"seed": 11},
    {"seed": 12, "model": {"kind": "mmoe", "embedding_dim": 4, "encoder": {"hidden": [8]}}},
)

Members = list[tuple[Experiment, MultiTaskModel, int]]


def build(settings: Experiment, schema: Schema) -> MultiTaskModel:
    torch.manual_seed(settings.seed)
    return build_model(settings, schema).eval()


@pytest.fixture
def members(experiment: Experiment, schema: Schema) -> Members:
    """Three members of two architectures; the last counts twice."""
    settings = [experiment, *(override(experiment, changes) for changes in OTHERS)]
    return [(each, build(each, schema), weight) for each, weight in zip(settings, (1, 1, 2), strict=True)]


def joined(members: Members) -> Ensemble:
    return Ensemble([model for _, model, _ in members], [w for *_, w in members], list(members[0][0].tasks)).eval()


@pytest.fixture
def saved(experiment: Experiment, schema: Schema, members: Members, tmp_path: Path) -> Path:
    checkpoint.save_ensemble(tmp_path / "e", experiment, schema, members)
    checkpoint.note_noise(tmp_path / "e", {"rating": 0.5})
    pq.write_table(vocabulary_table(), tmp_path / "e" / VOCABULARY)
    return tmp_path / "e"


def test_outputs_are_the_mean_of_the_members_own(members: Members):
    own = [model.evaluation_logits(batch_of(7)) for _, model, _ in members]
    for task, found in joined(members).evaluation_logits(batch_of(7)).items():
        assert torch.equal(found, (own[0][task] + own[1][task] + own[2][task] * 2) / 4)


def test_one_member_is_the_model_itself_whatever_its_weight(experiment: Experiment, model: MultiTaskModel):
    alone = Ensemble([model], [2], list(experiment.tasks)).predict(batch_of(5))
    assert all(torch.equal(alone[task], found) for task, found in model.predict(batch_of(5)).items())


def test_a_weight_counts_as_a_repeated_member(members: Members):
    repeated = joined([*[(e, m, 1) for e, m, _ in members], (*members[2][:2], 1)])
    for task, found in joined(members).predict(batch_of(7)).items():
        torch.testing.assert_close(found, repeated.predict(batch_of(7))[task])


def test_predictions_are_on_the_natural_scale_of_the_mean(members: Members):
    ensemble = joined(members)
    logits, found = ensemble.evaluation_logits(batch_of(7)), ensemble.predict(batch_of(7))
    assert torch.equal(found["click"], torch.sigmoid(logits["click"])[:, 0])
    torch.testing.assert_close(found["occupation"].sum(1), torch.ones(7))


def test_the_spread_is_the_standard_deviation_of_the_members_predictions(members: Members):
    found, spread = joined(members).predict_with_spread(batch_of(7))
    own = [model.predict(batch_of(7)) for _, model, weight in members for _ in range(weight)]
    for task, expected in joined(members).predict(batch_of(7)).items():
        assert torch.equal(found[task], expected)
        deviation = np.std([each[task].numpy() for each in own], axis=0)
        np.testing.assert_allclose(spread[task].numpy(), deviation, atol=1e-6)
        assert spread[task].shape == expected.shape


def test_a_task_of_some_members_is_the_mean_of_these(experiment: Experiment, schema: Schema, members: Members):
    fewer = override(experiment, {"tasks.rating": None})
    mixed = [members[0], (fewer, build(fewer, schema), 1), members[2]]
    own = [members[i][1].evaluation_logits(batch_of(7), ["rating"])["rating"] for i in (0, 2)]
    assert torch.equal(joined(mixed).evaluation_logits(batch_of(7))["rating"], (own[0] + own[1] * 2) / 3)


def test_only_the_tasks_that_are_asked_for_are_computed(members: Members):
    assert list(joined(members).evaluation_logits(batch_of(3), ["rating"])) == ["rating"]


def test_a_saved_one_is_the_same_when_loaded_and_so_is_each_member(saved: Path, members: Members):
    loaded = checkpoint.load(saved)
    assert isinstance(loaded.model, Ensemble)
    assert not loaded.model.training
    assert loaded.noise == {"rating": 0.5}
    for task, found in joined(members).predict(batch_of(9)).items():
        assert torch.equal(loaded.model.predict(batch_of(9))[task], found)
    assert loaded.model.loss_scales == members[0][1].loss_scales
    for number, (settings, model, _) in enumerate(members, 1):
        member = checkpoint.load(saved / "members" / str(number))
        assert member.experiment == settings
        assert torch.equal(member.model.predict(batch_of(4))["click"], model.predict(batch_of(4))["click"])


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def _other_schema(folder: Path) -> None:
    """Put a member of another data set in place of the second one."""
    member = checkpoint.load(folder / "members/2")
    schema = member.schema.model_copy(update={"tasks": member.schema.tasks | {"click": FittedTask(mean=0.2)}})
    shutil.rmtree(folder / "members/2")
    assert isinstance(member.model, MultiTaskModel)
    checkpoint.save(folder / "members/2", member.experiment, schema, member.model, None)


def _other_weight(folder: Path) -> None:
    content = json.loads((folder / "ensemble.json").read_text())
    content["members"][0]["weight"] = 0
    (folder / "ensemble.json").write_text(json.dumps(content))


def _other_settings(folder: Path) -> None:
    """Put a member with another seed in place of the first one."""
    member = checkpoint.load(folder / "members/1")
    assert isinstance(member.model, MultiTaskModel)
    settings = override(member.experiment, {"seed": 99})
    checkpoint.save(folder / "members/1", settings, member.schema, member.model, None)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no ensemble.json": (lambda folder: (folder / "ensemble.json").unlink(), r"model\.safetensors is missing"),
    "half of it": (lambda folder: _cut(folder / "ensemble.json"), "ensemble.json: expected the JSON"),
    "a weight of 0": (_other_weight, r"ensemble.json: expected the JSON .*weight"),
    "no member": (lambda folder: shutil.rmtree(folder / "members/2"), r"members/2: .*experiment\.json is missing"),
    "no weights": (
        lambda folder: (folder / "members/3/model.safetensors").unlink(),
        r"members/3: .*model\.safetensors is missing",
    ),
    "half of the weights": (lambda folder: _cut(folder / "members/1/model.safetensors"), "members/1/model.safetensors"),
    "another schema": (_other_schema, "members/2/schema.json: expected the schema of the ensemble"),
    "other settings": (_other_settings, r"members/1/experiment\.json: expected what ensemble\.json was written with"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_refused_in_a_line(saved: Path, damage: str):
    change, message = DAMAGE[damage]
    change(saved)
    with pytest.raises(InputError, match=message) as found:
        checkpoint.load(saved)
    assert "\n" not in str(found.value)


def test_members_with_other_tasks_or_inputs_are_refused(experiment: Experiment, schema: Schema, tmp_path: Path):
    members = [(experiment, build(experiment, schema), 1)]
    without = override(experiment, {"features.age": None})
    checkpoint.save_ensemble(tmp_path / "inputs", without, schema, members)
    with pytest.raises(InputError, match="expected features of the ensemble, found age"):
        checkpoint.load(tmp_path / "inputs")
    fewer = override(experiment, {"tasks.rating": None})
    checkpoint.save_ensemble(tmp_path / "tasks", experiment, schema, [(fewer, build(fewer, schema), 1)])
    with pytest.raises(InputError, match="expected a member with each task"):
        checkpoint.load(tmp_path / "tasks")
    other = override(experiment, {"tasks.rating": {"kind": "count"}})
    schema = schema_of(other)
    checkpoint.save_ensemble(tmp_path / "kinds", experiment, schema, [(other, build(other, schema), 1)])
    with pytest.raises(InputError, match=r"expected tasks\.rating of kind regression, found count"):
        checkpoint.load(tmp_path / "kinds")


def test_no_training_goes_on_from_one(saved: Path):
    with pytest.raises(InputError, match="to continue from"):
        checkpoint.load_trainer(saved)


def test_the_digest_changes_with_a_member(saved: Path, members: Members):
    before = Scorer(saved).digest
    assert Scorer(saved).digest == before
    settings, model, _ = members[1]
    with torch.no_grad():
        next(model.parameters()).add_(1)
    schema = checkpoint.load(saved).schema
    checkpoint.save(saved / "members/2", settings, schema, model, None)
    assert Scorer(saved).digest != before
