"""Tables with fewer rows than values."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_ray.config.features import CompressionConfig
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.models.complexity import complexity_of
from mtl_ray.nn.compressed_embedding import CompressedTable
from mtl_ray.schema import FIRST
from mtl_ray.training.state import state_of
from mtl_ray.training.trainer import Trainer
from tests.support import small_experiment
from tests.unit.conftest import SIZES, batch_of, schema_of
from tests.unit.models.architectures.test_architectures import labels_of

KINDS = ("hash", "quotient_remainder")


def table_of(kind: str, values: int = 1000, rows: int = 30) -> CompressedTable:
    torch.manual_seed(0)
    return CompressedTable(FIRST + values, 4, CompressionConfig(kind=kind, rows=rows), sparse=False)  # pyright: ignore


def experiment_of(kind: str, **changes: Any):
    compression = {f"features__{name}__compression": {"kind": kind, "rows": 4} for name in ("user_id", "item_id")}
    compression["features__occupation__compression"] = {"kind": kind, "rows": 3}
    return small_experiment(**{"tasks": {"click": "binary", "rating": "regression"}, **compression, **changes})


def batch() -> dict[str, torch.Tensor]:
    return batch_of(64) | labels_of(64) | {"row": torch.arange(64)}


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_zero_and_reserved_values_have_rows_of_their_own(kind: str):
    vectors = table_of(kind)(torch.arange(FIRST + 1000))
    assert not vectors[0].any()
    for reserved in (1, 2):
        assert not (vectors[reserved] == vectors[FIRST:]).all(1).any()


def test_hashed_values_are_spread_evenly_over_the_rows():
    table = table_of("hash", values=10_000, rows=100)
    counts = torch.bincount(table.codes[FIRST:].long() - FIRST, minlength=100)
    assert len(counts) == 100
    assert counts.min() > 50
    assert counts.max() < 200


def test_no_two_values_read_the_same_product():
    table = table_of("quotient_remainder")
    assert len(table.factors.weight) == 1 + -(-1000 // 30)
    vectors = table(torch.arange(FIRST, FIRST + 1000))
    assert len(vectors.unique(dim=0)) == 1000
    value = 457
    expected = table.table.weight[FIRST + value % 30] * table.factors.weight[1 + value // 30]
    assert torch.equal(vectors[value], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_keeps_its_vector_when_the_vocabulary_changes(kind: str):
    old, new = table_of(kind, values=500), table_of(kind, values=800)
    names = torch.randperm(1000)[:800]
    rows = torch.where(names < 500, FIRST + names, 2)
    rows = torch.cat([torch.arange(FIRST), rows])
    codes = new.codes_after(old.codes, rows)
    known = rows >= FIRST
    assert torch.equal(codes[known], old.codes[rows[known]])
    assert torch.equal(codes[:FIRST], torch.arange(FIRST, dtype=codes.dtype))
    assert codes.dtype == new.codes.dtype
    if kind == "quotient_remainder":
        assert len(codes.unique()) == len(codes)
        assert codes.max() < FIRST + 30 * (len(new.factors.weight) - 1)


def test_codes_stay_within_a_vocabulary_that_has_shrunk():
    old, new = table_of("quotient_remainder", values=800), table_of("quotient_remainder", values=100)
    rows = torch.cat([torch.arange(FIRST), FIRST + torch.arange(790, 690, -1)])
    codes = new.codes_after(old.codes, rows)
    assert len(codes.unique()) == len(codes)
    assert new(torch.arange(FIRST + 100)).isfinite().all()
    new.codes.copy_(codes)
    assert len(new(torch.arange(FIRST, FIRST + 100)).unique(dim=0)) == 100


@pytest.mark.parametrize("sparse_from", [2, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_trains_and_comes_back_from_its_checkpoint(kind: str, sparse_from: int, tmp_path: Path):
    experiment = experiment_of(kind, training__sparse_tables__rows=sparse_from)
    trainer = Trainer(experiment, schema_of(experiment), torch.device("cpu"))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "user_id" in name}
    trainer.step(batch())
    assert len(before) == (1 if kind == "hash" else 2)
    assert all((p != before[name]).any() for name, p in trainer.model.named_parameters() if name in before)
    checkpoint.save(tmp_path, experiment, trainer.schema, trainer.evaluated, state_of(trainer))
    rows = batch()
    for name, expected in trainer.model.eval().predict(rows).items():
        assert torch.equal(checkpoint.load(tmp_path).model.predict(rows)[name], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_counts_the_rows_that_there_are(kind: str):
    experiment = experiment_of(kind)
    rows = FIRST + 4 + (0 if kind == "hash" else 1 + -(-(SIZES["user_id"] - FIRST) // 4))
    assert complexity_of(experiment, schema_of(experiment)).parameters["table user_id"] == rows * 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features__item_id__cold_start": {"kind": "mwuf"}}, "`mwuf` reads a row of its own for each id"),
        ({"features__user_id__embed": False}, "the id is no input; expected `embed` true, found false"),
        ({"features__user_id__compression": {"kind": "hash", "rows": 0}}, "greater than 0"),
    ],
)
def test_what_does_not_go_with_it_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=rf"features\.user_id\.compression.*{message}"):
        experiment_of("hash", **changes)
