"""A model trained anew every day on a log that grows: it starts from the champion, moves it only when better, and ends
the same wherever its processes are killed."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from mlflow import MlflowClient

from jobs.growing_log import add_day
from mtl_ray.config import Experiment, load, override, parse
from mtl_ray.data.dataset import open_prepared
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.runs.records import RUN_FILE
from mtl_ray.schema import FIRST, UNKNOWN
from mtl_ray.storage import Folder
from mtl_ray.training.trainer import Trainer
from mtl_ray.training.warm_start import start_from
from mtl_ray.values.vocabulary import read_vocabularies
from mtl_ray.workflows.daily import daily
from tests.cluster.world import SEED, reported
from tests.support import wait_for

ROOT = Path(__file__).parents[2]
NUM_DAYS = int(os.environ.get("MTL_RAY_DAILY_DAYS", "2"))
"""Of these the last is killed twice and begun again, with more than two of them each."""
TIMES = ("rows_per_second", "train_seconds", "system/")
"""Prefixes of metrics that no two runs share."""
EPOCHS = 3
SMALL = (f"training.epochs={EPOCHS}", "training.checkpoint_steps=5", "promotion.draws=100")


class Shop:
    """The log, the data sets, the runs, the registry and the scores of a shop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def client(self) -> MlflowClient:
        """Of a copy of the database as it is now: MLflow would keep a file open that the test has replaced."""
        copy = Path(tempfile.mkdtemp(dir=self.folder.parent)) / "mlflow.db"
        shutil.copy(self.folder / "mlflow.db", copy)
        return MlflowClient(tracking_uri=f"sqlite:///{copy}")

    def started(self, day: int, *changes: str) -> subprocess.Popen[bytes]:
        """The day's process, which starts a Ray of its own."""
        arguments = ["--score", f"shop/rows/{day}.parquet", "--output", f"scores/{day}", "--json", f"{day}.json"]
        settings = [word for change in (*SMALL, *changes) for word in ("--set", change)]
        command = [sys.executable, ROOT / "jobs/daily.py", ROOT / "jobs/daily.yaml", *arguments, *settings]
        environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
        with (self.folder / f"{day}.log").open("w") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def done(self, day: int, *changes: str) -> tuple[dict[str, Any], float]:
        """What a whole day came to, and its seconds."""
        (self.folder / f"{day}.json").unlink(missing_ok=True)
        began = time.monotonic()
        assert self.started(day, *changes).wait(500) == 0, self.said(day)
        return json.loads((self.folder / f"{day}.json").read_text()), time.monotonic() - began

    def killed(self, day: int, when: Callable[[], bool]) -> bool:
        """Kill the day's process, with all that it has started, when something holds; False if it ended before."""
        process = self.started(day)
        wait_for(lambda: when() or process.poll() is not None, 500)
        if process.poll() is not None:
            assert process.returncode == 0, self.said(day)
            return False
        root = psutil.Process(process.pid)
        every = [root, *root.children(recursive=True)]
        for each in every:
            each.kill()
        psutil.wait_procs(every, 20)
        return True

    def reported(self) -> dict[str, tuple[int, int]]:
        """Epochs and further steps that each run has reported."""
        return {path.name: reported(Folder(str(path))) for path in (self.folder / "runs").glob("shop-*")}

    def said(self, day: int) -> str:
        lines = (self.folder / f"{day}.log").read_text().splitlines()
        return "\n".join(lines[-40:])

    def state(self) -> dict[str, Any]:
        """All that a day leaves, without times."""
        client, runs, versions = self.client(), {}, {}
        for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
            metrics = {key: value for key, value in run.data.metrics.items() if not key.startswith(TIMES)}
            every = {key: client.get_metric_history(run.info.run_id, key) for key in metrics}
            history = {key: {(metric.step, metric.value) for metric in found} for key, found in every.items()}
            assert run.info.run_name not in runs
            runs[run.info.run_name] = (run.info.status, history, run.data.params)
        for version in client.search_model_versions("name = 'shop'"):
            name = client.get_run(version.run_id).info.run_name
            notes = [line for line in (version.description or "").splitlines() if not line.startswith("## ")]
            versions[str(version.version)] = (name, dict(version.tags), notes)
        models = {model.name: dict(model.aliases) for model in client.search_registered_models()}
        scores = {path.name: pq.read_table(path) for path in sorted((self.folder / "scores").glob("*"))}
        data_sets = {path.name for path in (self.folder / "datasets").glob("shop-*")}
        return {"runs": runs, "versions": versions, "models": models, "scores": scores, "data_sets": data_sets}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    place = tempfile.mkdtemp(prefix="ray")  # short, since the names of sockets are; what is killed leaves its files
    monkeypatch.setenv("RAY_TMPDIR", place)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "at").mkdir()
    yield Shop(tmp_path / "at")
    shutil.rmtree(place, ignore_errors=True)


def grow(folder: Path, day: int) -> None:
    add_day(folder / "shop", day, num_days=max(NUM_DAYS, 2), rows=10_000, users=1000, items=300)


@pytest.mark.timeout(900 * NUM_DAYS)
@pytest.mark.long
def test_killed_days_end_as_undisturbed_ones_and_the_champion_moves_only_when_better(shop: Shop, tmp_path: Path):
    print(f"MTL_RAY_CHAOS_SEED={SEED}")
    moments, champion = random.Random(SEED), None  # noqa: S311 - no secret
    for day in range(1, NUM_DAYS + 1):
        grow(shop.folder, day)
        shutil.copytree(shop.folder, tmp_path / "before", dirs_exist_ok=False)
        found, seconds = shop.done(day)
        expected, told = shop.state(), "not killed"
        if NUM_DAYS > 2 or day == NUM_DAYS:
            shutil.rmtree(shop.folder)
            (tmp_path / "before").rename(shop.folder)
            told = f"killed {kill_within_fit(shop, day, moments)}, {kill_at_random(shop, day, seconds, moments)}"
            again, _ = shop.done(day)
            assert again | {"run_id": ""} == found | {"run_id": ""}
            state = shop.state()
            assert state == expected
        shutil.rmtree(tmp_path / "before", ignore_errors=True)
        decision = found["decision"]
        assert (found["start"], decision["against"]) == (champion, champion)
        better = champion is None or decision["findings"][0]["low"] > 0
        assert better or decision["outcome"] == "refused"
        champion = found["version"] if decision["outcome"] == "promoted" else champion
        assert found["champion"] == champion
        assert expected["models"]["shop"]["champion"] == int(champion)
        assert (len(expected["runs"]), len(expected["versions"])) == (day, day)
        assert_scored(shop, day, expected)
        sizes = assert_grown(shop, found) if day > 1 else sizes_of(found)
        print(f"day {day}: {sizes} {decision['outcome']}; {told}", flush=True)
        for each in decision["findings"]:
            values = f"{each['champion']:.4f} -> {each['candidate']:.4f}, at least {each['low']:+.4f}"
            print(f"  {each['key']} on {each['rows']:,} rows: {values}, {each['verdict']}")
    worse, _ = shop.done(NUM_DAYS, "training.optimizer.lr=0.3", "tracking.experiment=worse")
    assert worse["decision"]["outcome"] == "refused"
    assert shop.client().get_registered_model("shop").aliases["champion"] == int(champion or 0)


def kill_within_fit(shop: Shop, day: int, moments: random.Random) -> str:
    """Kill the day between the first step that its training reports and the last one."""
    known = shop.reported()
    aim, pause = (moments.randrange(EPOCHS - 1), 0), moments.uniform(0, 0.3)  # a whole epoch is left at least

    def reached() -> tuple[int, int]:
        return max((place for name, place in shop.reported().items() if name not in known), default=(0, 0))

    def past() -> bool:
        is_past = reached() > aim
        time.sleep(pause * is_past)
        return is_past

    assert shop.killed(day, past), "the day ended before it was killed"
    assert (0, 0) < reached() < (EPOCHS, 0), f"killed after the fit: {reached()}"
    return f"after {reached()[0]} of {EPOCHS} epochs and {reached()[1]} steps"


def kill_at_random(shop: Shop, day: int, seconds: float, moments: random.Random) -> str:
    """Kill the day, which takes about some seconds, somewhere."""
    moment, began = moments.uniform(0.1, 0.8) * seconds, time.monotonic()
    was_killed = shop.killed(day, lambda: time.monotonic() - began > moment)
    return f"{'' if was_killed else 'too late '}after {moment:.0f} of {seconds:.0f} s: {shop.said(day)[-80:]!r}"


def assert_scored(shop: Shop, day: int, state: dict[str, Any]) -> None:
    """Every row has come back once, in its place."""
    rows, scores = pq.read_table(shop.folder / f"shop/rows/{day}.parquet"), state["scores"][str(day)]
    assert scores.select(["user_id", "item_id"]).equals(rows.select(["user_id", "item_id"]))
    assert not any(scores.column(f"predicted_{task}").null_count for task in ("rating", "click", "purchase"))


def sizes_of(found: dict[str, Any]) -> dict[str, int]:
    schema = open_prepared(found["dataset"]).schema
    rows = {"rows": sum(schema.num_rows.values())}
    return rows | {name: schema.features[name].num_embeddings - FIRST for name in ("user_id", "item_id")}


def assert_grown(shop: Shop, found: dict[str, Any]) -> dict[str, int]:
    """Before the first step the users and items of the champion have its embeddings, and new ones that of unseen ones;
    after the last step the new ones have rows of their own."""
    folder = shop.folder / "runs" / found["run"]
    (start,) = folder.glob("warm-start-*")
    experiment = parse(json.loads((folder / RUN_FILE).read_text())["experiment"], RUN_FILE)
    prepared = open_prepared(found["dataset"])
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    start_from(trainer, prepared, str(start))
    last = max(path for path in folder.glob("checkpoint_*") if path.is_dir())
    champion, trained = checkpoint.load(start).model, checkpoint.load(last).model
    for name in ("user_id", "item_id"):
        places = (Folder(str(start)), prepared.folder)
        before, now = (read_vocabularies(place, [name])[name].values.to_pylist() for place in places)
        assert set(before) < set(now)
        own, old, new = (model.inputs["shared"].tables[name].weight for model in (trainer.model, champion, trained))
        for row, value in enumerate(now, FIRST):
            known = before.index(value) + FIRST if value in before else UNKNOWN
            assert torch.equal(own[row], old[known]), value
            assert known != UNKNOWN or not torch.equal(new[row], new[UNKNOWN]), value
        assert len(new) == len(now) + FIRST
    return sizes_of(found)


class Crash(BaseException):
    """A process that ends here."""


def crash(patch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool], *, after: bool) -> None:
    """Crash at the calls of a method for which `when` holds, before or after what they do."""
    original = getattr(owner, name)

    def crashing(*arguments: Any, **named: Any) -> Any:
        here = when(*arguments)
        done = original(*arguments, **named) if after or not here else None
        if here:
            raise Crash
        return done

    patch.setattr(owner, name, crashing)


@pytest.fixture
def settings_of_a_day(cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    grow(tmp_path, 1)
    return load(ROOT / "jobs/daily.yaml", SMALL)


CRASHES = (
    ("log_inputs", MlflowClient, lambda *_: True, False),  # the MLflow run is there, and no note of it
    ("set_registered_model_alias", MlflowClient, lambda *a: a[2] == "candidate", False),  # the version is there
    ("set_registered_model_alias", MlflowClient, lambda *a: a[2] == "champion", True),  # it is live, without a note
    ("set_model_version_tag", MlflowClient, lambda *a: a[3] == "promotion", False),  # with it
    ("delete", Folder, lambda folder: folder.location.endswith("/_done"), False),  # all rows are scored
)


def test_a_crash_between_two_writes_leaves_no_second_run_or_version(settings_of_a_day: Experiment, monkeypatch):
    for name, owner, when, after in CRASHES:
        with monkeypatch.context() as patch:
            crash(patch, owner, name, when, after=after)
            if owner is MlflowClient:  # the lock of what is killed stays
                patch.setattr(MlflowClient, "delete_registered_model", lambda *_: None)
            with pytest.raises(Crash):
                daily(settings_of_a_day, "shop/rows/1.parquet", "scores", echo=lambda _: None)
    day = daily(settings_of_a_day, "shop/rows/1.parquet", "scores", echo=lambda _: None)
    client = MlflowClient()
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (version,) = client.search_model_versions("name = 'shop'")
    assert (run.info.run_id, run.info.status, str(version.version)) == (day.run_id, "FINISHED", day.version)
    assert run.data.params["training.epochs"] == "3"
    assert (version.description or "").count("is the first champion") == 1
    assert version.tags["promotion"] == "promoted"
    (model,) = client.search_registered_models()
    assert dict(model.aliases) == {"champion": 1}
    assert pq.read_table("scores").num_rows == 1000
    assert [path.name for path in Path("scores").iterdir() if path.is_dir()] == []
    with pytest.raises(InputError, match="the folder has the results of another job"):
        daily(settings_of_a_day, "shop/log/1.parquet", "scores", echo=lambda _: None)


def test_a_day_needs_a_registered_model(settings_of_a_day: Experiment):
    nameless = override(settings_of_a_day, {"tracking.register_as": None})
    with pytest.raises(InputError, match=r"tracking\.register_as: expected the name of a registered model"):
        daily(nameless, "shop/rows/1.parquet", "scores")


def test_a_mistake_in_the_rows_is_told_before_the_work(settings_of_a_day: Experiment):
    with pytest.raises(InputError, match=r"--score .*users.parquet: expected the columns item_id; found user_id, age"):
        daily(settings_of_a_day, "shop/users.parquet", "scores")
    assert not Path("datasets").exists()
