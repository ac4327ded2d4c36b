"""A model that predicts no numbers, or whose reference is damaged, is refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mtl_ray.errors import InputError
from mtl_ray.inference.drift import Limits, drift
from mtl_ray.inference.predict import predict
from mtl_ray.inference.recommend import recommend
from mtl_ray.inference.reference import REFERENCE

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


@pytest.mark.parametrize("kept", [0, 0.5, 0.9])
def test_a_truncated_reference_is_named(tmp_path: Path, kept: float):
    model = tmp_path / "checkpoint"
    shutil.copytree(FIXTURE / "checkpoint", model)
    limits = Limits(1, 1, 1)
    assert drift(model, ROWS, limits).num_rows
    whole = (model / REFERENCE).read_bytes()
    (model / REFERENCE).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(InputError, match=f"{model / REFERENCE}: expected .* found what cannot be read") as caught:
        drift(model, ROWS, limits)
    assert "\n" not in str(caught.value)
