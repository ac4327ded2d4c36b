"""Values that training reads as unseen ones: at which rate, which values, and what that teaches."""

from itertools import combinations

import pytest
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.counter_rng import Stream, uniform_rows
from mtl_ray.models import MultiTaskModel, build_masking, build_model
from mtl_ray.schema import FIRST, NULL, PADDING, ROW, UNKNOWN
from mtl_ray.training.trainer import Trainer
from tests.support import small_experiment
from tests.unit.conftest import batch_of, schema_of
from tests.unit.models.architectures.test_architectures import labels_of

FEATURES = ("gender", "occupation", "category", "tags", "title")
RATE = 0.2


def experiment_of(rate: float = RATE) -> Experiment:
    changes = {"tasks": {"click": "binary"}, "features.title": {"kind": "text", "entity": "item", "max_length": 4}}
    return override(small_experiment(), changes | {"training.masking.values": rate})


def drawn(experiment: Experiment, rows: torch.Tensor, epoch: int = 0) -> dict[str, torch.Tensor]:
    """The flags of unseen values, by feature."""
    hidden = build_masking(experiment).hidden(rows, epoch)
    return {name.removesuffix(".unseen"): flags for name, flags in hidden.items() if name.endswith(".unseen")}


def test_the_rate_is_met_by_categories_sets_and_texts_and_by_nothing_else():
    found = drawn(experiment_of(), torch.arange(20_000))
    assert sorted(found) == sorted(FEATURES)
    shapes = {"tags": (20_000, 3), "title": (20_000, 4)}
    for name, flags in found.items():
        assert flags.shape == shapes.get(name, (20_000,))
        assert flags.double().mean() == pytest.approx(RATE, abs=0.014)  # 5 deviations


def test_draws_are_independent_between_features_entries_and_epochs():
    rows = torch.arange(20_000)
    found = drawn(experiment_of(), rows)
    columns = [
        flags.T if flags.ndim == 2 else flags[None]
        for flags in (*found.values(), drawn(experiment_of(), rows, 1)["gender"])
    ]
    correlation = torch.corrcoef(torch.cat(columns).double())
    assert (correlation - torch.eye(len(correlation))).abs().max() < 0.036  # 5 deviations


def test_draws_depend_on_the_row_alone():
    rows = torch.arange(500)
    whole, places = drawn(experiment_of(), rows), torch.randperm(500)[:60]
    assert all(torch.equal(flags, whole[name][places]) for name, flags in drawn(experiment_of(), rows[places]).items())


def test_a_further_feature_changes_no_draws_of_the_others():
    more = override(experiment_of(), {"features.city": {"kind": "categorical", "entity": "user"}})
    before, after = (drawn(experiment, torch.arange(500)) for experiment in (experiment_of(), more))
    assert set(after) - set(before) == {"city"}
    assert all(torch.equal(flags, after[name]) for name, flags in before.items())


def test_no_stream_is_that_of_another_purpose_in_the_next_epoch():
    assert max(Stream) < 257
    rows, unseen = torch.arange(1000), Stream.VALUE
    draws = [uniform_rows(rows, 0, *place) for place in ((0, unseen), (1, Stream.MASKS), (1, unseen))]
    assert not any(torch.equal(*pair) for pair in combinations(draws, 2))


def test_without_a_rate_nothing_is_drawn():
    hidden = build_masking(experiment_of(0.0)).hidden(torch.arange(50), epoch=0)
    assert not any(name.endswith(".unseen") for name in hidden)


def small_model() -> tuple[MultiTaskModel, dict[str, torch.Tensor]]:
    experiment = small_experiment(
        tasks={"click": "binary"}, features__history__values="rating", training__precision="float32"
    )
    torch.manual_seed(0)
    return build_model(experiment, schema_of(experiment)).eval(), batch_of(20)


def test_a_flagged_value_reads_what_a_value_unseen_in_training_reads():
    model, batch = small_model()
    flags = torch.ones(20, dtype=torch.bool)
    found = model(batch, {"gender.unseen": flags}).logits["click"]
    unseen = torch.where(batch["gender"] >= FIRST, UNKNOWN, batch["gender"])
    assert torch.equal(found, model({**batch, "gender": unseen}).logits["click"])


def test_neither_nulls_nor_padding_become_unseen_values():
    model, batch = small_model()
    batch["gender"][:] = NULL
    batch["tags"][:] = torch.tensor([NULL, PADDING, PADDING])
    flags = {"gender.unseen": torch.ones(20, dtype=torch.bool), "tags.unseen": torch.ones(20, 3, dtype=torch.bool)}
    assert torch.equal(model(batch, flags).logits["click"], model(batch).logits["click"])


def test_entries_of_a_list_become_unseen_one_by_one():
    model, batch = small_model()
    flags = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    found = model(batch, {"tags.unseen": flags}).logits["click"]
    written = torch.where(flags & (batch["tags"] >= FIRST), UNKNOWN, batch["tags"])
    assert torch.equal(found, model({**batch, "tags": written}).logits["click"])
    assert not torch.equal(found, model(batch).logits["click"])


def test_a_hidden_attribute_stays_hidden():
    model, batch = small_model()
    flags = torch.ones(20, dtype=torch.bool)
    found, expected = (
        model(batch, {"gender": flags, **more}).logits["click"] for more in ({"gender.unseen": flags}, {})
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_the_vectors_of_unseen_values_are_taught_if_a_rate_is_set(rate: float):
    experiment = small_experiment(
        tasks={"click": "binary"},
        training__masking__values=rate,
        training__precision="float32",
        training__optimizer__lr=0.1,
    )
    trainer = Trainer(experiment, schema_of(experiment), torch.device("cpu"))
    tables = trainer.model.inputs["shared"].tables
    before = {name: tables[name].weight.detach().clone() for name in ("gender", "tags")}
    batch = batch_of(64) | labels_of(64) | {ROW: torch.arange(64)}
    for name in before:  # in training rows every value is known
        batch[name] = batch[name].clamp(min=FIRST)
    for _ in range(3):
        trainer.step(batch)
    for name, weight in before.items():
        assert (tables[name].weight[UNKNOWN] != weight[UNKNOWN]).all() == (rate > 0)
        assert torch.equal(tables[name].weight[NULL], weight[NULL])


def test_a_part_of_a_batch_keeps_its_flags():
    experiment = experiment_of()
    columns = {ROW: torch.arange(40), "gender": torch.full((40,), FIRST)}
    whole = build_masking(experiment).draw(columns, 0)
    rows = torch.arange(40) % 3 == 0
    own = build_masking(experiment).draw({name: column[rows] for name, column in columns.items()}, 0)
    assert whole.at(rows).hidden.keys() == own.hidden.keys()
    assert all(torch.equal(flags, own.hidden[name]) for name, flags in whole.at(rows).hidden.items())
