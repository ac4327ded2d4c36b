"""One day of a recommender: prepare the grown log, begin with the champion's weights, train, evaluate, gate, score.

A day is named after its data set and its experiment, and what a step came to is noted in the run's folder when the step
is done. So the same command, started again after a crash, goes on where it stopped; what it found at its start, such as
which version was the champion, stays what it was.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient

from mtl_ray.cluster.session import connect
from mtl_ray.cluster.storage_check import check_storage
from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.data.sources.files import open_log
from mtl_ray.errors import InputError
from mtl_ray.inference.batch import BatchResult, check_output
from mtl_ray.inference.predict import predict
from mtl_ray.promotion.promote import CHAMPION, promote
from mtl_ray.runs.train import train_once
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import checkpoint_folder, digest_of
from mtl_ray.tracking.tracked_run import tracking_uri

NOTES = "daily.json"
"""In the run's folder: what each finished step came to."""


@dataclass(frozen=True)
class Day:
    """A finished day."""

    name: str
    """Of the run."""
    folder: Folder
    dataset: str
    start: str | None
    """Version whose weights the training began with."""
    run_id: str
    version: str
    """That the training made."""
    metrics: dict[str, float]
    """Of that version, on the test rows."""
    decision: dict[str, Any]
    """Of the gate, with its `note` in Markdown."""
    champion: str
    """Version that has scored the rows."""
    scored: BatchResult

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
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

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.notes: dict[str, Any] = folder.read_json(NOTES) if folder.exists(NOTES) else {}

    def once(self, step: str, work: Callable[[], Any]) -> Any:
        """What the step came to; it is done unless an earlier attempt has noted it."""
        if step not in self.notes:
            self.notes[step] = work()
            self.folder.create().write_atomic(NOTES, json.dumps(self.notes, indent=2) + "\n")
        return self.notes[step]


def daily(
    experiment: Experiment,
    rows: str,
    output: str,
    keys: Sequence[str] | None = None,
    echo: Callable[[str], None] = print,
    resume_command: str = "the same command",
) -> Day:
    """Bring the registered model of an experiment up to the present log, and score rows with the better one.

    Training begins with the weights of the champion; before there is one, as `training.warm_start` says. The version
    that it makes becomes the champion if it passes the gate of `promotion`, and the champion scores.

    Args:
        experiment: with `tracking.register_as`; its log is what has grown since.
        rows: raw rows to score: Parquet or CSV file, folder or glob.
        output: folder to make for the scores.
        keys: columns to keep beside `predicted_TASK`; all by default.
        report: receives lines of text for the user.
        resume_command: the command that continues after a crash.

    Raises:
        InputError: nothing is registered, bad data, rows that cannot be read, or a champion with another model.
        PromotionError: somebody else promotes that model at this moment.
        ConnectionError: MLflow does not answer.
    """
    model, uri = experiment.tracking.register_as, tracking_uri(experiment)
    if model is None:
        raise InputError(
            "tracking.register_as: expected the name of a registered model, whose champion a day begins with and maybe "
            "replaces; found none"
        )
    known = open_log(rows).columns  # mistakes in it are told before the work
    needed = [experiment.column_of(experiment.user), experiment.column_of(experiment.item), *(keys or ())]
    if absent := [name for name in needed if name not in known]:
        raise InputError(f"--score {rows}: expected the columns {', '.join(absent)}; found {', '.join(known)}")
    check_output(output)
    connect()
    check_storage(experiment)
    prepared = prepare(experiment, echo)
    name = f"{experiment.name}-{prepared.schema.fingerprint[:12]}-{digest_of(experiment)[:12]}"
    folder = Folder(experiment.training.output) / name
    steps = _Steps(folder)
    start = steps.once("start", lambda: champion_of(model, uri))
    echo(f"beginning with {f'the champion, version {start}' if start else 'no champion, there is none yet'}")
    trained = steps.once("trained", lambda: _train(name, experiment, prepared, start, echo, resume_command))
    decision = steps.once("decision", lambda: _gate(name, model, uri, trained["version"], echo))
    champion = steps.once(f"scorer of {Folder(output)}", lambda: champion_of(model, uri))
    scored = predict(checkpoint_folder(f"models:/{model}/{champion}", uri), rows, output, keys, echo)
    return Day(
        name, folder, prepared.folder.location, start, **trained, decision=decision, champion=champion, scored=scored
    )


def champion_of(model: str, uri: str) -> str | None:
    """The version of a registered model that is live; None if there is none, or no such model."""
    found = MlflowClient(tracking_uri=uri).search_registered_models(f"name = '{model}'")
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


def _gate(name: str, model: str, uri: str, version: str, echo: Callable[[str], None]) -> dict[str, Any]:
    decision = promote(model, uri, version, echo=echo, holder=name)
    return {**decision.to_dict(), "note": decision.markdown()}
