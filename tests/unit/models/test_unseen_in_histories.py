"""An id that training has not seen reads, in a history too, the vector of its attributes."""

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from mtl_ray.config import Experiment, override
from mtl_ray.errors import InputError
from mtl_ray.models import MultiTaskModel, build_masking, build_model, checkpoint
from mtl_ray.schema import PADDING, UNKNOWN, FittedFeature, Schema
from tests.support import cold_starts, small_experiment
from tests.unit.conftest import SIZES, batch_of, schema_of

FIRST_NEW, ALL = SIZES["item_id"], SIZES["item_id"] + 4
"""The first row of a catalog that the table does not have, and the number of all."""
ATTRIBUTES = ("category", "tags", "price")


def experiment_of(encoder: str = "pool", **changes) -> Experiment:
    return small_experiment(
        **{
            "features__item_id__cold_start": "content_gate",
            "features__history__unseen": "content",
            "features__history__values": "rating",
            "features__history__encoder": encoder,
            "training__precision": "float32",
            **changes,
        }
    )


def described(experiment: Experiment) -> Schema:
    """The schema of the unit tests, with four items that training has not seen."""
    schema = schema_of(experiment)
    history = {"history": FittedFeature(num_embeddings=ALL, mean=3, std=1)}
    return schema.model_copy(update={"features": schema.features | history})


def model_of(experiment: Experiment) -> MultiTaskModel:
    """A model whose catalog has attributes at random."""
    torch.manual_seed(0)
    model = build_model(experiment, described(experiment)).eval()
    rows = batch_of(ALL, seed=3)
    if "item_id" in model.catalogs:
        for name, column in model.catalogs["item_id"].columns.named_buffers():
            column.copy_(rows[name])
    return model


def attributes_at(model: MultiTaskModel, rows: Tensor) -> dict[str, Tensor]:
    return model.catalogs["item_id"].at(rows)  # pyright: ignore[reportCallIssue]


def batch_with(history: Tensor) -> dict[str, Tensor]:
    return batch_of(len(history)) | {"history": history, "history.values": torch.ones(history.shape)}


def listed(*rows: int) -> Tensor:
    """One history that begins with these rows."""
    return torch.tensor([[*rows, *([PADDING] * (10 - len(rows)))]], dtype=torch.int32)


def logits(model: MultiTaskModel, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor] | None = None) -> Tensor:
    return torch.cat(list(model(batch, hidden).logits.values()), 1)


@pytest.mark.parametrize("settings", cold_starts().values(), ids=cold_starts())
def test_an_entry_reads_what_the_id_of_the_same_item_reads(settings):
    model = model_of(experiment_of(features__item_id__cold_start=settings))
    inputs, rows = next(iter(model.inputs.values())), torch.arange(FIRST_NEW, ALL)
    unknown = torch.full((4,), UNKNOWN)
    batch = batch_of(4) | attributes_at(model, rows) | {"item_id": unknown, "item_support": torch.zeros(4)}
    expected = inputs(batch, {}).vectors["item_id"]
    torch.testing.assert_close(inputs.unseen_vectors("item_id", rows), expected)
    history = torch.cat([listed(int(row)) for row in rows])
    found = inputs(batch | {"history": history, "history.values": torch.full((4, 10), 0.5)}, {}).vectors
    torch.testing.assert_close(found["history"], expected)
    torch.testing.assert_close(found["history.values"], expected / 2)


@pytest.mark.parametrize("encoder", ["pool", "cnn", "rnn", "transformer", "attention"])
def test_a_hidden_entry_is_as_another_item_with_its_attributes(encoder):
    model = model_of(experiment_of(encoder))
    catalog = model.catalogs["item_id"].columns
    for column in catalog.buffers():
        column[FIRST_NEW + 1] = column[7]
    known, new = (batch_with(listed(5, row, 9, FIRST_NEW)) for row in (7, FIRST_NEW + 1))
    flags = torch.zeros(1, 10, dtype=torch.bool)
    flags[0, 1] = True
    torch.testing.assert_close(logits(model, known, {"history.unseen": flags}), logits(model, new))
    assert not torch.allclose(logits(model, known), logits(model, new))


def test_a_pooled_history_is_the_sum_over_its_entries():
    model = model_of(experiment_of())
    inputs = next(iter(model.inputs.values()))
    batch = batch_with(listed(5, FIRST_NEW, UNKNOWN, FIRST_NEW))
    batch["history.values"][0, :4] = torch.tensor([1.0, -2.0, 0.5, 3.0])
    new = inputs.unseen_vectors("item_id", torch.tensor([FIRST_NEW]))[0]
    five, unknown = inputs.tables["item_id"].weight[[5, UNKNOWN]]
    found = inputs(batch, {}).vectors
    torch.testing.assert_close(found["history"][0], (five + unknown + 2 * new) / 2)
    torch.testing.assert_close(found["history.values"][0], (five + 0.5 * unknown + new) / 2)


@pytest.mark.parametrize("encoder", ["pool", "rnn"])
def test_entries_that_are_left_out_leave_out_their_flags(encoder):
    experiment = experiment_of(encoder, features__history__known="all", data__split={"kind": "random"})
    model, flags, gone = model_of(experiment), torch.zeros(2, 1, 10, dtype=torch.bool), torch.zeros(1, 10).bool()
    flags[0, 0, 2], flags[1, 0, 1], gone[0, 0] = True, True, True
    whole = logits(model, batch_with(listed(8, 5, 7)), {"history.unseen": flags[0], "history.entries": gone})
    torch.testing.assert_close(whole, logits(model, batch_with(listed(5, 7)), {"history.unseen": flags[1]}))


def test_training_hides_entries_as_often_as_the_id():
    rates = {"training__masking__item__id": 0.2, "training__masking__item__new": 0.25}
    masking = build_masking(experiment_of(**rates))
    rows = torch.arange(3000)
    flags = masking.hidden(rows, 0)["history.unseen"]
    assert flags.shape == (3000, 10)
    assert flags.double().mean() == pytest.approx(1 - 0.8 * 0.75, abs=0.01)
    assert torch.equal(masking.hidden(rows[50:60], 0)["history.unseen"], flags[50:60])
    assert "history.unseen" not in build_masking(experiment_of(features__history__unseen="unknown")).hidden(rows, 0)


def test_histories_alone_teach_the_layers_of_the_content():
    model = model_of(experiment_of(features__item_id__cold_start="clcrec")).train()
    batch = batch_with(listed(5, 6).expand(8, -1)) | {"item_id": torch.full((8,), 4), "item_support": torch.ones(8)}
    gradients = []
    for share in (0.0, 1.0):
        model.zero_grad()
        flags = torch.full((8, 10), bool(share))
        outputs = model(batch, {"history.unseen": flags})
        sum(output.square().sum() for output in outputs.logits.values()).backward()
        part = next(iter(model.inputs.values())).cold_starts["item_id"]
        gradients.append([p.grad for p in part.content.parameters()])
    assert all(g is None or not g.any() for g in gradients[0])
    assert all(g.any() for g in gradients[1])


def test_a_checkpoint_keeps_what_is_known_of_items(tmp_path):
    experiment = experiment_of(model={"kind": "single_task", "embedding_dim": 8})
    model = model_of(experiment)
    assert sum(name.startswith("catalogs.") for name in model.state_dict()) == len(ATTRIBUTES)
    checkpoint.save(tmp_path, experiment, described(experiment), model, {})
    batch = batch_with(listed(FIRST_NEW, 5))
    found = checkpoint.load(tmp_path).model.predict(batch)
    assert all(torch.equal(found[task], expected) for task, expected in model.predict(batch).items())


def test_a_copy_of_a_model_reads_its_own_catalog():
    model = copy.deepcopy(model_of(experiment_of()))  # as the running mean of the weights is one
    before = logits(model, batch_with(listed(FIRST_NEW)))
    for column in model.catalogs["item_id"].columns.buffers():
        column.copy_(column.flip(0))
    assert not torch.allclose(logits(model, batch_with(listed(FIRST_NEW))), before)


def test_it_needs_the_vector_of_a_cold_id():
    with pytest.raises(InputError, match=r"features.history.unseen: `content` is the vector of features.item_id.cold_"):
        override(experiment_of(), {"features.item_id.cold_start": None})


def test_an_entry_of_a_list_has_no_time_to_count_to():
    made = {"kind": "date", "entity": "item", "measure": "days"}
    with pytest.raises(InputError, match=r"features.history.unseen: `content` has no use for features.made, which"):
        override(experiment_of(), {"features.made": made})
    assert override(experiment_of(), {"features.made": {**made, "measure": "month"}})
