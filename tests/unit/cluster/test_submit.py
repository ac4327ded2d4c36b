"""What `submit` refuses before it speaks to a cluster, and how it follows a job."""

import json
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from mtl_ray.cli.main import main
from mtl_ray.cluster.submit import Job, SubmissionError, check_locations, follow, pack
from mtl_ray.config import parse
from mtl_ray.errors import InputError
from tests.support import TREE, importable, small_experiment

PLANTED = "hunter2secret"
ELSEWHERE = ["--set", "data.output=/shared/d", "--set", "training.output=s3://bucket/runs"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "small.yaml").write_text(json.dumps(TREE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "jobs/small.yaml"], "expected a command that takes an experiment file: check, prepare, train"),
        (["submit", "jobs/small.yaml"], "found submit"),
        (["train", "jobs/none.yaml"], "jobs/none.yaml: no such experiment file"),
        (["train", "jobs/small.yaml", "--set", "training.epoch=1"], "did you mean `epochs`?"),
        (["train", "jobs/small.yaml", *ELSEWHERE, "--resme", "x"], "No such option: --resme"),
        (["check", "jobs/small.yaml", *ELSEWHERE, "--resume", "x"], "No such option: --resume"),
        (["train", "jobs/small.yaml"], "data.output: expected a URL or an absolute path"),
        (["train", "jobs/small.yaml", *ELSEWHERE, "--set", "data.source=memory"], "data.source: `memory` stands for"),
        (
            ["train", "jobs/small.yaml", "--set", "data.output=/d"],
            "training.output: expected a URL or an absolute path",
        ),
        (
            ["train", "jobs/small.yaml", *ELSEWHERE, "--working-dir", "/usr/bin"],
            "expected an experiment file in the wor",
        ),
        (["train", "jobs/small.yaml", *ELSEWHERE, "--max-megabytes", "0.001"], "jobs/small.yaml 0.0 MB"),
        (["train", "jobs/small.yaml", *ELSEWHERE, "--env", f"A={PLANTED}"], "--env: expected the name of a variable"),
        (
            ["train", "jobs/small.yaml", *ELSEWHERE, "--set", f"data.raw=s3://K:{PLANTED}@bucket"],
            "data.raw: expected a URL without user name, password or token",
        ),
        (
            ["train", "jobs/small.yaml", *ELSEWHERE, "--address", f"http://a:{PLANTED}@127.0.0.1:9"],
            "--address http://127.0.0.1:9: expected the dashboard of a running Ray cluster",
        ),
    ],
)
def test_a_mistake_is_told_in_a_line_before_anything_is_sent(words, message, project: Path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["submit", *words])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert PLANTED not in said.err + said.out


def test_tables_and_the_start_must_be_where_all_machines_see_them():
    source = {"kind": "table", "interactions": "log.csv", "users": "/shared/users.csv"}
    places = {"data__output": "/d", "training__output": "~/r"}
    with pytest.raises(InputError, match=r"data\.source\.interactions: .* found log\.csv"):
        check_locations(small_experiment(data__source=source, **places), {})
    with pytest.raises(InputError, match=r"training\.warm_start: .* found old"):
        check_locations(small_experiment(training__warm_start="old", **places), {})
    check_locations(small_experiment(training__warm_start="models:/shop@champion", **places), {})
    settings = small_experiment(data__source=source, data__raw="s3://bucket/log", **places)
    check_locations(settings, {"--score": "/shared/rows", "--output": None})
    with pytest.raises(InputError, match=r"--output: .* found scores; for example --output /shared/"):
        check_locations(settings, {"--score": "/shared/rows", "--output": "scores"})


def test_the_data_that_the_file_and_the_options_name_are_not_packed(project: Path):
    for name in ("made/d/x", "kept/r/x", "raw/x", "code.py", ".env"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(PLANTED)
    data = TREE["data"] | {"output": "made"}
    (project / "jobs" / "small.yaml").write_text(json.dumps(TREE | {"data": data, "training": {"output": "kept"}}))
    changed = parse(TREE | {"data": data | {"output": "/shared", "raw": f"{project}/raw"}}, "e.yaml")
    packed, inside = pack(Path(), "jobs/small.yaml", changed, 10**6)
    assert packed.files == ["code.py", "jobs/small.yaml"]
    assert inside == "jobs/small.yaml"


def test_the_code_of_own_classes_is_packed_where_a_job_imports_it(project: Path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "stall").mkdir()
    (elsewhere / "stall/__init__.py").touch()
    (elsewhere / "stall/nets.py").write_text("from tests.custom_parts import Wide\n")
    (elsewhere / "one_file.py").write_text("from tests.custom_parts import Cautious\n")
    (project / "here").mkdir()
    (project / "here/__init__.py").write_text("from tests.custom_parts import Wide\n")
    with importable(elsewhere, "stall"), importable(elsewhere, "one_file"), importable(project, "here"):
        model, balancing = ({"kind": "custom", "class": name} for name in ("stall.nets:Wide", "one_file:Cautious"))
        settings = parse(TREE | {"model": model | {"embedding_dim": 8}, "balancing": balancing}, "e.yaml")
        packed, _ = pack(Path(), "jobs/small.yaml", settings, 10**6)
        assert sorted(packed.beside) == ["one_file.py", "stall/__init__.py", "stall/nets.py"]
        packed.write(elsewhere / "package.zip")
        with zipfile.ZipFile(elsewhere / "package.zip") as archive:
            assert archive.read("stall/nets.py") == b"from tests.custom_parts import Wide\n"
            assert {*packed.files, *packed.beside} == {*archive.namelist()}
        own = parse(TREE | {"model": {"kind": "custom", "class": "here:Wide", "embedding_dim": 8}}, "e.yaml")
        assert pack(Path(), "jobs/small.yaml", own, 10**6)[0].beside == {}
        with pytest.raises(
            InputError, match=r"expected at most .* MB to pack; with \S+/stall, \S+/one_file.py found .*-meg"
        ):
            pack(Path(), "jobs/small.yaml", settings, packed.num_bytes - 1)


class Client:
    """A cluster that writes lines, loses the connection in between, and ends as it is told."""

    def __init__(self, status: JobStatus, code: int | None, *, lost: bool = False) -> None:
        self.details = SimpleNamespace(status=status, driver_exit_code=code, message="node died")
        self.lost, self.connections = lost, 0

    async def tail_job_logs(self, _: str):
        self.connections += 1
        yield "one\ntw"
        if self.lost or self.connections == 1:
            raise RuntimeError("WebSocket connection closed unexpectedly")
        yield "o\nthree\n"

    def get_job_status(self, _: str) -> JobStatus:
        return self.details.status

    def get_job_info(self, _: str) -> SimpleNamespace:
        return self.details


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, -9, 137),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 130),
    ],
)
def test_a_followed_job_gives_its_whole_output_once_and_its_exit_code(status, code, expected, capsys, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    said: list[str] = []
    client = Client(status, code)
    assert follow(Job("j", "http://head:8265", client), said.append) == expected  # pyright: ignore[reportArgumentType]
    assert capsys.readouterr().out == "one\ntwo\nthree\n"
    assert client.connections == 2


def test_a_cluster_that_stays_away_ends_following_and_says_how_to_go_on(capsys, monkeypatch):
    monkeypatch.setattr("mtl_ray.cluster.submit.PATIENCE", 0.0)
    client = Client(JobStatus.RUNNING, None, lost=True)
    with pytest.raises(SubmissionError, match="the job may go on; its output: ray job logs j --address http://h --fol"):
        follow(Job("j", f"http://a:{PLANTED}@h", client), print)  # pyright: ignore[reportArgumentType]
    assert PLANTED not in capsys.readouterr().out


def test_a_failure_is_shown_without_credentials(monkeypatch, project, capsys):
    def fail(*_):
        raise OSError(f"cannot reach http://ann:{PLANTED}@host/api")

    monkeypatch.setattr("mtl_ray.workflows.plan.plan", fail)
    with pytest.raises(SystemExit) as stopped:
        main(["check", "jobs/small.yaml"])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "OSError: cannot reach http://host/api" in said
    assert PLANTED not in said
