"""A training is seen from outside: metrics in MLflow and for Prometheus, a trace, the machine's own metrics."""

import gzip
import json
import urllib.request
from pathlib import Path

import mlflow
import ray

from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.profiler import STEPS, TRACE
from mtl_ray.training.prometheus import Gauges
from tests.support import wait_for

MEASURED = ("step_seconds", "input_wait", "communication", "memory_bytes")


def test_what_the_workers_measured_is_in_mlflow(trained, settings):
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    for name in MEASURED:
        history = client.get_metric_history(trained.run_id, f"system/{name}")
        assert [m.step for m in history] == list(range(1, settings.training.epochs + 1)), name
        assert all(m.value > 0 for m in history), name
    for name in ("input_wait", "communication"):
        assert all(m.value < 1 for m in client.get_metric_history(trained.run_id, f"system/{name}"))


def test_the_trace_has_the_steps_and_their_operators(trained):
    content = json.loads(gzip.decompress((Path(trained.folder.path) / TRACE).read_bytes()))
    names = {event["name"] for event in content["traceEvents"] if "name" in event}
    assert len([name for name in names if name.startswith("ProfilerStep#")]) == STEPS
    assert "aten::addmm" in names


@ray.remote
class Worker:
    def __init__(self) -> None:
        self.gauges = Gauges("run-1", 3)
        self.was_due = self.gauges.is_due()
        self.gauges.set({"rows_per_second": 5.0, "system/step_seconds": 0.25, "train/loss": 3.0})

    def due(self) -> tuple[bool, bool]:
        return self.was_due, self.gauges.is_due()


def test_ray_exports_them_for_prometheus(cluster):
    worker = Worker.remote()  # pyright: ignore[reportAttributeAccessIssue]
    assert ray.get(worker.due.remote()) == (True, False)
    port = ray.nodes()[0]["MetricsExportPort"]

    def exported() -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return [line for line in lines if line.startswith("ray_mtl_ray") and 'run="run-1"' in line]

    lines = wait_for(lambda: len(exported()) == 2 and exported(), 60)
    assert {line.partition("{")[0]: line.rpartition(" ")[2] for line in lines} == {
        "ray_mtl_ray_rows_per_second": "5.0",
        "ray_mtl_ray_step_seconds": "0.25",
    }
    assert all('worker="3"' in line for line in lines)


def test_mlflow_logs_the_machine_where_its_variable_asks_for_it(trained, settings, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    run = Run.start(settings, "machine", Folder(str(tmp_path / "machine")).create())

    def logged() -> bool:
        return "system/cpu_utilization_percentage" in client.get_run(run.run_id).data.metrics

    with run.system_metrics():
        assert not logged()
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with run.system_metrics():
        wait_for(logged, 60)
    run.delete()
