"""What holds for every feature kind; a new member of the union is covered without being named here."""

import subprocess
import sys
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.config.base import implementation_of
from mtl_ray.config.features import FeatureConfig
from mtl_ray.data.preparation.fit import FitStatistics, fit_partition, fitted_features, vocabularies
from mtl_ray.data.preparation.row_checks import bad_inputs
from mtl_ray.features.base import FeatureKind, FittedState, feature_kinds
from mtl_ray.inference.input_spec import input_spec, random_rows
from mtl_ray.models.embedding import EmbeddedFeatures, FeatureEmbeddings
from mtl_ray.schema import FittedTask, Schema
from mtl_ray.values.partition import ITEM, TEST, TIME, TRAIN, USER, Partition

MEMBERS = {member.model_fields["kind"].default: member for member in get_args(get_args(FeatureConfig)[0])}
REQUIRED: dict[str, dict[str, Any]] = {
    "id": {"entity": "user"},
    "sequence": {"of": "item_id", "max_length": 3, "values": "rating"},
    "statistic": {"of": "rating", "entity": "item"},
    "vector": {"size": 12},
    "image": {"shape": [8, 8, 1]},
    "numeric": {"buckets": 3},
    "date": {"measure": "days"},
}
VARIANTS: dict[str, dict[str, Any]] = {kind: {"kind": kind, **REQUIRED.get(kind, {})} for kind in MEMBERS}
VARIANTS |= {"number": {"kind": "numeric"}, "pieces": {"kind": "numeric", "encoder": "piecewise_linear"}}
VARIANTS |= {
    "waves": {"kind": "numeric", "encoder": "periodic"},
    "weekday": {"kind": "date", "measure": "weekday"},
    "history": {"kind": "sequence", "of": "item_id", "max_length": 3},
}
VARIANTS |= {"audience": {"kind": "sequence", "entity": "item", "of": "user_id", "max_length": 3, "values": "rating"}}
ROWS = 40


def experiment_of(variant: str) -> tuple[Experiment, str]:
    """An experiment with the feature beside the two ids, and the feature's name."""
    settings = VARIANTS[variant]
    features = {"user_id": {"kind": "id", "entity": "user"}, "item_id": {"kind": "id", "entity": "item"}}
    name = "user_id" if settings["kind"] == "id" else "x"
    tree = {
        "name": "kinds",
        "data": {"source": "synthetic", "time": "time", "split": "time"},
        "features": features | {name: settings},
        "tasks": {"click": "binary"},
        "model": {"embedding_dim": 4},
    }
    return parse(tree, "test"), name


def rows_of(experiment: Experiment, name: str, seed: int = 0) -> Partition:
    """A partition of a log with a raw column for the feature that has a null."""
    rng = np.random.default_rng(seed)
    users, items = ([f"{side}{n}" for n in rng.integers(0, 6, ROWS)] for side in "ui")
    size = getattr(experiment.features[name], "size", None)
    values = rng.integers(0, 9, ROWS).astype(str).tolist() if size is None else rng.random((ROWS, size)).tolist()
    columns = {
        USER: pa.array(users),
        ITEM: pa.array(items),
        TIME: pa.array(np.arange(ROWS, dtype=float)),
        "user_id": pa.array(users),
        "item_id": pa.array(items),
        "rating": pa.array(rng.random(ROWS)),
        "click": pa.array(rng.integers(0, 2, ROWS)),
    }
    if experiment.features[name].kind == "date":
        columns["time"], values = pa.array(np.arange(ROWS) * 1e5 + 1.7e9), [f"2023-11-0{day}" for day in range(1, 10)]
        values = [values[place] for place in rng.integers(0, 9, ROWS)]
    if name not in columns and experiment.features[name].raw_column(name, experiment.features) == name:
        columns[name] = pa.array([None, *values[1:]])
    split = np.where(np.arange(ROWS) < 30, TRAIN, TEST).astype(np.int8)
    return Partition(pa.table(columns), split, np.zeros(ROWS), pa.table({}), {})


class Case:
    """A fitted feature."""

    def __init__(self, variant: str) -> None:
        self.experiment, self.name = experiment_of(variant)
        self.rows = rows_of(self.experiment, self.name)
        self.kind: FeatureKind[Any] = feature_kinds(self.experiment)[self.name]
        self.total = fit_partition(self.experiment, self.rows)
        known = vocabularies(self.experiment, self.total)
        self.fitted = fitted_features(self.experiment, self.total, known)
        self.state = FittedState(self.fitted, known)
        self.schema = Schema(
            features=self.fitted,
            tasks={"click": FittedTask()},
            num_rows={},
            train_offsets=(0,),
            num_lanes=1,
            fingerprint="",
            content_hash="",
        )
        self.columns = self.kind.encoded_columns(self.fitted[self.name])

    def raw(self, *values: Any) -> pa.Table:
        """Raw rows with the given values of what callers send for the feature."""
        lists = self.kind.lists_ids_of or hasattr(self.kind.config, "size")
        kind = pa.list_(pa.string() if self.kind.lists_ids_of else pa.float32()) if lists else pa.string()
        return pa.table({self.kind.column: pa.array(values, kind)})

    @property
    def unseen(self) -> Any:
        """A value that training has not seen."""
        size = getattr(self.kind.config, "size", None)
        return ["new"] if self.kind.lists_ids_of else "77" if size is None else [7.0] * size

    def check_columns(self, encoded: dict[str, np.ndarray], size: int) -> None:
        assert list(encoded) == list(self.columns)
        for name, column in self.columns.items():
            assert encoded[name].shape == (size, *column.shape)
            assert encoded[name].dtype == np.dtype(column.dtype)
            if column.dtype == "int32":
                assert encoded[name].max(initial=0) < column.num_embeddings
            elif not column.is_nullable:
                assert np.isfinite(encoded[name]).all()

    def embedded(self, encoded: dict[str, np.ndarray], *, hidden: bool = False) -> EmbeddedFeatures:
        """The vectors of encoded rows, whose ids are known."""
        size = len(next(iter(encoded.values())))
        batch = {name: torch.full((size,), 4, dtype=torch.int32) for name in ("user_id", "item_id")}
        batch |= {name: torch.from_numpy(values) for name, values in encoded.items()}
        torch.manual_seed(0)
        embeddings = FeatureEmbeddings(feature_kinds(self.experiment), self.fitted).eval()
        masks = {self.name: torch.ones(size, dtype=torch.bool)} if hidden else {}
        with torch.no_grad():
            return embeddings(batch, masks)


@pytest.fixture(params=VARIANTS)
def case(request) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("kind", MEMBERS)
def test_the_settings_name_the_class(kind: str):
    settings = MEMBERS[kind](**REQUIRED.get(kind, {}))
    assert issubclass(implementation_of(settings), FeatureKind)
    assert settings.implementation == f"mtl_ray.features.{kind}:{implementation_of(settings).__name__}"


def test_no_kind_loads_torch_before_it_embeds():
    settings = [member(**REQUIRED.get(kind, {})) for kind, member in MEMBERS.items()]
    modules = [each.implementation.partition(":")[0] for each in settings]
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_any_raw_value_is_encoded_as_declared(case: Case):
    for table in (case.raw(), case.raw(None), case.raw(case.unseen, None, case.unseen), pa.table({"other": [1, 2]})):
        assert bad_inputs(case.experiment, table).null_count == len(table)
        case.check_columns(case.kind.encode(table, case.state), len(table))


def test_rows_of_the_log_are_encoded_as_declared(case: Case):
    statistics = case.total.features.get(case.name) if case.kind.out_of_fold else None
    encoded, raw = case.kind.encode_partition(case.rows, case.state, statistics)
    case.check_columns(encoded, ROWS)
    test = case.rows.table.filter(pa.array(case.rows.split == TEST))
    for name, values in raw.items():
        test = test.append_column(name, values)
    for name, values in case.kind.encode(test, case.state).items():
        np.testing.assert_array_equal(values, encoded[name][case.rows.split == TEST])  # a caller sends what test has


def test_a_dictionary_is_encoded_like_a_plain_column(case: Case):
    values = case.kind.raw(case.rows.table)
    if not pa.types.is_nested(values.type):
        plain, shared = (case.kind.encode_column(x, case.state) for x in (values, values.dictionary_encode()))
        np.testing.assert_array_equal(plain, shared)


def test_statistics_add_up_over_partitions(case: Case):
    others = rows_of(case.experiment, case.name, 1)
    both = fit_partition(case.experiment, case.rows) + fit_partition(case.experiment, others)
    again = fit_partition(case.experiment, others) + fit_partition(case.experiment, case.rows)
    assert (FitStatistics() + both).constant == both.constant
    found, swapped = (
        fitted_features(case.experiment, total, vocabularies(case.experiment, total))[case.name]
        for total in (both, again)
    )
    assert found.num_embeddings == swapped.num_embeddings
    for one, other in ((found.mean, swapped.mean), (found.std, swapped.std)):
        assert one == pytest.approx(other)


def test_vectors_have_the_declared_widths(case: Case):
    encoded = case.kind.encode(case.raw(case.unseen, None), case.state)
    widths = FeatureEmbeddings(feature_kinds(case.experiment), case.fitted).dims
    found = case.embedded(encoded)
    own = [name for name in found.vectors if name not in {"user_id", "item_id"} or name == case.name]
    assert own[0] == case.name
    assert {name: vector.shape for name, vector in found.vectors.items()} == {n: (2, w) for n, w in widths.items()}
    assert found.scalars.shape == (2, case.kind.num_scalars)
    assert all(vector.isfinite().all() for vector in (*found.vectors.values(), found.scalars))


def test_a_hidden_value_reads_like_none_or_like_an_unseen_one(case: Case):
    encoded, _ = case.kind.encode_partition(case.rows, case.state, case.total.features.get(case.name))
    hidden, seen = case.embedded(encoded, hidden=True), case.embedded(encoded)
    assert not torch.equal(hidden.vectors[case.name], seen.vectors[case.name])
    nothing = [case.embedded(case.kind.encode(case.raw(value), case.state)) for value in (None, case.unseen)]
    for name in (name for name in hidden.vectors if name.partition(".")[0] == case.name):
        row = hidden.vectors[name][:1]
        assert (hidden.vectors[name] == row).all()
        assert any(torch.allclose(row, found.vectors[name]) for found in nothing)
    assert (hidden.scalars == hidden.scalars[:1]).all()


def test_it_is_described(case: Case):
    line = case.kind.describe(case.fitted[case.name])
    assert case.kind.config.kind in line
    assert "\n" not in line
    spec = input_spec(case.experiment, case.schema)["inputs"]
    drawn = random_rows(case.experiment, case.schema, 50, 0)
    for name, column in case.columns.items():
        assert spec[name]["is"] == column.meaning
        assert drawn[name].shape == (50, *column.shape)
        if column.dtype == "int32":
            assert int(drawn[name].max()) < column.num_embeddings


def test_drift_sees_null_apart(case: Case):
    encoded, _ = case.kind.encode_partition(case.rows, case.state, case.total.features.get(case.name))
    batch = {name: torch.from_numpy(values) for name, values in encoded.items()}
    batch |= {name: torch.ones(ROWS, dtype=torch.int32) for name in ("user_support", "item_support")}
    values = case.kind.observed(batch)
    assert values.ndim == 1
    assert values.dtype == np.float64
    assert np.isfinite(values).any()
