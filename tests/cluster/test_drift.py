"""New rows against those of the training: what moved raises a flag, what did not raises none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mtl_ray.cli.main import main
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.errors import InputError
from mtl_ray.inference.drift import Limits, drift
from mtl_ray.inference.reference import REFERENCE
from mtl_ray.tracking.registry import checkpoint_folder

LIMITS = Limits(psi=0.2, null_change=0.05, unknown_rise=0.05)


@pytest.fixture(scope="module")
def sample(trained) -> pd.DataFrame:
    """A random half of the rows that were evaluated, as they came."""
    return pq.read_table(f"{trained.prepared.folder.path}/{RAW_TEST}").to_pandas().sample(frac=0.5, random_state=0)


def test_an_untouched_sample_raises_no_flag(trained, settings, sample, tmp_path: Path):
    sample.to_parquet(tmp_path / "rows.parquet")
    found = drift(trained.checkpoint, str(tmp_path / "rows.parquet"), LIMITS)
    assert found.drifted == []
    assert found.num_rows == len(sample)
    assert found.rows.keys() == {*settings.features, *(f"predicted_{task}" for task in settings.tasks)}


def test_a_shifted_column_a_new_value_and_lost_values_raise_their_flags(trained, settings, sample, tmp_path: Path):
    rng = np.random.default_rng(0)
    moved = sample.assign(
        age=sample.age.astype(float) + 20,
        occupation=sample.occupation.where(rng.random(len(sample)) < 0.8, "astronaut"),
        gender=sample.gender.where(rng.random(len(sample)) < 0.8),
    )
    moved.to_parquet(tmp_path / "rows.parquet")
    arguments = ["drift", "models:/small/1", "--tracking-uri", settings.tracking.uri]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--input", str(tmp_path / "rows.parquet"), "--json", str(tmp_path / "drift.json")])
    assert stopped.value.code == 3
    found = json.loads((tmp_path / "drift.json").read_text())
    flags = {name: row["drifts"] for name, row in found["values"].items() if row["drifts"]}
    assert {"age", "occupation", "gender"} <= set(found["drifted"])
    assert not {"user_id", "item_id", "category", "tags", "price", "history"} & flags.keys()
    assert "distribution" in flags["age"]
    assert "unknown" in flags["occupation"]
    assert "nulls" in flags["gender"]


def test_rows_that_cannot_be_scored_are_left_out_and_counted(trained, sample, tmp_path: Path):
    age = sample.age.astype(str).where(np.arange(len(sample)) >= 7, "old")
    sample.assign(age=age).to_parquet(tmp_path / "rows.parquet")
    found = drift(trained.checkpoint, str(tmp_path / "rows.parquet"), LIMITS)
    assert (found.num_rows, found.num_bad, found.drifted) == (len(sample) - 7, 7, [])


def test_without_a_reference_or_rows_one_line_says_what_is_missing(trained, settings, sample, tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint_folder("models:/small/1", settings.tracking.uri), folder)
    sample[:0].to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InputError, match="empty log: expected at least one row"):
        drift(folder, str(tmp_path / "rows.csv"), LIMITS)
    (folder / REFERENCE).unlink()
    with pytest.raises(InputError, match=r"expected reference\.json, which `train` writes; train the model again"):
        drift(folder, str(tmp_path / "rows.csv"), LIMITS)
