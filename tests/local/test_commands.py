"""Bad input through the command line: exit code 2 and one line that names the place."""

from pathlib import Path

import pytest
import yaml

from mtl_ray.cli.main import main
from tests.local.test_prepare import HEADER, TREE

GOOD = [f"u{i % 5},i{i % 7},{i},{1 + i % 5}" for i in range(100)]


def shop(folder: Path, lines: list[str], header: str = HEADER) -> str:
    """An experiment file over a log of `lines`, with a users table."""
    (folder / "log.csv").write_text("\n".join([header, *lines]) + "\n")
    (folder / "users.csv").write_text("user,city\n" + "".join(f"u{i},c{i % 3}\n" for i in range(5)))
    data = TREE["data"] | {"raw": str(folder), "output": str(folder / "out"), "max_bad_share": 0.01}
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(TREE | {"data": data}))
    return str(path)


def run(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and the lines on the error stream."""
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0), capsys.readouterr().err.splitlines()
    return 0, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.epoch=3", "training.epoch: unknown key; did you mean `epochs`?"),
        ("tasks.stars={kind: regression}", "tasks.stars: expected a column `stars`"),
        ("tasks.city={kind: multiclass}", "tasks.city: its label column `city` is also the input features.city"),
        ("data.source.interactions=nothing.csv", "nothing.csv"),
        ("data.source.interactions=", "data.source.interactions"),
        ("tasks.rating.metrics=[recall@5]", "tasks.rating: `recall@K` needs `relevant`"),
    ],
    ids=["misspelt key", "unknown task column", "label among the inputs", "missing log", "no log", "recall of what"],
)
def test_a_bad_setting_is_named_before_anything_runs(tmp_path: Path, capsys, change: str, message: str):
    code, lines = run(capsys, "check", shop(tmp_path, GOOD), "--set", change)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]


@pytest.mark.parametrize("verb", ["check", "prepare", "train"])
def test_a_missing_experiment_file_is_named(capsys, verb: str):
    code, lines = run(capsys, verb, "nothing.yaml")
    assert code == 2
    assert lines == ["error: nothing.yaml: no such experiment file; expected a YAML file such as jobs/synthetic.yaml"]


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        ([], HEADER, "empty"),
        (GOOD, "customer,item,time,rating", "features.user: expected a column `user`"),
        (["u1,i1,1,abc"] * 50, HEADER, "50 of 50 rows are bad"),
    ],
    ids=["empty log", "header lacks the user column", "all rows bad"],
)
def test_an_unusable_log_is_refused(tmp_path: Path, capsys, lines, header, message):
    code, errors = run(capsys, "prepare", shop(tmp_path, lines, header))
    assert code == 2
    assert len(errors) == 1
    assert message in errors[0]


def test_one_bad_rating_is_set_aside_and_told(tmp_path: Path, capsys):
    rows = [*GOOD]
    rows[16] = "u1,i1,16,abc"
    main(["prepare", shop(tmp_path, rows), "--json", str(tmp_path / "result.json")])
    said = capsys.readouterr().out
    assert "100 read, 1 bad" in said
    assert "1 x rating is not a number" in said
    assert "17" in said
    assert '"bad": 1' in (tmp_path / "result.json").read_text()


def test_an_unknown_model_and_an_unknown_option_are_bad_input(tmp_path: Path, capsys):
    code, lines = run(capsys, "evaluate", str(tmp_path), str(tmp_path))
    assert code == 2
    assert len(lines) == 1
    code, lines = run(capsys, "train", "x.yaml", "--sett", "a=1")
    assert code == 2
    assert "--sett" in lines[0]
