"""`mtl-ray init`: what it asks, what it writes, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from mtl_ray.cli import drafting
from mtl_ray.cli.main import main
from mtl_ray.config import load
from tests.unit.drafting.conftest import people, ratings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    ratings().to_csv("films.csv", index=False)
    people().to_csv("people.csv", index=False)
    return tmp_path


def test_it_writes_a_file_and_says_what_comes_next(folder: Path, capsys: pytest.CaptureFixture[str]):
    main(["init", "films.csv"])
    assert load("films.yaml").main_task == "rating"
    assert capsys.readouterr().out.splitlines()[-1] == "next: mtl-ray check films.yaml, then mtl-ray train films.yaml"


def test_guesses_are_told_where_nobody_can_be_asked(folder: Path, capsys: pytest.CaptureFixture[str]):
    main(["init", "people.csv", "-o", "own.yaml", "--json", "found.json"])
    said = capsys.readouterr().out
    assert "not a terminal, so 2 guesses are taken without asking, as with --yes" in said
    assert "own.yaml: please look at the 1 lines with `# ?`" in said
    assert load("own.yaml").name == "own"
    assert '"positive.income": ">50K"' in Path("found.json").read_text()
    main(["init", "people.csv", "-o", "own.yaml", "--yes", "--force"])
    assert "not a terminal" not in capsys.readouterr().out


def test_a_person_is_asked_about_what_is_in_doubt(folder: Path, monkeypatch: pytest.MonkeyPatch):
    given: list[Any] = [1, 9, 1]  # a label; no such option; the first value is the positive one
    monkeypatch.setattr(drafting.typer, "prompt", lambda *_, **__: given.pop(0))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    main(["init", "people.csv"])
    assert not given
    assert "# ? " not in Path("people.yaml").read_text()
    task: Any = load("people.yaml").tasks["income"]
    assert task.positive == "<=50K"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "nowhere.csv: expected a file, a folder or a glob, found nothing there"),
        (["films.csv", "-o", "films.csv"], "films.csv: expected a new file, found one that is there already"),
        (["films.csv", "--users", "people.csv"], "people.csv: expected a column with the ids of users"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    with pytest.raises(SystemExit) as ended:
        main(["init", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
