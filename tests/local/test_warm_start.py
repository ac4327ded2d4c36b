"""A model over data that have grown begins with what an earlier one has learned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.schema import FIRST, UNKNOWN
from mtl_ray.training.state import state_of
from mtl_ray.training.trainer import Trainer
from mtl_ray.training.warm_start import copy_weights, start_from
from mtl_ray.values.vocabulary import VOCABULARY, read_vocabularies
from tests.support import shard, small_experiment


def experiment_of(folder: Path, **changes) -> Experiment:
    return override(small_experiment(data__output=str(folder), training__average=0.9), changes)


def table_of(model: Any, feature: str) -> torch.Tensor:
    return model.inputs["shared"].tables[feature].weight


def output_of(model: Any, task: str) -> torch.Tensor:
    return model.network.towers.towers[task][-1].weight


def trained(experiment: Experiment, prepared: Prepared, folder: Path) -> Path:
    """The checkpoint of a training of a few steps."""
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    for _, batch in zip(range(4), shard(prepared, "train").training_batches(0, 0, 256), strict=False):
        trainer.step(batch)
    checkpoint.save(folder, experiment, prepared.schema, trainer.evaluated, state_of(trainer))
    prepared.folder.copy_to(VOCABULARY, folder / VOCABULARY)
    return folder


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> tuple[Prepared, Path]:
    folder = tmp_path_factory.mktemp("old")
    experiment = experiment_of(folder)
    prepared = prepare(experiment, echo=lambda _: None)
    return prepared, trained(experiment, prepared, folder / "checkpoint")


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> tuple[Experiment, Prepared]:
    source = {"data.source": {"kind": "synthetic", "num_users": 260, "num_items": 100, "num_interactions": 9000}}
    experiment = experiment_of(tmp_path_factory.mktemp("grown"), **source)
    return experiment, prepare(experiment, echo=lambda _: None)


def test_the_same_data_give_the_same_predictions(old):
    prepared, folder = old
    before = checkpoint.load(folder)
    trainer = Trainer(before.experiment, prepared.schema, torch.device("cpu"))
    start_from(trainer, prepared, str(folder))
    (batch, *_) = shard(prepared, "test").evaluation_batches(100)
    for name, expected in before.model.predict(batch).items():
        assert torch.equal(trainer.model.eval().predict(batch)[name], expected)
        assert torch.equal(trainer.evaluated.eval().predict(batch)[name], expected)


def test_known_values_keep_their_embeddings_and_new_ones_begin_as_unseen_ones(old, grown):
    prepared, folder = old
    experiment, more = grown
    trainer = Trainer(experiment, more.schema, torch.device("cpu"))
    start_from(trainer, more, str(folder))
    before = checkpoint.load(folder).model
    for name in ("user_id", "category"):
        words = [read_vocabularies(p.folder, [name])[name].values.to_pylist() for p in (prepared, more)]
        assert words[0] != words[1] or name == "category"
        new = 0
        for row, value in enumerate(words[1], FIRST):
            known = words[0].index(value) + FIRST if value in words[0] else UNKNOWN
            new += known == UNKNOWN
            assert torch.equal(table_of(trainer.model, name)[row], table_of(before, name)[known]), value
        assert (new > 0) == (name == "user_id")
    assert torch.equal(table_of(trainer.model, "user_id")[:FIRST], table_of(before, "user_id")[:FIRST])


@pytest.mark.parametrize("kind", ["hash", "quotient_remainder"])
def test_known_values_keep_their_vectors_in_compressed_tables(kind: str, old, grown, tmp_path):
    compressed = {"features.user_id.compression": {"kind": kind, "rows": 40}}
    experiment = override(experiment_of(tmp_path), compressed)
    folder = trained(experiment, old[0], tmp_path / "checkpoint")
    more = grown[1]
    trainer = Trainer(override(grown[0], compressed), more.schema, torch.device("cpu"))
    start_from(trainer, more, str(folder))
    before, after = (m.inputs["shared"].tables["user_id"] for m in (checkpoint.load(folder).model, trainer.model))
    words = [read_vocabularies(p.folder, ["user_id"])["user_id"].values.to_pylist() for p in (old[0], more)]
    assert words[0] != words[1]
    new, known = zip(*((n, words[0].index(v)) for n, v in enumerate(words[1]) if v in words[0]), strict=True)
    assert 0 < len(known) < len(words[1])
    vectors = before(FIRST + torch.tensor(known))
    assert torch.equal(after(FIRST + torch.tensor(new)), vectors)


def test_known_ids_keep_their_biases_and_new_ones_begin_without(old, grown, tmp_path):
    biased = {"model.id_bias": True}
    folder = trained(override(experiment_of(tmp_path), biased), old[0], tmp_path / "checkpoint")
    more = grown[1]
    trainer = Trainer(override(grown[0], biased), more.schema, torch.device("cpu"))
    start_from(trainer, more, str(folder))
    before, after = (m.id_biases["user_id"].table.weight for m in (checkpoint.load(folder).model, trainer.model))
    words = [read_vocabularies(p.folder, ["user_id"])["user_id"].values.to_pylist() for p in (old[0], more)]
    assert before[FIRST:].any()
    assert words[0] != words[1]
    for row, value in enumerate(words[1], FIRST):
        expected = before[words[0].index(value) + FIRST] if value in words[0] else torch.zeros_like(before[0])
        assert torch.equal(after[row], expected), value


def test_a_bucket_takes_the_weights_of_the_old_one_in_which_its_middle_lies(old, grown):
    prepared, folder = old
    experiment, more = grown
    trainer = Trainer(experiment, more.schema, torch.device("cpu"))
    start_from(trainer, more, str(folder))
    table = table_of(trainer.model, "price")
    before = table_of(checkpoint.load(folder).model, "price")
    bounds, new_bounds = (np.array(p.schema.features["price"].boundaries) for p in (prepared, more))
    middle = (new_bounds[2] + new_bounds[3]) / 2
    assert torch.equal(table[FIRST + 3], before[FIRST + int((bounds <= middle).sum())])
    assert torch.equal(table[-1], before[-1])


def test_a_class_keeps_its_output_wherever_it_is_in_the_new_order(old):
    prepared, folder = old
    task = prepared.schema.tasks["occupation"]
    changed = task.model_copy(update={"classes": ("sailor", *reversed(task.classes))})
    tasks = {**prepared.schema.tasks, "occupation": changed}
    schema = prepared.schema.model_copy(update={"tasks": tasks})
    before = checkpoint.load(folder)
    model = Trainer(before.experiment, schema, torch.device("cpu")).model
    fresh = output_of(model, "occupation").clone()
    copy_weights(model, schema, read_vocabularies(prepared.folder, list(before.experiment.features)), folder)
    weight = output_of(model, "occupation")
    kept = output_of(before.model, "occupation")
    assert torch.equal(weight[1:], kept.flip(0))
    assert torch.equal(weight[0], fresh[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.encoder.hidden": [7]}, "another model; expected .* numbers in `network"),
        ({"model.kind": "mmoe"}, "another model; only one of both has `network"),
    ],
)
def test_another_model_is_refused_by_name(old, changes, message):
    prepared, folder = old
    trainer = Trainer(experiment_of(folder, **changes), prepared.schema, torch.device("cpu"))
    with pytest.raises(InputError, match=f"training.warm_start: .*{message}"):
        start_from(trainer, prepared, str(folder))
