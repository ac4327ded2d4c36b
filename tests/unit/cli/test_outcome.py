"""What a command says last, and how it ends where something that was asked for was not done."""

from pathlib import Path

import pytest
import typer

from mtl_ray.cli.outcome import require_registered, tell_findings, tell_lost
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import LOST
from tests.support import small_experiment


def test_a_model_that_should_be_registered_and_was_not_is_exit_code_1(capsys: pytest.CaptureFixture[str]):
    experiment = small_experiment(tracking__register_as="shop")
    with pytest.raises(typer.Exit) as caught:
        require_registered(experiment, None, "mtl-ray train shop.yaml --resume shop-1")
    assert caught.value.exit_code == 1
    told = capsys.readouterr().out
    assert "the model was not registered as shop" in told
    assert "mtl-ray train shop.yaml --resume shop-1" in told
    require_registered(experiment, "models:/shop/1", "")
    require_registered(small_experiment(), None, "")


def test_what_mlflow_lacks_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tell_lost(Folder(str(tmp_path)))
    assert capsys.readouterr().out == ""
    (tmp_path / LOST).write_text("".join(f"metric m{n}: no\n" for n in range(5)))
    tell_lost(Folder(str(tmp_path)))
    told = capsys.readouterr().out
    assert "metric m0: no; metric m1: no; metric m2: no; and 2 more, see " in told.replace("\n", "")


def test_findings_are_told_and_their_absence(capsys: pytest.CaptureFixture[str]):
    none = {"unknown_entities": {}, "label_share": {}, "constant": [], "reasons": {}, "mended": {}}
    rows = {"rows": 3, "splits": {"train": 1, "valid": 1, "test": 1}, "in_no_split": 0, "shown_in_histories": 0}
    tell_findings(none | rows)
    assert capsys.readouterr().out == "found nothing amiss\n"
    tell_findings(none | rows | {"constant": ["age"]})
    assert capsys.readouterr().out.startswith("found, the gravest first:\n  features.age has the same value")
