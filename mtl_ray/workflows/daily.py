"""One day of a recommender: prepare the grown log, begin with the champion's weights, train, evaluate, gate, score.

A day is named after its data set and its experiment, and each finished step writes its result into the run's folder. So
the same command, repeated after a crash, continues where it stopped, with what it found at its start, such as the
version of the champion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mtl_ray.cluster.session import connect
from mtl_ray.cluster.storage_check import check_storage
from mtl_ray.config import Experiment
from mtl_ray.config.custom import Trust, classes_of
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.data.sources.csv_dialect import dialect_of
from mtl_ray.data.sources.files import open_log
from mtl_ray.errors import InputError, some
from mtl_ray.inference.batch import check_output
from mtl_ray.inference.batch_result import BatchResult
from mtl_ray.inference.predict import predict
from mtl_ray.promotion.promote import CHAMPION, promote
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.runs.train import train_once
from mtl_ray.storage import Folder
from mtl_ray.tracking.database import client_of
from mtl_ray.tracking.registry import digest_of
from mtl_ray.tracking.tracked_run import tracking_uri


@dataclass(frozen=True)
class Day:
    """A finished day."""

    name: str
    """Name of the run."""
    folder: RunFolder
    dataset: str
    start: str | None
    """Version whose weights the training started from."""
    run_id: str
    version: str
    """Version that the training registered."""
    metrics: dict[str, float]
    """Metrics of that version on the test rows."""
    decision: dict[str, Any]
    """Decision of the gate, with its `note` in Markdown."""
    champion: str
    """Version that scored the rows."""
    scored: BatchResult

    def to_dict(self) -> dict[str, Any]:
        """Return the results in a form for JSON."""
        scored = self.scored
        return {
            "run": self.name,
            "run_id": self.run_id,
            "dataset": self.dataset,
            "start": self.start,
            "version": self.version,
            "metrics": self.metrics,
            "decision": {key: value for key, value in self.decision.items() if key != "note"},
            "champion": self.champion,
            "output": scored.folder.location,
            "rows": scored.num_rows,
            "quarantined": scored.quarantined,
        }


class _Steps:
    """The finished steps of a day."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.results = folder, folder.read_daily_steps()

    def once(self, step: str, work: Callable[[], Any]) -> Any:
        """Return the result of a step, which is done unless an earlier attempt has finished it."""
        if step not in self.results:
            self.results[step] = work()
            self.folder.write_daily_steps(self.results)
        return self.results[step]


def daily(
    experiment: Experiment,
    rows: str,
    output: str,
    keys: Sequence[str] | None = None,
    echo: Callable[[str], None] = print,
    resume_command: str = "the same command",
) -> Day:
    """Train the registered model of an experiment on the present log, and score rows with the better version.

    Training starts from the champion's weights, or as `training.warm_start` says if there is no champion yet. The new
    version becomes the champion if it passes the gate of `promotion`, and the champion scores.

    Args:
        experiment: has `tracking.register_as`; its log has grown since the last day.
        rows: raw rows to score: Parquet or CSV file, folder or glob.
        output: folder to make for the scores.
        keys: columns to keep beside `predicted_TASK`; all by default.
        echo: receives lines of text for the user.
        resume_command: the command that continues after a crash.

    Raises:
        InputError: `tracking.register_as` is missing, bad data, unreadable rows, or a champion with another model.
        PromotionError: another process promotes that model at this moment.
        ConnectionError: MLflow does not answer.
    """
    model, uri = experiment.tracking.register_as, tracking_uri(experiment)
    if model is None:
        raise InputError(
            "tracking.register_as: expected the name of a registered model, whose champion a day begins with and maybe "
            "replaces; found none"
        )
    known = open_log(rows, dialect=dialect_of(experiment.data.source)).columns  # report mistakes before the work
    needed = [experiment.column_of(experiment.user), experiment.column_of(experiment.item), *(keys or ())]
    if absent := [name for name in needed if name not in known]:
        raise InputError(f"--score {rows}: expected the columns {some(absent)}; found {some(known)}")
    check_output(output)
    connect()
    check_storage(experiment)
    prepared = prepare(experiment, echo=echo)
    name = f"{experiment.name}-{prepared.schema.fingerprint[:12]}-{digest_of(experiment)[:12]}"
    folder = RunFolder.of(experiment, name)
    steps = _Steps(folder)
    start = steps.once("start", lambda: champion_of(model, uri))
    echo(f"beginning with {f'the champion, version {start}' if start else 'no champion, there is none yet'}")
    trained = steps.once("trained", lambda: _train(name, experiment, prepared, start, echo, resume_command))
    decision = steps.once("decision", lambda: _gate(name, model, uri, trained["version"], echo, classes_of(experiment)))
    champion = steps.once(f"scorer of {Folder(output)}", lambda: champion_of(model, uri))
    model_uri, trust = f"models:/{model}/{champion}", classes_of(experiment)
    scored = predict(model_uri, rows, output, keys, echo, tracking_uri=uri, trust=trust)
    return Day(
        name, folder, prepared.folder.location, start, **trained, decision=decision, champion=champion, scored=scored
    )


def champion_of(model: str, uri: str) -> str | None:
    """Return the champion's version of a registered model, or None if there is no champion or no such model."""
    found = client_of(uri).search_registered_models(f"name = '{model}'")
    version = found[0].aliases.get(CHAMPION) if found else None
    return None if version is None else str(version)


def _train(
    name: str,
    experiment: Experiment,
    prepared: Prepared,
    start: str | None,
    echo: Callable[[str], None],
    resume_command: str,
) -> dict[str, Any]:
    if start is not None:
        model = f"models:/{experiment.tracking.register_as}/{start}"
        training = experiment.training.model_copy(update={"warm_start": model})
        experiment = experiment.model_copy(update={"training": training})
    trained = train_once(name, experiment, prepared, echo, resume_command)
    if trained.model_uri is None:
        raise ConnectionError(
            f"the model of run {name} could not be registered in MLflow; continue with: {resume_command}"
        )
    version = trained.model_uri.rpartition("/")[2]
    return {"run_id": trained.run_id, "version": version, "metrics": trained.evaluation.metrics}


def _gate(name: str, model: str, uri: str, version: str, echo: Callable[[str], None], trust: Trust) -> dict[str, Any]:
    decision = promote(model, version, tracking_uri=uri, echo=echo, holder=name, trust=trust)
    return {**decision.to_dict(), "note": decision.markdown()}
