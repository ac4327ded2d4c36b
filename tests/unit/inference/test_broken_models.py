"""A model that predicts no numbers is refused by every command that scores rows with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mtl_ray.errors import InputError
from mtl_ray.inference.drift import Limits, drift
from mtl_ray.inference.predict import predict
from mtl_ray.inference.recommend import recommend

FIXTURE = Path(__file__).parents[2] / "fixtures/registered_before_rooms"
ROWS = str(FIXTURE / "rows.parquet")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A checkpoint of finite weights whose ratings overflow."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(FIXTURE / "checkpoint", folder)
    schema = json.loads((folder / "schema.json").read_text())
    schema["tasks"]["rating"]["std"] = 1e300
    (folder / "schema.json").write_text(json.dumps(schema))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        lambda model, output: predict(model, ROWS, output),
        lambda model, output: drift(model, ROWS, Limits(1, 1, 1)),
        lambda model, output: recommend(model, ROWS, output, items=ROWS),
    ],
    ids=["predict", "drift", "recommend"],
)
def test_a_model_whose_predictions_are_not_finite_scores_no_rows(
    command: Callable[[Path, str], object], broken: Path, tmp_path: Path
):
    with pytest.raises(InputError, match="finite"):
        command(broken, str(tmp_path / "output"))
    assert not (tmp_path / "output").exists()
