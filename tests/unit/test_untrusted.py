"""Files from elsewhere are read as data: none of them can run code."""

import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import mtl_ray as mtl
from mtl_ray.config import load, parse
from mtl_ray.config.custom import CustomConfig, classes_of, custom_parts
from mtl_ray.data.dataset import open_prepared
from mtl_ray.data.sources.files import open_log
from mtl_ray.errors import InputError
from mtl_ray.models import build_model, checkpoint
from mtl_ray.runs.records import RUN_FILE, RunRecord
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.schema import Schema
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.storage import Folder, json_text
from mtl_ray.values.vocabulary import VOCABULARY, read_vocabularies
from mtl_ray.workflows.report import report
from tests.support import OWN, TREE, importable, write_parts


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def test_the_bomb_would_go_off(mark: Path):
    pickle.loads(pickle.dumps(Bomb(mark)))  # noqa: S301 - what the other tests must not do
    assert mark.exists()


def test_a_pickle_in_the_state_of_the_trainer_is_refused(experiment, schema, model, tmp_path: Path, mark: Path):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    torch.save({"step": Bomb(mark)}, tmp_path / "c" / "trainer.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        checkpoint.load_trainer(tmp_path / "c")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "schema.json", "experiment.json"])
def test_a_pickle_in_place_of_another_file_of_a_checkpoint_is_refused(
    name: str, experiment, schema, model, tmp_path: Path, mark: Path
):
    checkpoint.save(tmp_path / "c", experiment, schema, model, {})
    (tmp_path / "c" / name).write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(Exception, match=r".+"):
        checkpoint.load(tmp_path / "c")
    assert not mark.exists()


@pytest.fixture
def pickled_objects(mark: Path) -> pa.Array:
    """A column of the type in which Ray Data keeps Python objects; it unpickles them when their values are read."""
    import ray.data  # noqa: F401 - which makes pyarrow know the type
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

    return pa.ExtensionArray.from_storage(
        ArrowPythonObjectType(), pa.array([pickle.dumps(Bomb(mark))], pa.large_binary())
    )


@pytest.mark.parametrize("nested", [False, True])
def test_pickled_objects_among_vocabularies_or_rows_are_refused(nested: bool, pickled_objects, tmp_path, mark):
    column = pa.StructArray.from_arrays([pickled_objects], ["a"]) if nested else pickled_objects
    pq.write_table(pa.table({"feature": column, "value": ["x"], "count": [1]}), tmp_path / VOCABULARY)
    with pytest.raises(InputError, match="expected columns of values, found pickled objects in `feature`"):
        read_vocabularies(Folder(str(tmp_path)), ["a"])
    with pytest.raises(InputError, match="found pickled objects in `feature`"):
        open_log(str(tmp_path / VOCABULARY))
    assert not mark.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system", "!!python/name:"])
def test_an_experiment_file_and_set_build_no_python_objects(tag: str, tmp_path: Path, mark: Path):
    value = f"{tag} ['touch {mark}']" if "os" in tag else "!!python/name:os.system"
    file = tmp_path / "e.yaml"
    file.write_text(f"name: {value}\n")
    with pytest.raises(InputError, match="not valid YAML"):
        load(file)
    file.write_text(json.dumps(TREE))
    with pytest.raises(InputError, match="not valid YAML"):
        load(file, [f"name={value}"])
    assert not mark.exists()


def test_a_name_cannot_lead_out_of_its_folder():
    with pytest.raises(InputError, match="name"):
        parse(TREE | {"name": "../../etc"}, "e.yaml")


def save_with_class(folder: Path, name: str, schema: Schema) -> None:
    """Save a checkpoint whose architecture is a class of that name."""
    model = {**TREE["model"], "kind": "custom", "class": "tests.custom_parts:Wide"}
    made = build_model(parse({**TREE, "model": model}, "e.yaml"), schema)
    experiment = parse({**TREE, "model": {**model, "class": name}}, "e.yaml", trust=False)
    checkpoint.save(folder, experiment, schema, made, {})


def test_a_checkpoint_that_names_a_class_imports_nothing_and_says_what_it_needs(schema, tmp_path: Path, mark: Path):
    (tmp_path / "planted.py").write_text(f"import os\nos.system('touch {mark}')\nfrom tests.custom_parts import Wide\n")
    with importable(tmp_path, "planted"):
        save_with_class(tmp_path / "c", "planted:Wide", schema)
        for read in (checkpoint.load, Scorer, lambda folder: checkpoint.load(folder, trust={"planted:Other"})):
            with pytest.raises(
                InputError, match=r"the model needs planted:Wide \(model\), and .*; if you trust `planted`"
            ):
                read(tmp_path / "c")
        assert checkpoint.load_settings(tmp_path / "c").model.kind == "custom"
        assert not mark.exists()
        assert checkpoint.load(tmp_path / "c", trust=True).experiment.model.kind == "custom"
        assert mark.exists()


def subclasses(kind: type) -> set[type]:
    return {kind for child in kind.__subclasses__() for kind in (child, *subclasses(child))}


CALLBACKS = {
    "callbacks": [{"class": "shop.parts:Warmup"}],
    "driver_callbacks": [{"class": "shop.parts:Noted", "settings": {"file": "noted"}}],
}
EVERY_PART = {**TREE, **OWN, "training": TREE["training"] | CALLBACKS}
"""An experiment with a class of the user's wherever one may stand."""
BESIDE_THE_MODEL = {
    **{name: EVERY_PART[name] for name in ("data", "balancing", "training")},
    "tasks": {**TREE["tasks"], "rating": {"kind": "regression", "metrics": OWN["tasks"]["rating"]["metrics"]}},
}
"""The sections of it with classes that no model is built from."""


@pytest.fixture
def planted(tmp_path: Path, mark: Path):
    """The package of these classes; importing it leaves the mark."""
    write_parts(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/shop/__init__.py").write_text(f"import os\nos.system('touch {mark}')\n")
    with importable(tmp_path / "elsewhere", "shop"):
        yield


@pytest.mark.usefixtures("planted")
def test_a_checkpoint_that_names_every_kind_of_class_imports_none(schema, model, tmp_path: Path, mark: Path):
    every = parse(EVERY_PART, "e.yaml", trust=False)
    parts = [part for _, part in custom_parts(every)]
    assert {type(part) for part in parts} == subclasses(CustomConfig)
    checkpoint.save(tmp_path / "c", every, schema, model, {})
    for read in (checkpoint.load, Scorer, mtl.load_model):
        with pytest.raises(InputError, match="files from elsewhere run no code") as refused:
            read(tmp_path / "c")
        for part in parts:
            assert (f"{part.class_} (" in str(refused.value)) == part.is_part_of_model
    assert classes_of(checkpoint.load_settings(tmp_path / "c")) == {part.class_ for part in parts}
    assert not mark.exists()


@pytest.mark.usefixtures("planted")
def test_a_model_is_loaded_without_the_classes_that_it_is_not_built_from(schema, tmp_path: Path, mark: Path):
    settings = parse(TREE | BESIDE_THE_MODEL, "e.yaml", trust=False)
    assert classes_of(settings) == {f"shop.parts:{n}" for n in ("Synthetic", "Cautious", "HitShare", "Warmup", "Noted")}
    checkpoint.save(tmp_path / "c", settings, schema, build_model(parse(TREE, "e.yaml"), schema), {})
    assert checkpoint.load(tmp_path / "c").experiment == settings
    assert not mark.exists()


@pytest.mark.usefixtures("planted")
def test_a_run_a_search_and_a_data_set_that_name_classes_import_none(schema, tmp_path: Path, mark: Path):
    data, folder = Folder(str(tmp_path / "data")).create(), RunFolder(str(tmp_path / "run")).create()
    data.write_atomic("schema.json", schema.model_dump_json())
    data.write_atomic("quality.json", json.dumps({"experiment": EVERY_PART}))
    assert open_prepared(data.location).quality["experiment"] == EVERY_PART
    own = {"kind": "choice", "values": [EVERY_PART["model"], "mmoe"]}
    search = {"space": {"model": own}, "objectives": "valid/click/auc"}
    grid = {"variants": {"own": {"model": EVERY_PART["model"]}}, "baseline": "own"}
    tree = {**EVERY_PART, "compare": grid, "tune": search}
    assert "shop.parts:Wide" in classes_of(RunRecord("tune", tree, data.location, "", None).parse_searched())
    for command in ("train", "compare"):
        folder.write_atomic(RUN_FILE, json_text(asdict(RunRecord(command, tree, data.location, "", None))))
        with pytest.raises(InputError):  # the run has not ended
            report(folder.location)
    assert not mark.exists()


def test_a_trusted_class_that_is_not_there_is_named(schema, tmp_path: Path):
    save_with_class(tmp_path / "c", "nowhere.nets:Wide", schema)
    with pytest.raises(
        InputError, match=r"model.class: `nowhere.nets:Wide` needs the module `nowhere`, .*; install its"
    ):
        checkpoint.load(tmp_path / "c", trust=True)
