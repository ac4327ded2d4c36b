"""A model for other runtimes predicts what the original does, from inputs that its description tells how to make."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.errors import InputError
from mtl_ray.inference import export as exporting
from mtl_ray.inference.export import export
from mtl_ray.inference.input_spec import input_spec, random_rows
from mtl_ray.models import build_model, checkpoint
from mtl_ray.schema import NULL, PADDING, UNKNOWN
from mtl_ray.values.vocabulary import VOCABULARY
from tests.support import small_experiment
from tests.unit.conftest import schema_of, vocabulary_table


def saved(folder: Path, experiment: Experiment) -> Path:
    """A checkpoint with random weights."""
    torch.manual_seed(0)
    schema = schema_of(experiment)
    model = build_model(experiment, schema)
    for bias in model.id_biases.values():  # they start at 0
        torch.nn.init.normal_(bias.table.weight)  # pyright: ignore
    checkpoint.save(folder, experiment, schema, model, {})
    pq.write_table(vocabulary_table(), folder / VOCABULARY)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Gates by a profile, a history with values, compressed tables, biases of ids, and a task that is named like an
    input, which it does not see."""
    changes = {"model.kind": "pepnet", "features.history.values": "rating", "training.precision": "float32"}
    changes |= {"model.id_bias": True}
    changes |= {"features.user_id.compression": {"kind": "hash", "rows": 5}}
    changes |= {"features.item_id.compression": {"kind": "quotient_remainder", "rows": 4}}
    unused = {f"tasks.{name}": None for name in ("purchase", "occupation", "tags")}
    return saved(tmp_path_factory.mktemp("model"), override(small_experiment(), changes | unused))


@pytest.mark.filterwarnings("ignore")  # of the exporter about its own parts
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_an_exported_model_predicts_what_the_original_does(model: Path, kind: exporting.Format, tmp_path: Path):
    exported = export(model, kind, str(tmp_path / "out"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert sorted(p.name for p in exported.folder.iterdir()) == sorted([exported.file, "encoding.json", VOCABULARY])
    loaded = checkpoint.load(model)
    rows = random_rows(loaded.experiment, loaded.schema, 7, 123)
    if kind == "torch":
        found = torch.export.load(exported.folder / exported.file).module()(rows)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(exported.folder / exported.file)
        names = [entry.name for entry in session.get_outputs()]
        found = dict(zip(names, session.run(None, {n: v.numpy() for n, v in rows.items()}), strict=True))
    for task, values in loaded.model.predict(rows).items():
        np.testing.assert_allclose(found[f"predicted_{task}"], values, rtol=1e-5, atol=1e-5)
    told = json.loads((exported.folder / "encoding.json").read_text())
    assert told["inputs"].keys() == rows.keys()
    assert list(told["outputs"]) == [f"predicted_{task}" for task in loaded.experiment.tasks]


def test_a_model_that_looks_up_attributes_is_refused_in_one_line(tmp_path: Path):
    unseen = {"features.item_id.cold_start": "content_gate", "features.history.unseen": "content"}
    folder = saved(tmp_path / "model", override(small_experiment(), unseen))
    with pytest.raises(InputError, match=r"--format torch: features.history.unseen `content` looks up the attributes"):
        export(folder, "torch", str(tmp_path / "out"))


@pytest.mark.parametrize("gap", [1e-4, float("nan")])
def test_a_model_that_differs_anywhere_is_not_left_behind(gap: float, model: Path, tmp_path: Path, monkeypatch):
    scoring = checkpoint.load(model).model

    def wrong(_):
        def run(rows):
            predictions = {f"predicted_{name}": values.numpy() for name, values in scoring.predict(rows).items()}
            return {name: values + (gap if len(values) == 2 else 0) for name, values in predictions.items()}

        return run

    monkeypatch.setattr(exporting, "_program", lambda *_: None)
    monkeypatch.setattr(exporting, "_write_torch", lambda *_: None)
    monkeypatch.setattr(exporting, "_read_torch", wrong)
    with pytest.raises(RuntimeError, match=r"the exported model's predictions differ by .*, above 1e-05"):
        export(model, "torch", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_in_one_line(model: Path, tmp_path: Path, monkeypatch):
    def stop(*_):
        raise RuntimeError("in step 3") from ValueError("no operator\nfor this")

    monkeypatch.setattr(exporting, "_program", stop)
    with pytest.raises(InputError, match=r"^--format onnx: this model cannot be exported so: no operator for this$"):
        export(model, "onnx", str(tmp_path / "out"))
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(InputError, match="expected the packages of the extra `export`"):
        export(model, "onnx", str(tmp_path / "out"))
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="expected a new or empty folder; name another"):
        export(model, "torch", str(tmp_path))


def test_random_rows_have_known_unknown_and_absent_values(model: Path):
    loaded = checkpoint.load(model)
    rows = random_rows(loaded.experiment, loaded.schema, 2000, 0)
    for name, column in rows.items():
        if name in loaded.schema.features and not column.is_floating_point():
            least, size = (UNKNOWN if name == "history" else NULL), loaded.schema.features[name].num_embeddings or 0
            assert set(column.unique().tolist()) - {PADDING} == set(range(least, size))
    for name in ("tags", "history"):
        padding = rows[name] == PADDING
        assert padding.any()
        assert (padding[:, 1:] >= padding[:, :-1]).all()  # on the right alone
    assert rows["age"].isnan().any()
    assert not rows["history.values"].isnan().any()


def test_the_description_says_how_each_input_is_made():
    experiment = small_experiment(features__history__values="rating")
    told = input_spec(experiment, schema_of(experiment))["inputs"]
    assert told["age"]["fitted"] == {"mean": 40.0, "std": 10.0}
    assert told["age"]["is"] == "(value - mean) / std; NaN for null"
    assert told["tags"] | {"is": "", "feature": "", "fitted": ""} == {
        "type": "int32",
        "shape": ["rows", 3],
        "is": "",
        "feature": "",
        "fitted": "",
    }
    assert "`boundaries`" in told["price"]["is"]
    assert "each as `item_id` is" in told["history"]["is"]
    assert "`count` of `user_id`" in told["user_support"]["is"]
