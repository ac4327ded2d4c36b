"""The loop of docs/python_loop.md, without Ray, gives the numbers of a training."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mtl_ray.data.dataset import Prepared
from mtl_ray.training.single_process import run_single_process
from tests.support import TREE, small_experiment
from tests.workers import run_workers

PAGE = Path(__file__).parents[2] / "docs" / "python_loop.md"
LOOP, ARRAYS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(prepared: Prepared, tmp_path_factory) -> Path:
    """A working folder with what the page names."""
    place = tmp_path_factory.mktemp("loop")
    (place / "datasets").mkdir()
    (place / "datasets" / "shop").symlink_to(prepared.folder.location)
    (place / "shop.yaml").write_text(yaml.safe_dump(TREE, sort_keys=False))
    (place / "loop.py").write_text(LOOP)
    return place


@pytest.fixture(scope="module")
def expected(prepared: Prepared) -> dict[str, float]:
    settings = small_experiment(balancing={"kind": "uncertainty"}, training__optimizer__kind="adam")
    tree = settings.model_dump(mode="json", exclude_unset=True)
    return run_single_process(tree, prepared.folder.location, "test", None, 1)["metrics"]


def run(rank: int, world_size: int, folder: Path) -> dict[str, float]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return runpy.run_path("loop.py")["metrics"]
    finally:
        os.chdir(before)


def test_the_loop_gives_the_numbers_of_a_training(folder: Path, expected: dict[str, float]):
    assert len(LOOP.strip().splitlines()) <= 30
    found = run(0, 1, folder)
    assert len(found) > 100
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_loop_gives_the_same_numbers_on_two_workers(folder: Path, expected: dict[str, float]):
    for found in run_workers(2, run, folder):
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_loop_loads_no_ray():
    imports = LOOP.partition("shop, data")[0]
    code = f"{imports}\nimport sys\n[models.MultiTaskModel, evaluation.evaluate_model, balancing.build]\n"
    subprocess.run([sys.executable, "-c", f"{code}assert 'ray' not in sys.modules"], check=True)


def test_the_example_with_arrays_holds():
    exec(ARRAYS, {})
