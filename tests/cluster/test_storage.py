"""Data sets and runs on an object store that speaks S3."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qsl

import mlflow
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
import yaml
from ray.cluster_utils import Cluster

from mtl_ray.data.prepare import prepare
from mtl_ray.inference.evaluate import evaluate_checkpoint
from mtl_ray.runs.train import train
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import checkpoint_folder
from tests.cluster.servers import free_port, s3_server
from tests.cluster.test_failures import assert_same
from tests.support import small_experiment


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as (_, options):
        yield options


def test_a_folder_of_an_object_store_gets_its_name_with_its_last_file_last(options, monkeypatch):
    aside, target = (Folder(f"s3://bucket/rename/{name}?{options}") for name in ("aside", "target"))
    for name in ("a", "deep/b", "schema.json"):
        aside.write_atomic(name, name)
    aside.write_table("c.parquet", pa.table({"n": [1, 2]}))
    target.write_text("other", "of another process that writes the same")

    class KilledError(Exception):
        pass

    real = type(aside.fs).copy_file

    class Filesystem:
        """The filesystem, which fails at the copy of one file."""

        def __getattr__(self, name):
            return getattr(Folder(aside.location).fs, name)

        def copy_file(self, source, destination):
            if source.endswith("deep/b"):
                raise KilledError
            real(Folder(aside.location).fs, source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(aside, "fs", Filesystem())
        with pytest.raises(KilledError):
            aside.rename(target, last="schema.json")
    assert target.exists("a")
    assert not target.exists("schema.json")
    again = Folder(aside.location)
    again.rename(target, last="schema.json")
    assert not again.exists()
    assert target.exists("other")
    assert (target.read_text("deep/b"), target.read_text("schema.json")) == ("deep/b", "schema.json")
    assert target.read_table("c.parquet").num_rows == 2


@pytest.mark.long
def test_prepare_train_evaluate_and_resume_on_an_object_store(options, trained, settings, work, monkeypatch):
    monkeypatch.chdir(work)
    experiment = small_experiment(
        data__output=f"s3://bucket/datasets?{options}",
        training__output=f"s3://bucket/deep/runs?{options}",
        training__num_workers=2,
        training__epochs=6,
        tracking__uri=settings.tracking.uri,
    )
    said: list[str] = []
    prepared = prepare(experiment, echo=said.append)
    assert prepared.schema.content_hash == trained.prepared.schema.content_hash
    result = train(experiment, echo=said.append)
    assert any("is already prepared" in line for line in said)
    assert_same(trained.checkpoint, result.checkpoint)
    assert result.evaluation.metrics == pytest.approx(trained.evaluation.metrics, abs=1e-12)
    names = {info.base_name for info in result.folder.fs.get_file_info(pafs.FileSelector(result.folder.path))}
    kept = sorted(name for name in names if name.startswith("checkpoint_") and not name.endswith(".json"))
    assert {"run.json", "history.json", "report.html", "evaluation.json"} < names
    assert len(kept) == 2
    downloaded = checkpoint_folder((result.folder / kept[-1]).location, "")
    again = evaluate_checkpoint(downloaded, prepared, "test")
    assert again.metrics == pytest.approx(result.evaluation.metrics, abs=1e-12)
    resumed = train(experiment, resume=result.name, echo=lambda _: None)  # an ended run: its last checkpoint
    assert resumed.run_id == result.run_id
    assert_same(result.checkpoint, resumed.checkpoint)
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    assert client.get_run(result.run_id).data.params["training.output"].startswith("s3://bucket/deep/runs")


@pytest.mark.long
def test_a_node_that_cannot_use_the_storage_is_named_before_any_work(options, tmp_path: Path):
    """One node is told of another S3 server, one sees an empty folder where the others see the runs."""
    experiment = small_experiment(data__output="s3://bucket/nodes", training__output=str(tmp_path / "runs"))
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment.model_dump(mode="json", exclude_unset=True)))
    server = {"AWS_ENDPOINT_URL": f"http://{dict(parse_qsl(options))['endpoint_override']}"}
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "env_vars": server})
    try:
        cluster.add_node(**NODE, env_vars=server)
        assert run(file, cluster.address, server) == (0, "")
        dead = cluster.add_node(**NODE, env_vars={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"})
        code, error = run(file, cluster.address, server)
        assert code == 2
        assert len(error.splitlines()) == 1
        assert "data.output: node " in error
        assert f"({dead.node_id[:8]}) cannot use it: " in error
        assert "expected s3://bucket/nodes to be storage that every node reads and writes" in error
    finally:
        cluster.shutdown()
    assert not Folder(f"s3://bucket/nodes?{options}").entries()


NODE = {"num_cpus": 1, "include_dashboard": False}
CHECK = """
import ray, sys
from mtl_ray.errors import InputError
from mtl_ray.config import load
from mtl_ray.cluster.session import connect
from mtl_ray.cluster.storage_check import check_storage
connect()
try:
    check_storage(load(sys.argv[1], []))
except InputError as error:
    print(error)
    sys.exit(2)
"""


def run(file: Path, address: str, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and error line of the check as a driver of that cluster."""
    own = {"RAY_ADDRESS": address, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CHECK, str(file)]
    done = subprocess.run(
        command, env=os.environ | own | environment, cwd=file.parent, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.strip()
