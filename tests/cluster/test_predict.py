"""Batch scoring: what is kept, what is set aside, and that an interrupted job goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from mtl_ray.cli.main import main
from mtl_ray.errors import InputError
from mtl_ray.inference import batch
from mtl_ray.inference.batch import DONE, JOB
from mtl_ray.inference.batch_result import QUARANTINE
from mtl_ray.inference.predict import predict

NUM_FILES, NUM_ROWS = 3, 40


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for number in range(NUM_FILES):
        first = number * NUM_ROWS
        table = pa.table(
            {
                "request": list(range(first, first + NUM_ROWS)),
                "user_id": [f"u{i}" for i in range(NUM_ROWS)],
                "item_id": ["i1"] * NUM_ROWS,
                "age": [20 + i for i in range(NUM_ROWS)],
            }
        )
        pq.write_table(table, folder / f"{number}.parquet")
    return folder


@pytest.fixture(scope="module")
def whole(trained, rows, tmp_path_factory) -> Path:
    """The predictions of all rows, with `request` as key."""
    output = tmp_path_factory.mktemp("out") / "whole"
    done = predict(trained.checkpoint, str(rows), str(output), ["request"])
    assert done.num_rows == NUM_FILES * NUM_ROWS
    assert done.quarantined == {}
    assert done.rows_per_second > 0
    return output


def test_the_keys_that_are_asked_for_come_with_the_predictions_in_order(whole, settings):
    table = pq.read_table(whole)
    assert table.column_names == ["request", *(f"predicted_{task}" for task in settings.tasks)]
    assert table.column("request").to_pylist() == list(range(NUM_FILES * NUM_ROWS))


def test_a_job_that_was_killed_goes_on_and_every_row_is_there_once(trained, rows, whole, tmp_path):
    """What a killed job leaves: notes of finished chunks, parts of an unfinished one, half of a file under its name."""
    aside, output = tmp_path / "out.partial", tmp_path / "out"
    shutil.copytree(whole, aside)
    job = json.loads((aside / JOB).read_text())
    (aside / JOB).write_text(json.dumps({key: value for key, value in job.items() if key not in ("rows", "bad")}))
    (aside / DONE).mkdir()
    (aside / DONE / "00000.json").write_text(json.dumps({"rows": NUM_ROWS, "quarantined": {}}))
    parts = sorted(aside.glob("part-*.parquet"))
    kept = {path.name: path.stat().st_mtime_ns for path in parts[:2]}
    parts[2].rename(aside / f".{parts[2].name}.partial")
    done = predict(trained.checkpoint, str(rows), str(output), ["request"])
    assert done.num_rows == NUM_FILES * NUM_ROWS
    assert pq.read_table(output).equals(pq.read_table(whole))
    assert {name: (output / name).stat().st_mtime_ns for name in kept} == kept
    assert not aside.exists()
    assert not (output / DONE).exists()


def test_a_finished_job_is_left_as_it_is_and_another_is_refused_its_folder(trained, rows, whole):
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    done = predict(trained.checkpoint, str(rows), str(whole), ["request"])
    assert (done.num_rows, done.quarantined) == (NUM_FILES * NUM_ROWS, {})
    assert {path.name: path.stat().st_mtime_ns for path in whole.iterdir()} == before
    with pytest.raises(InputError, match="the folder has the results of another job"):
        predict(trained.checkpoint, str(rows), str(whole), ["request", "age"])


def test_a_folder_that_holds_folders_is_refused_and_stays(trained, rows, tmp_path):
    (tmp_path / "scores/1").mkdir(parents=True)
    (tmp_path / "scores/1/part.parquet").write_text("of yesterday")
    with pytest.raises(InputError, match="the folder is not empty; name a new one"):
        predict(trained.checkpoint, str(rows), str(tmp_path / "scores"))
    assert (tmp_path / "scores/1/part.parquet").read_text() == "of yesterday"


def test_the_folder_of_the_model_may_be_on_the_machine_of_the_command_alone(
    trained, rows, whole, tmp_path, monkeypatch
):
    shutil.copytree(trained.checkpoint, tmp_path / "model")
    make = ray.data.from_items

    def from_items(*arguments, **named):
        (tmp_path / "model").rename(tmp_path / "elsewhere")  # as for processes of another machine
        return make(*arguments, **named)

    monkeypatch.setattr(ray.data, "from_items", from_items)
    monkeypatch.setattr(batch, "IN_PROCESS_ROWS", 0)
    predict(tmp_path / "model", str(rows), str(tmp_path / "out"), ["request"])
    assert pq.read_table(tmp_path / "out").equals(pq.read_table(whole))


def test_an_unfinished_job_is_not_continued_as_another(trained, rows, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / JOB).write_text(json.dumps({"command": "predict", "model": "another", "keys": []}))
    with pytest.raises(InputError, match="unfinished job with another model, keys, input"):
        predict(trained.checkpoint, str(rows), str(tmp_path / "out"))


def test_rows_that_cannot_be_scored_are_set_aside_with_their_reason(trained, tmp_path, capsys):
    lines = ["user_id,item_id,age", "u1,i1,30", "u2,i2,old", "u3,i3", "u4,i4,", "u5,i5,inf"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    arguments = ["--input", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "out"), "--keys", "user_id"]
    main(["predict", str(trained.checkpoint), *arguments, "--json", str(tmp_path / "r.json")])
    result = json.loads((tmp_path / "r.json").read_text())
    reasons = {"age is not a number": 1, "malformed line": 1, "age is not finite": 1}
    assert (result["rows"], result["quarantined"]) == (5, reasons)
    assert pq.read_table(tmp_path / "out").column("user_id").to_pylist() == ["u1", "u4"]
    bad = pq.read_table(tmp_path / "out" / QUARANTINE).to_pylist()
    assert [(row["row"], row["file"], row["reason"]) for row in bad] == [
        (2, "rows.csv", "age is not a number"),
        (3, "rows.csv", "malformed line"),
        (5, "rows.csv", "age is not finite"),
    ]
    assert "5 rows read, 3 bad" in capsys.readouterr().out


def test_an_absent_key_is_named(trained, rows, tmp_path):
    with pytest.raises(InputError, match=r"--keys: expected columns of .*; found session"):
        predict(trained.checkpoint, str(rows), str(tmp_path / "out"), ["request", "session"])


def test_predictions_do_not_depend_on_which_columns_are_kept(trained, rows, whole, tmp_path):
    done = predict(trained.checkpoint, str(rows), str(tmp_path / "out"))
    table = pq.read_table(done.folder.path)
    assert table.column_names[:4] == ["request", "user_id", "item_id", "age"]
    kept = pq.read_table(whole).column("predicted_click").to_numpy()
    np.testing.assert_array_equal(table.column("predicted_click").to_numpy(), kept)
