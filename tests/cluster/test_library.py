"""The library from Python: the examples of the README, of docs/python.md and of public functions hold."""

import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mtl_ray as mtl
from mtl_ray.config import override
from mtl_ray.data.preparation.write import RAW_TEST
from tests.unit.test_public import WITH_RAY

ROOT = Path(mtl.__file__).parents[1]
NUM_ROWS = 3000


def examples_of(page: str) -> list[str]:
    """The Python code of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def write_frames(folder: Path) -> None:
    random = np.random.default_rng(0)
    users, items = (random.integers(size, size=NUM_ROWS) for size in (100, 40))
    click = random.random(NUM_ROWS) < 1 / (1 + np.exp(2 - items / 10))
    log = {"user_id": [f"u{n}" for n in users], "item_id": [f"i{n}" for n in items], "timestamp": range(NUM_ROWS)}
    rating = np.where(click, random.integers(1, 6, NUM_ROWS), np.nan)
    pd.DataFrame(log | {"click": click, "rating": rating}).to_parquet(folder / "log.parquet")
    ages = {"user_id": [f"u{n}" for n in range(100)], "age": random.integers(18, 70, 100)}
    pd.DataFrame(ages).to_parquet(folder / "users.parquet")
    categories = {"item_id": [f"i{n}" for n in range(40)], "category": random.choice(["book", "film"], 40)}
    pd.DataFrame(categories).to_parquet(folder / "items.parquet")


@pytest.fixture(scope="module")
def namespace(cluster, tmp_path_factory) -> Iterator[dict[str, Any]]:
    """Names that the README's example leaves, in the folder where it ran."""
    folder = tmp_path_factory.mktemp("readme")
    write_frames(folder)
    (example,) = examples_of("README.md")
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        exec(compile(example, "README.md", "exec"), found)
        yield found


def test_the_readme_trains_and_recommends(namespace: dict[str, Any]):
    assert namespace["trained"].metrics["test/click/auc"] > 0.6
    assert set(namespace["trained"].to_frame().segment) >= {"all", "warm"}
    assert namespace["model"].experiment.name == "shop"
    assert namespace["model"].metrics == pytest.approx(namespace["trained"].metrics)


def test_the_page_of_the_library_holds(namespace: dict[str, Any]):
    for number, example in enumerate(examples_of("docs/python.md")):
        exec(compile(example, f"docs/python.md, example {number}", "exec"), namespace)


@pytest.mark.parametrize("name", WITH_RAY)
def test_the_examples_of_functions_that_train_or_load_hold(namespace: dict[str, Any], name: str):
    found = getattr(mtl, name)
    globs = {**vars(mtl), **namespace, **vars(sys.modules[found.__module__])}
    tests = doctest.DocTestFinder(recurse=False).find(found, name, sys.modules[found.__module__], globs=globs)
    results = [
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test) for test in tests
    ]
    assert sum(result.attempted for result in results)
    assert not any(result.failed for result in results)


def test_a_run_and_its_checkpoint_are_the_model_that_was_registered(trained: mtl.Trained, settings: mtl.Experiment):
    folder = trained.prepared.folder / RAW_TEST
    rows = folder.read_table(folder.entries()[0]).slice(0, 20)
    registered = mtl.load_model("models:/small/1", tracking_uri=settings.tracking.uri)
    for place in (trained.folder.location, trained.checkpoint, trained.model_uri):
        model = mtl.load_model(str(place), tracking_uri=settings.tracking.uri)
        assert model.metrics == pytest.approx(trained.metrics)
        pd.testing.assert_frame_equal(model.predict(rows), registered.predict(rows))
        assert model.recommend({"age": 30}, k=3).equals(registered.recommend({"age": 30}, k=3))
    assert mtl.evaluate(trained.checkpoint, trained.prepared).metrics == pytest.approx(trained.metrics)


@pytest.mark.long
def test_a_comparison_of_frames_has_a_row_per_training_and_value(namespace: dict[str, Any], tmp_path: Path):
    grid = {"baseline": "both", "variants": {"both": {}, "click": {"tasks.rating": None}}, "seeds": [0, 1]}
    changes = {"compare": grid, "training.epochs": 1, "training.early_stopping": None}
    frames = {"interactions": namespace["log"], "users": namespace["users"], "items": namespace["items"]}
    compared = mtl.compare(override(namespace["shop"], changes), **frames, echo=lambda _: None)
    frame = compared.to_frame()
    assert list(frame)[:5] == ["variant", "fold", "seed", "split", "task"]
    auc = frame[(frame.task == "click") & (frame.metric == "auc") & (frame.segment == "all")]
    assert sorted(zip(auc.variant, auc.seed, strict=True)) == [("both", 0), ("both", 1), ("click", 0), ("click", 1)]
    assert auc[auc.variant == "both"].value.mean() == pytest.approx(compared.metrics["both/test/click/auc"])
    assert "both" in repr(compared)


@pytest.mark.parametrize("notebook", sorted((ROOT / "docs/notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(notebook: Path, tmp_path: Path):
    """Its cells run in a process of their own, one after the other, as Jupyter would; Jupyter itself is not needed."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    code = "\n\n".join("".join(cell["source"]) for cell in cells)
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
    )
    assert done.returncode == 0, done.stderr
