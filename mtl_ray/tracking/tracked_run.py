"""MLflow runs, written by the driver's side alone. A server that cannot be reached never stops a run.

What could not be logged is kept in `unlogged.jsonl` of the run folder and sent again when the run ends.
"""

import json
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from itertools import dropwhile
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.utils import chunk_list
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAMS_TAGS_PER_BATCH

import mtl_ray
from mtl_ray.config import Experiment
from mtl_ray.credentials import without_credentials
from mtl_ray.data.dataset import Prepared
from mtl_ray.errors import first_line
from mtl_ray.storage import Folder

os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it would be printed with its password

UNLOGGED = "unlogged.jsonl"
"""In the run's folder: metrics that MLflow did not take, to be sent again when the run ends."""


def tracking_uri(experiment: Experiment) -> str:
    """The experiment's server, the one of the environment, or SQLite in the working folder."""
    return experiment.tracking.uri or default_uri()


def default_uri() -> str:
    """The MLflow server of the environment, or SQLite in the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"


class Run:
    """One MLflow run, found again by its id when training resumes."""

    def __init__(self, uri: str, run_id: str | None, folder: Folder) -> None:
        own = default_uri()
        # What is noted in a folder, and read back, is without the credentials that the environment's may have.
        self.uri = own if uri == without_credentials(own) else uri
        self.run_id, self.folder = run_id, folder

    @property
    def client(self) -> MlflowClient:
        """A client of the run's server."""
        return MlflowClient(tracking_uri=self.uri)

    @classmethod
    def start(
        cls, experiment: Experiment, name: str, folder: Folder, parent: str | None = None, *, known: bool = False
    ) -> "Run":
        """Create the run, below the run `parent`; without a reachable server its id is None and training goes on.

        With `known`, as below a parent, the name says what the run is: one that has it is continued.
        """
        run = cls(tracking_uri(experiment), None, folder)
        run._safely("create the run", lambda: run._create(experiment, name, parent, known or parent is not None))
        return run

    def _create(self, experiment: Experiment, name: str, parent: str | None, known: bool) -> None:
        client, experiment_id = self.client, self._experiment(experiment.tracking.experiment or experiment.name)
        tags = {"mlflow.parentRunId": parent} if parent else {}
        if known and (found_run := self._begun(experiment_id, name, parent)):
            self.run_id = found_run
            client.update_run(found_run, status="RUNNING")
        else:
            self.run_id = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id

    def _experiment(self, title: str) -> str:
        """The id of the experiment of that name, which is made if there is none."""
        if found := self.client.get_experiment_by_name(title):
            return found.experiment_id
        local = self.uri.startswith("sqlite:")
        place = f"file://{Path('mlartifacts').absolute()}/{title}" if local else None
        try:
            return self.client.create_experiment(title, artifact_location=place)
        except MlflowException:
            if found := self.client.get_experiment_by_name(title):  # another process was faster
                return found.experiment_id
            raise

    def _begun(self, experiment_id: str, name: str, parent: str | None) -> str | None:
        """The run of that name, which a driver made that was killed before it could note it."""
        below = f"tags.`mlflow.parentRunId` = '{parent}' and " if parent else ""
        wanted = f"{below}attributes.run_name = '{name}'"
        found = self.client.search_runs([experiment_id], wanted, max_results=1)
        return found[0].info.run_id if found else None

    def delete(self) -> None:
        """Take the run out of MLflow."""
        self._safely("delete the run", lambda: self.client.delete_run(self._id()))

    def log_experiment(self, experiment: Experiment, prepared: Prepared | None) -> None:
        """Parameters, tags and the experiment file; of one data set also its quality report and its digest."""
        tree = experiment.model_dump(mode="json")
        tags = {f"version.{name}": version(name) for name in ("ray", "torch", "mlflow", "torchjd", "pyarrow")}
        if commit := git_commit():
            tags["git_commit"] = commit
        if prepared is not None:
            schema = prepared.schema
            tags |= {"dataset": schema.fingerprint, "content_hash": schema.content_hash, "seed": str(experiment.seed)}
            self._safely("log the data set", lambda: self._log_dataset(prepared))
            self.log_file("quality.json", json.dumps(prepared.quality, indent=2))
        self._safely("log parameters", lambda: self._log_params(flatten(tree), tags))
        settings = experiment.model_dump(mode="json", exclude_unset=True)
        self.log_file("experiment.yaml", yaml.safe_dump(settings, sort_keys=False))

    def _id(self) -> str:
        if self.run_id is None:
            raise MlflowException("the run could not be created")
        return self.run_id

    def _log_params(self, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        entries = [Param(key.replace("*", "each"), str(value)) for key, value in params.items()]
        for part in chunk_list(entries, MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(self._id(), params=part)
        self.client.log_batch(self._id(), tags=[RunTag(key, value) for key, value in tags.items()])

    def _log_dataset(self, prepared: Prepared) -> None:
        schema = prepared.schema
        dataset = Dataset(
            name=prepared.folder.name,
            digest=schema.content_hash[:32],
            source_type="local" if "://" not in prepared.folder.location else "uri",
            source=json.dumps({"uri": prepared.folder.location}),
            profile=json.dumps(schema.num_rows),
        )
        self.client.log_inputs(self._id(), [DatasetInput(dataset, [])])

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics at a step; kept in the run folder when the server does not answer."""
        self.log_history({step: metrics})

    def log_history(self, history: Mapping[int, Mapping[str, float]]) -> None:
        """Metrics by step, as `log_metrics`, with fewer requests."""
        now = int(time.time() * 1000)
        entries = [
            Metric(metric_key(key), float(value), now, step)
            for step, metrics in history.items()
            for key, value in metrics.items()
        ]
        if self._safely("log metrics", lambda: self._log_metrics(entries)):
            return
        lines = self.folder.read_text(UNLOGGED) if self.folder.exists(UNLOGGED) else ""
        for step, metrics in history.items():
            lines += json.dumps({"step": step, "time": now, "metrics": dict(metrics)}) + "\n"
        self.folder.write_atomic(UNLOGGED, lines)

    def _log_again(self, entry: dict[str, Any]) -> bool:
        named = entry["metrics"].items()
        resume_command = [Metric(metric_key(key), float(value), entry["time"], entry["step"]) for key, value in named]
        return self._safely("log metrics", lambda: self._log_metrics(resume_command))

    def _log_metrics(self, entries: list[Metric]) -> None:
        for part in chunk_list(entries, MAX_METRICS_PER_BATCH):
            self.client.log_batch(self._id(), metrics=part)

    def log_file(self, name: str, content: str | bytes) -> None:
        """An artifact."""

        def log() -> None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                path.write_bytes(content.encode() if isinstance(content, str) else content)
                self.client.log_artifact(self._id(), str(path))

        self._safely(f"log {name}", log)

    def keep(self, files: Mapping[str, str | bytes]) -> None:
        """Write files in the run's folder and log them as artifacts."""
        for name, content in files.items():
            self.folder.write_bytes(name, content if isinstance(content, bytes) else content.encode())
            self.log_file(name, content)

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Within the block MLflow also logs what this machine does, if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is set."""
        monitor = None
        if self.run_id is not None and MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=self.uri)
            monitor.start()
        try:
            yield
        finally:
            if monitor is not None:
                monitor.finish()

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, after another try at what was left unlogged."""
        if self.folder.exists(UNLOGGED):
            lines = self.folder.read_text(UNLOGGED).splitlines(keepends=True)
            # At the first that fails no other one is tried: each would be waited for as long.
            left = list(dropwhile(lambda line: self._log_again(json.loads(line)), lines))
            self.folder.write_atomic(UNLOGGED, "".join(left))
            if not left:
                self.folder.fs.delete_file(f"{self.folder.path}/{UNLOGGED}")
        self._safely("end the run", lambda: self.client.set_terminated(self._id(), status))

    def _safely(self, what: str, action: Callable[[], Any]) -> bool:
        try:
            action()
        except Exception as error:
            where = without_credentials(self.uri)
            warnings.warn(f"MLflow at {where}: could not {what}: {first_line(error)}", stacklevel=2)
            return False
        return True


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted paths."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        elif value is not None:
            flat[path] = value
    return flat


def git_commit() -> str | None:
    """The commit of the code, where it is a git checkout."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, cwd=Path(mtl_ray.__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def metric_key(metric: str) -> str:
    """A metric's key as MLflow takes it."""
    return metric.replace("@", "_at_").replace("+", "_plus")
