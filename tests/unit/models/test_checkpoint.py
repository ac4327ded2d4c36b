import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from mtl_ray.config import override, parse
from mtl_ray.errors import InputError
from mtl_ray.models import MultiTaskModel, build_model, checkpoint
from mtl_ray.models.checkpoint_parts import refuse_weights
from mtl_ray.schema import FittedFeature, FittedTask
from mtl_ray.values.vocabulary import VOCABULARY
from tests.unit.conftest import batch_of, schema_of, vocabulary_table


def test_a_checkpoint_rebuilds_the_model(experiment, schema, model: MultiTaskModel, tmp_path):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {"step": 3})
    loaded = checkpoint.load(tmp_path / "c")
    assert (loaded.experiment, loaded.schema) == (experiment, schema)
    batch = batch_of(5)
    for name, values in model.predict(batch).items():
        assert torch.equal(loaded.model.predict(batch)[name], values)
    assert checkpoint.load_trainer(tmp_path / "c") == {"step": 3}


NUMBERS_OF_THEIR_OWN = {
    "pairs of vectors": {"model.interaction": "dlrm_dot"},
    "levels": {"tasks": {"rating": "ordinal", "click": "binary"}},
    "pieces": {"features.age.encoder": "piecewise_linear"},
    "waves": {"features.age.encoder": "periodic"},
    "positions": {"features.history.encoder": "transformer"},
    "codes": {"features.user_id.compression": {"kind": "hash", "rows": 5}},
}


@pytest.mark.parametrize("changes", NUMBERS_OF_THEIR_OWN.values(), ids=NUMBERS_OF_THEIR_OWN)
def test_numbers_that_are_no_weights_are_there_again(changes: dict, experiment, tmp_path):
    """A loaded model is built without memory, and its weights come from the file: other numbers must not stay empty."""
    settings = override(experiment, changes)
    schema = schema_of(settings)
    age = FittedFeature(mean=40, std=10, quantiles=(30.0, 40.0, 50.0))
    schema = schema.model_copy(
        update={
            "features": schema.features | {"age": age},
            "tasks": schema.tasks | {"rating": FittedTask(classes=("1", "2", "3"))},
        }
    )
    model = build_model(settings, schema).eval()
    checkpoint.save(tmp_path / "c", settings, schema, model, {})
    found = checkpoint.load(tmp_path / "c").model.predict(batch_of(9))
    assert all(torch.equal(found[task], expected) for task, expected in model.predict(batch_of(9)).items())


def test_an_incomplete_checkpoint_is_refused(experiment, schema, model: MultiTaskModel, tmp_path):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"expected a checkpoint folder; model\.safetensors is missing"):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize("name", ["experiment.json", "schema.json", "model.safetensors"])
def test_the_missing_file_is_named(experiment, schema, model: MultiTaskModel, tmp_path, name: str):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    (tmp_path / "c" / name).unlink()
    with pytest.raises(InputError, match=f"expected a checkpoint folder; {name} is missing"):
        checkpoint.load(tmp_path / "c")


def test_a_checkpoint_without_trainer_cannot_be_continued(experiment, schema, model: MultiTaskModel, tmp_path):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    (tmp_path / "c" / "trainer.pt").unlink()
    assert not checkpoint.load(tmp_path / "c").model.training
    with pytest.raises(InputError, match=r"to continue from; trainer\.pt is missing"):
        checkpoint.load_trainer(tmp_path / "c")


def test_a_save_that_stops_midway_leaves_no_complete_folder(experiment, schema, model, tmp_path, monkeypatch):
    def stop(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", stop)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        checkpoint.load(tmp_path / "c")


def test_the_files_of_a_checkpoint_do_not_depend_on_which_settings_were_written_out(
    experiment, schema, model: MultiTaskModel, tmp_path: Path
):
    whole = parse(experiment.model_dump(mode="json"), "run.json")
    assert experiment.model_dump(exclude_unset=True) != whole.model_dump(exclude_unset=True)
    for name, settings in (("first", experiment), ("resumed", whole)):
        checkpoint.save(tmp_path / name, settings, schema, model, {})
    for file in ("experiment.json", "schema.json", "model.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "resumed" / file).read_bytes()


def test_a_loaded_model_can_be_trained_on(experiment, schema, model: MultiTaskModel, tmp_path):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    loaded = checkpoint.load(tmp_path / "c").model
    sum(o.square().sum() for o in loaded(batch_of(32)).logits.values()).backward()
    assert all(p.requires_grad and p.grad is not None for p in loaded.parameters())
    assert all(torch.equal(p, q) for p, q in zip(loaded.parameters(), model.parameters(), strict=True))


@pytest.fixture
def whole(experiment, schema, model: MultiTaskModel, tmp_path) -> Path:
    """A checkpoint with its vocabulary."""
    folder = tmp_path / "c"
    checkpoint.save(folder, experiment, schema, model, {"step": torch.arange(9)})
    pq.write_table(vocabulary_table(), folder / VOCABULARY)
    return folder


@pytest.mark.parametrize("name", ["experiment.json", "schema.json", "model.safetensors", VOCABULARY])
@pytest.mark.parametrize("kept", [0, 0.3, 0.97])
def test_a_truncated_file_is_named_in_one_line(whole: Path, name: str, kept: float):
    content = (whole / name).read_bytes()
    (whole / name).write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=f"{whole / name}: expected .*found what cannot be read") as caught:
        checkpoint.load(whole)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("kept", [0, 0.3, 0.97])
def test_a_truncated_state_of_the_trainer_is_named_in_one_line(whole: Path, kept: float):
    content = (whole / "trainer.pt").read_bytes()
    (whole / "trainer.pt").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=r"trainer\.pt: expected the state of a trainer, found what cannot") as caught:
        checkpoint.load_trainer(whole)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_of_another_checkpoint_is_refused(whole: Path):
    table = pq.read_table(whole / VOCABULARY)
    checkpoint.load(whole)
    pq.write_table(table.slice(1), whole / VOCABULARY)
    with pytest.raises(InputError, match=r"expected 17 values of `user_id`, as schema.json has .* found 16; the files"):
        checkpoint.load(whole)


def test_settings_and_schema_of_another_checkpoint_are_refused(whole: Path, schema):
    other = schema.model_copy(update={"content_hash": "other"})
    (whole / "schema.json").write_text(other.model_dump_json(indent=2))
    with pytest.raises(InputError, match=r"schema\.json: expected what model\.safetensors was written with"):
        checkpoint.load(whole)


def without_digests(folder: Path) -> None:
    """Write the weights as before they held digests."""
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors")


def test_a_checkpoint_without_digests_is_loaded_and_its_parts_are_compared(whole: Path, schema):
    without_digests(whole)
    checkpoint.load(whole)
    features = {**schema.features, "gender": FittedFeature(num_embeddings=6)}
    (whole / "schema.json").write_text(schema.model_copy(update={"features": features}).model_dump_json())
    with pytest.raises(InputError, match=r"expected 3 values of `gender`, .* found 2"):
        checkpoint.load(whole)
    (whole / VOCABULARY).unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: expected \(6, 8\) numbers in .*, found \(5, 8\)"):
        checkpoint.load(whole)
    del features["gender"]
    (whole / "schema.json").write_text(schema.model_copy(update={"features": features}).model_dump_json())
    with pytest.raises(InputError, match=r"schema\.json: expected the features of experiment\.json, found no gender"):
        checkpoint.load(whole)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null"])
@pytest.mark.parametrize("path", ["features.age.mean", "tasks.click.std"])
def test_moments_that_are_not_finite_are_refused(whole: Path, value: str, path: str):
    without_digests(whole)
    tree = json.loads((whole / "schema.json").read_text())
    part, name, key = path.split(".")
    tree[part][name][key] = float(value) if value != "null" else None
    (whole / "schema.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=rf"schema\.json: expected .*{path}") as caught:
        checkpoint.load(whole)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(experiment, schema, model: MultiTaskModel, tmp_path, value: float):
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[3] = value
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    with pytest.raises(InputError, match=r"model\.safetensors: expected finite weights, found others in `inputs"):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_number_that_is_not_finite_is_found_beside_any_others(value: float):
    layer = torch.nn.Linear(3, 2)
    for place in range(6):
        weights = {"weight": torch.randn(2, 3), "bias": torch.zeros(2)}
        refuse_weights(layer, weights, "here")
        weights["weight"].view(-1)[place] = value
        with pytest.raises(InputError, match="here: expected finite weights, found others in `weight`"):
            refuse_weights(layer, weights, "here")


def test_a_table_without_rows_is_finite():
    refuse_weights(torch.nn.Embedding(0, 4), {"weight": torch.zeros(0, 4)}, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "here: expected the weights of experiment.json, found no `bias`"),
        ({"more": torch.zeros(1)}, "here: expected the weights of experiment.json, found an unknown `more`"),
        ({"bias": torch.zeros(3)}, r"here: expected \(2,\) numbers in `bias`, .*, found \(3,\)"),
    ],
)
def test_weights_have_the_names_and_sizes_of_the_models(change: dict, message: str):
    whole = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), **change}
    weights = {name: tensor for name, tensor in whole.items() if tensor is not None}
    with pytest.raises(InputError, match=message):
        refuse_weights(torch.nn.Linear(3, 2), weights, "here")


@pytest.mark.parametrize("path", ["features.age.std", "features.age.mean", "tasks.rating.mean", "tasks.rating.std"])
@pytest.mark.parametrize("value", ["NaN", "-Infinity"])
def test_every_moment_is_looked_at(whole: Path, path: str, value: str):
    test_moments_that_are_not_finite_are_refused(whole, value, path)


def test_a_border_of_buckets_that_is_not_finite_is_refused(whole: Path, schema):
    without_digests(whole)
    features = {**schema.features, "price": schema.features["price"].model_copy(update={"boundaries": (1.0, math.nan)})}
    (whole / "schema.json").write_text(schema.model_copy(update={"features": features}).model_dump_json())
    tree = json.loads((whole / "schema.json").read_text())
    tree["features"]["price"]["boundaries"] = [1.0, math.nan]
    (whole / "schema.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=r"expected a finite number at features\.price\.boundaries\.1, found nan"):
        checkpoint.load(whole)


def test_a_number_in_buckets_needs_no_moments_and_other_inputs_neither(whole: Path, schema):
    assert schema.features["price"].mean is None
    assert schema.features["gender"].mean is None
    checkpoint.load(whole)


def test_a_schema_without_a_task_is_refused(whole: Path, schema):
    without_digests(whole)
    tasks = {name: task for name, task in schema.tasks.items() if name != "rating"}
    (whole / "schema.json").write_text(schema.model_copy(update={"tasks": tasks}).model_dump_json())
    with pytest.raises(InputError, match=r"expected the tasks of experiment\.json, found no rating"):
        checkpoint.load(whole)


def test_the_vocabulary_may_be_missing_and_may_have_more_features(whole: Path):
    table = pq.read_table(whole / VOCABULARY)
    more = pa.table({"feature": ["other"], "value": ["x"], "count": [1]})
    pq.write_table(pa.concat_tables([table, more]), whole / VOCABULARY)
    checkpoint.load(whole)
    (whole / VOCABULARY).unlink()
    checkpoint.load(whole)


def test_a_history_has_the_values_of_its_items(whole: Path, schema):
    without_digests(whole)
    features = {**schema.features, "history": schema.features["history"].model_copy(update={"num_embeddings": 16})}
    (whole / "schema.json").write_text(schema.model_copy(update={"features": features}).model_dump_json())
    with pytest.raises(InputError, match=r"13 values of `item_id`, as schema\.json has for `history`, found 12"):
        checkpoint.load(whole)


def test_a_loaded_model_is_on_the_cpu_and_has_no_dropout(whole: Path):
    loaded = checkpoint.load(whole).model
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}
    assert not loaded.training


def test_digests_are_those_of_both_files(whole: Path):
    for name in ("experiment.json", "schema.json"):
        content = (whole / name).read_text()
        (whole / name).write_text(content + "\n")
        with pytest.raises(InputError, match=f"{name}: expected what model.safetensors was written with"):
            checkpoint.load(whole)
        (whole / name).write_text(content)
        checkpoint.load(whole)


def test_folders_above_a_checkpoint_are_made(experiment, schema, model: MultiTaskModel, tmp_path):
    checkpoint.save(tmp_path / "runs/1/c", experiment, schema, model, {})
    checkpoint.load(tmp_path / "runs/1/c")


def test_the_first_line_of_what_torch_says_of_a_damaged_state_is_told(whole: Path, monkeypatch):
    def damaged(*_, **__):
        raise RuntimeError("no such tensor\nmore\nand more")

    monkeypatch.setattr(torch, "load", damaged)
    with pytest.raises(InputError, match="no such tensor") as caught:
        checkpoint.load_trainer(whole)
    assert "more" not in str(caught.value)
