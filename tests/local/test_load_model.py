"""A trained model in Python: found by any of its names, without Ray, and nothing of it stays on the disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import mtl_ray as mtl
from mtl_ray.scoring.scorer import Scorer
from tests.local.conftest import CHECKPOINT, METRICS

ROWS = pd.DataFrame({"user": ["u1", 2], "item": ["i1", "never seen"], "age": [31, None]}, index=[5, 6])


@pytest.mark.parametrize("uri", ["models:/shop/1", "models:/shop@champion"])
def test_a_registered_model_comes_with_the_metrics_of_its_run(registry: str, uri: str):
    model = mtl.load_model(uri, tracking_uri=registry)
    # A segment has the name that it had before MLflow took it; other splits' metrics are left out.
    assert model.metrics == METRICS
    assert uri in repr(model)


def test_predictions_are_those_of_the_scorer_in_the_order_of_the_frame():
    model = mtl.load_model(CHECKPOINT)
    found = model.predict(ROWS)
    assert list(found.index) == [5, 6]
    assert list(found) == list(model.experiment.tasks)
    rows = pa.table({"user": ["u1", "2"], "item": ["i1", "never seen"], "age": [31, None]})
    for task, expected in Scorer(CHECKPOINT).score(rows).items():
        np.testing.assert_array_equal(np.stack(found[task].to_list()), expected)
    pd.testing.assert_frame_equal(model.predict(rows), found.reset_index(drop=True))
    assert model.predict(ROWS.iloc[:0]).empty


def test_bad_rows_are_told_in_one_line():
    model = mtl.load_model(CHECKPOINT)
    with pytest.raises(mtl.InputError, match="rows: expected a column `item`, the id of the item; found user, age"):
        model.predict(ROWS[["user", "age"]])
    with pytest.raises(mtl.InputError, match="row 2: age"):
        model.predict(ROWS.assign(age=[31, "old"]))
    with pytest.raises(mtl.InputError, match="expected an ensemble"):
        model.predict(ROWS, uncertainty=True)


def test_the_best_items_are_a_frame():
    items = pd.DataFrame({"item": ["a", "b", "c"], "title": ["A", "B", "C"]})
    found = mtl.load_model(CHECKPOINT).recommend({"age": 31}, 2, task="click", items=items, seen=["b"])
    assert list(found) == ["rank", "item", "score", "name"]
    assert found["rank"].tolist() == [1, 2]
    assert set(found.item) == {"a", "c"}
    with pytest.raises(mtl.InputError, match="carries no items"):
        mtl.load_model(CHECKPOINT).recommend({"age": 31})


def test_what_is_no_model_is_refused(registry: str, tmp_path: Path):
    for place, server in ((tmp_path, None), ("models:/shop/9", registry), ("models:/shop@nobody", registry)):
        with pytest.raises(mtl.InputError, match=str(place)):
            mtl.load_model(place, tracking_uri=server)


def test_neither_ray_nor_a_copy_of_the_model_is_left(registry: str, tmp_path: Path):
    code = f"""
import sys, pandas as pd, mtl_ray as mtl
model = mtl.load_model("models:/shop@champion", tracking_uri={registry!r})
print(len(model.predict(pd.DataFrame({{"user": ["u1"], "item": ["i1"]}}))), "ray" in sys.modules)
"""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(mtl.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**environment, "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    assert done.stdout.split() == ["1", "False"]
    assert not list(tmp_path.glob("mtl_ray-*"))
