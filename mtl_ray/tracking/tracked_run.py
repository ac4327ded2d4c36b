"""MLflow runs, written by the driver alone. An unreachable server never stops a training.

Metrics that could not be logged are kept in `unlogged.jsonl` in the run's folder and sent again when the run ends. What
MLflow lacks for good is listed in `lost.txt` beside it.
"""

import json
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAMS_TAGS_PER_BATCH

import mtl_ray
from mtl_ray.config import Experiment
from mtl_ray.credentials import without_credentials
from mtl_ray.data.dataset import Prepared
from mtl_ray.errors import first_line
from mtl_ray.storage import Folder, json_text
from mtl_ray.tracking.database import client_of
from mtl_ray.tracking.entries import metric_key, param_key, send

os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # MLflow would print it with its password

UNLOGGED = "unlogged.jsonl"
"""File in the run's folder with the metrics that MLflow did not take."""

LOST = "lost.txt"
"""File in the run's folder with a line for everything that MLflow lacks."""


def tracking_uri(experiment: Experiment) -> str:
    """Return the experiment's MLflow server, that of the environment, or SQLite in the working folder."""
    return experiment.tracking.uri or default_uri()


def default_uri() -> str:
    """Return the MLflow server of the environment, or SQLite in the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').absolute()}"


class Run:
    """An MLflow run, which a resumed training finds again by its id."""

    def __init__(self, uri: str, run_id: str | None, folder: Folder) -> None:
        own = default_uri()
        # A URI that was read from a folder lacks the credentials that the environment's may have.
        self.uri = own if uri == without_credentials(own) else uri
        self.run_id, self.folder = run_id, folder

    @property
    def client(self) -> MlflowClient:
        """A client of the run's server."""
        return client_of(self.uri)

    @classmethod
    def start(
        cls, experiment: Experiment, name: str, folder: Folder, parent: str | None = None, *, known: bool = False
    ) -> "Run":
        """Create the run; its id is None if the server cannot be reached.

        Args:
            experiment: the experiment of the run.
            name: name of the run.
            folder: folder of the run.
            parent: id of the parent run.
            known: continue a run of that name if there is one, as is always done below a parent.
        """
        run = cls(tracking_uri(experiment), None, folder)
        run.attempt("create the run", lambda: run._create(experiment, name, parent, known or parent is not None))
        return run

    def _create(self, experiment: Experiment, name: str, parent: str | None, known: bool) -> None:
        client, experiment_id = self.client, self._experiment(experiment.tracking.experiment or experiment.name)
        tags = {"mlflow.parentRunId": parent} if parent else {}
        if known and (found_run := self._begun(experiment_id, name, parent)):
            self.run_id = found_run
            client.update_run(found_run, status="RUNNING")
        else:
            self.run_id = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
        if self.folder.exists(LOST):  # all of it is logged again
            self.folder.fs.delete_file(f"{self.folder.path}/{LOST}")

    def _experiment(self, title: str) -> str:
        """Return the id of the experiment of that name, which is created if need be."""
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
        """Return the run of that name, created by a driver that was killed before it could write its id down."""
        below = f"tags.`mlflow.parentRunId` = '{parent}' and " if parent else ""
        wanted = f"{below}attributes.run_name = '{name}'"
        found = self.client.search_runs([experiment_id], wanted, max_results=1)
        return found[0].info.run_id if found else None

    def adopt_lost(self, child: Folder, name: str) -> None:
        """Note what MLflow lacks of the child run in a folder."""
        self._lose([f"{name}: {line}" for line in lost_entries(child)])

    def _lose(self, lines: Sequence[str]) -> None:
        known = self.folder.read_text(LOST) if self.folder.exists(LOST) else ""
        if new := dict.fromkeys(line for line in lines if line not in known.splitlines()):
            self.folder.write_atomic(LOST, known + "".join(f"{line}\n" for line in new))

    def delete(self) -> None:
        """Delete the run in MLflow."""
        self.attempt("delete the run", lambda: self.client.delete_run(self.required_id()))

    def log_experiment(self, experiment: Experiment, prepared: Prepared | None) -> None:
        """Log parameters, tags and the experiment file; for a data set also its quality report and its digest."""
        tree = experiment.model_dump(mode="json")
        tags = {f"version.{name}": version(name) for name in ("ray", "torch", "mlflow", "torchjd", "pyarrow")}
        if commit := git_commit():
            tags["git_commit"] = commit
        if prepared is not None:
            schema = prepared.schema
            tags |= {"dataset": schema.fingerprint, "content_hash": schema.content_hash, "seed": str(experiment.seed)}
            self.attempt("log the data set", lambda: self._log_dataset(prepared))
            self.log_file("quality.json", json_text(prepared.quality))
        self.attempt("log parameters", lambda: self._log_params(flatten(tree), tags))
        settings = experiment.model_dump(mode="json", exclude_unset=True)
        self.log_file("experiment.yaml", yaml.safe_dump(settings, sort_keys=False))

    def required_id(self) -> str:
        """Return the id. Raises MlflowException if the run could not be created."""
        if self.run_id is None:
            raise MlflowException("the run could not be created")
        return self.run_id

    def _log_params(self, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        client, run_id, size = self.client, self.required_id(), MAX_PARAMS_TAGS_PER_BATCH
        entries = [Param(param_key(key), str(value)) for key, value in params.items()]
        self._refused("parameter", send(lambda part: client.log_batch(run_id, params=part), entries, size))
        named = [RunTag(key, value) for key, value in tags.items()]
        self._refused("tag", send(lambda part: client.log_batch(run_id, tags=part), named, size))

    def _refused(self, what: str, entries: Sequence[str]) -> None:
        """Note and tell what MLflow refused."""
        lines = [f"{what} {entry}" for entry in dict.fromkeys(entries)]
        for line in lines:
            warnings.warn(f"MLflow at {without_credentials(self.uri)} refused the {line}", stacklevel=2)
        self._lose(lines)

    def _log_dataset(self, prepared: Prepared) -> None:
        schema = prepared.schema
        dataset = Dataset(
            name=prepared.folder.name,
            digest=schema.content_hash[:32],
            source_type="local" if "://" not in prepared.folder.location else "uri",
            source=json.dumps({"uri": prepared.folder.location}),
            profile=json.dumps(schema.num_rows),
        )
        self.client.log_inputs(self.required_id(), [DatasetInput(dataset, [])])

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics at a step, or keep them in the run's folder if the server does not answer."""
        self.log_history({step: metrics})

    def log_history(self, history: Mapping[int, Mapping[str, float]]) -> None:
        """Log metrics by step, like `log_metrics` but with fewer requests."""
        now = int(time.time() * 1000)
        entries = [
            Metric(metric_key(key), float(value), now, step)
            for step, metrics in history.items()
            for key, value in metrics.items()
        ]
        if self.attempt("log metrics", lambda: self._log_metrics(entries), kept=True):
            return
        lines = self.folder.read_text(UNLOGGED) if self.folder.exists(UNLOGGED) else ""
        for step, metrics in history.items():
            lines += json_text({"step": step, "time": now, "metrics": metrics}, None) + "\n"
        self.folder.write_atomic(UNLOGGED, lines)

    def _log_again(self, entry: dict[str, Any]) -> bool:
        named = [(key, value) for key, value in entry["metrics"].items() if value is not None]  # those not finite
        metrics = [Metric(metric_key(key), float(value), entry["time"], entry["step"]) for key, value in named]
        return self.attempt("log metrics", lambda: self._log_metrics(metrics), kept=True)

    def _log_metrics(self, entries: list[Metric]) -> None:
        client, run_id = self.client, self.required_id()
        refused = send(lambda part: client.log_batch(run_id, metrics=part), entries, MAX_METRICS_PER_BATCH)
        self._refused("metric", refused)

    def log_file(self, name: str, content: str | bytes) -> None:
        """Log an artifact."""

        def log() -> None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                path.write_bytes(content.encode() if isinstance(content, str) else content)
                self.client.log_artifact(self.required_id(), str(path))

        self.attempt(f"log {name}", log)

    def keep(self, files: Mapping[str, str | bytes]) -> None:
        """Write files in the run's folder and log them as artifacts."""
        for name, content in files.items():
            self.folder.write_bytes(name, content if isinstance(content, bytes) else content.encode())
            self.log_file(name, content)

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Let MLflow log this machine's load during the block, if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is set."""
        monitor = None
        if self.run_id is not None and MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=self.client.tracking_uri)
            monitor.start()
        try:
            yield
        finally:
            if monitor is not None:
                monitor.finish()

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, after another attempt to log what was kept in the folder."""
        self.log_kept()
        self.attempt("end the run", lambda: self.client.set_terminated(self.required_id(), status))

    def log_kept(self) -> None:
        """Log the metrics that were kept in the folder while the server was away."""
        if self.folder.exists(UNLOGGED):
            lines = self.folder.read_text(UNLOGGED).splitlines(keepends=True)
            # Stop at the first failure: each further one would take as long to fail.
            left = list(dropwhile(lambda line: self._log_again(json.loads(line)), lines))
            self.folder.write_atomic(UNLOGGED, "".join(left))
            if not left:
                self.folder.fs.delete_file(f"{self.folder.path}/{UNLOGGED}")

    def attempt(self, what: str, action: Callable[[], Any], *, kept: bool = False) -> bool:
        """Call `action`; if it fails, warn that MLflow could not do `what`. Return whether it succeeded.

        It is noted among what MLflow lacks, unless it is `kept` for a later attempt.
        """
        try:
            action()
        except Exception as error:
            where = without_credentials(self.uri)
            warnings.warn(f"MLflow at {where}: could not {what}: {first_line(error)}", stacklevel=2)
            if not kept:
                self._lose([f"could not {what}: {first_line(error)}"])
            return False
        return True


def lost_entries(folder: Folder) -> list[str]:
    """Return a line for everything that MLflow lacks of the run in a folder."""
    lines = folder.read_text(LOST).splitlines() if folder.exists(LOST) else []
    if folder.exists(UNLOGGED):
        lines.append(f"metrics, which are in {folder}/{UNLOGGED}")
    return lines


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted path."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        elif value is not None:
            flat[path] = value
    return flat


def git_commit() -> str | None:
    """Return the commit of the code, or None if it is not a git checkout."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, cwd=Path(mtl_ray.__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None
