"""The files of a run: their names, and the only code that writes and reads them.

Every run has `run.json`. Beside it lie

- of a training: `history.json`, `evaluation.json`, the checkpoints with Ray Train's manifest (see `runs.recovery`), a
  trace of the profiler, a copy of the registered model that it starts from, `daily.json` if `daily` started it, and the
  folder `holdout/` while it chooses the number of epochs, then `epochs.json`;
- of a training of an ensemble: `members/1/` and so on while its members train, each a training with `members.json` at
  its end; then `ensemble/`, the common checkpoint, and `members.json`;
- of a comparison: `cells/`, `comparison.md` and `comparison.json`;
- of a search: `references/`, `trials/`, `refit/`, Ray Tune's `search/`, `tuning.json`, `best.yaml` and `compare.yaml`,
  the trials' `models/` while it lasts, then `checkpoint/`, the ensemble of trials, and `ensemble.json`;
- of a task selection: `affinity.json`, `affinity.png` and `suggested.yaml`;
- of all but the last: `report.html` with its pictures, and `unlogged.jsonl` while MLflow misses metrics (see
  `tracking.tracked_run`).

Files that a resumed run depends on are written aside and renamed, so they are whole whenever a process was killed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml

from mtl_ray.config import Experiment, parse
from mtl_ray.credentials import without_credentials
from mtl_ray.errors import InputError
from mtl_ray.runs.records import RUN_FILE, Command, JsonFiles, RunRecord, TrainedMember
from mtl_ray.storage import Folder, json_text
from mtl_ray.tracking.tracked_run import Run, lost_entries
from mtl_ray.training.profiler import TRACE

if TYPE_CHECKING:
    from mtl_ray.inference.evaluate import Evaluation
    from mtl_ray.reporting.html import HtmlReport

HISTORY, EVALUATION, DAILY_STEPS = "history.json", "evaluation.json", "daily.json"
EPOCHS, MEMBERS, JOINED = "epochs.json", "members.json", "ensemble.json"

History = dict[int, dict[str, float]]
"""Metrics by epoch."""


class RunFolder(Folder):
    """The folder of one run."""

    @classmethod
    def of(cls, experiment: Experiment, name: str) -> "RunFolder":
        """Return the folder of an experiment's run, which need not exist yet."""
        return cls((Folder(experiment.training.output) / name).location)

    @property
    def has_record(self) -> bool:
        """True if this is the folder of a run that has begun."""
        return self.exists(RUN_FILE)

    def write_record(
        self,
        command: Command,
        experiment: Experiment,
        run: Run,
        dataset: str | None = None,
        searched: Experiment | None = None,
    ) -> None:
        """Write `run.json` and make the folder if need be.

        Args:
            command: command of the run.
            experiment: what the file says.
            run: MLflow run.
            dataset: location of the prepared data set.
            searched: of a search, the experiment with all that was chosen for it.
        """
        tree, uri = experiment.model_dump(mode="json"), without_credentials(run.uri)
        search = searched and searched.model_dump(mode="json")["tune"]
        record = asdict(RunRecord(command, tree, dataset, uri, run.run_id, search))
        if not search:
            del record["search"]
        self.create()
        self.write_atomic(RUN_FILE, json_text(record) + "\n")

    def read_record(self) -> RunRecord:
        """Read `run.json`."""
        return RunRecord(**self.read_json(RUN_FILE))

    def record_to_resume(self, command: Command, experiment: Experiment) -> RunRecord:
        """Read `run.json` of a run that is to be resumed.

        Raises:
            InputError: there is no such run, or it is one of another command or experiment.
        """
        parent, name = self.path.rpartition("/")[0], self.name
        if not self.has_record:
            raise InputError(f"--resume {name}: no such run under {parent}")
        record = self.read_record()
        if record.command != command:
            raise InputError(f"--resume {name}: expected a run of `{command}`; it is one of `{record.command}`")
        # The record may be of a time before some settings, whose defaults it means.
        own, recorded = (json.loads(e.model_dump_json()) for e in (experiment, record.parse_experiment()))
        changed = [section for section in own if own[section] != recorded[section]]
        if changed:
            raise InputError(
                f"--resume: the experiment differs from that of the run in {', '.join(changed)}; "
                "resume with the same file and --set values, or start a new run without --resume"
            )
        return record

    def read_history(self) -> History:
        """Return the metrics of the finished epochs; empty before the first one."""
        found = self.read_json(HISTORY) if self.exists(HISTORY) else {}
        return {int(epoch): without_null(metrics) for epoch, metrics in found.items()}

    def write_history(self, history: History) -> None:
        """Write `history.json`."""
        self.write_atomic(HISTORY, json_text(history, None))

    def read_epochs(self) -> int | None:
        """Return the number of epochs that was chosen on held-out rows, if it was."""
        return self.read_json(EPOCHS)["epochs"] if self.exists(EPOCHS) else None

    def read_factors(self) -> dict[str, float]:
        """Return the shares of their weights that tasks keep, as the guard found them on held-out rows, by task."""
        return self.read_json(EPOCHS).get("factors", {})

    def write_epochs(self, epochs: int, factors: Mapping[str, float]) -> None:
        """Write `epochs.json`: the number of epochs, and what `read_factors` returns."""
        self.write_atomic(EPOCHS, json_text({"epochs": epochs, "factors": factors}) + "\n")

    @property
    def members(self) -> Folder:
        """The folder of the trainings of an ensemble's members, while they are needed."""
        return self / "members"

    @property
    def joined(self) -> Folder:
        """The checkpoint of an ensemble."""
        return self / "ensemble"

    @property
    def joined_trials(self) -> Folder:
        """The checkpoint of the ensemble of a search's trials."""
        return self / "checkpoint"

    def read_members(self) -> list[TrainedMember]:
        """Return the members of a run's ensemble, or the one of a member's folder; none before they have ended."""
        return [TrainedMember(**found) for found in self.read_json(MEMBERS)] if self.exists(MEMBERS) else []

    def write_members(self, members: Sequence[TrainedMember]) -> None:
        """Write `members.json`."""
        self.write_atomic(MEMBERS, json_text([asdict(member) for member in members]) + "\n")

    @property
    def has_evaluation(self) -> bool:
        """True if this is the folder of a training that has ended."""
        return self.exists(EVALUATION)

    def write_evaluation(self, evaluation: "Evaluation", model_uri: str | None) -> None:
        """Write `evaluation.json`."""
        # That of a single model, which has no spread, is as it has always been.
        content = {name: value for name, value in asdict(evaluation).items() if value or name != "spread"}
        self.write_atomic(EVALUATION, json_text({"model_uri": model_uri, **content}))

    def read_evaluation(self) -> "tuple[Evaluation, str | None]":
        """Return the evaluation on the test rows, and the URI of the registered model."""
        # Ray Train's controller loads this module before it starts a worker, and needs no evaluation.
        from mtl_ray.evaluation.spread import SpreadCheck  # noqa: PLC0415
        from mtl_ray.evaluation.uncertainty import Bin  # noqa: PLC0415
        from mtl_ray.inference.evaluate import Evaluation  # noqa: PLC0415

        saved = self.read_json(EVALUATION)
        saved["metrics"] = without_null(saved["metrics"])
        model_uri = saved.pop("model_uri")
        calibration = {task: [Bin(*values) for values in bins] for task, bins in saved.pop("calibration").items()}
        spread = {key: SpreadCheck(*values) for key, values in saved.pop("spread", {}).items()}
        return Evaluation(**saved, calibration=calibration, spread=spread), model_uri

    @property
    def trace(self) -> str:
        """Location of the profiler's trace."""
        return f"{self}/{TRACE}"

    def read_daily_steps(self) -> dict[str, Any]:
        """Return the result of each finished step of `daily`."""
        return self.read_json(DAILY_STEPS) if self.exists(DAILY_STEPS) else {}

    def write_daily_steps(self, steps: Mapping[str, Any]) -> None:
        """Write `daily.json` and make the folder if need be."""
        self.create()
        self.write_atomic(DAILY_STEPS, json_text(steps) + "\n")

    def earlier_model(self, setting: str, model: str) -> Folder:
        """Return the folder for a copy of the registered model that a setting of `training` names."""
        return self / re.sub(r"[^A-Za-z0-9@.]+", "-", f"{setting}-{model}")

    @property
    def grid_runs(self) -> JsonFiles:
        """The result of each training of a comparison, `cells/VARIANT/[FOLD-]seedN.json`."""
        return JsonFiles(self / "cells")

    @property
    def references(self) -> JsonFiles:
        """The result of each training that a search measures its trials by."""
        return JsonFiles(self / "references")

    @property
    def trials(self) -> JsonFiles:
        """The trials of a search (see `tuning.trial_store`)."""
        return JsonFiles(self / "trials", indent=None)

    @property
    def trial_models(self) -> Folder:
        """The models of a search's trials, `ID/EPOCH/`, until they are joined."""
        return self / "models"

    @property
    def refits(self) -> JsonFiles:
        """The result of each training of a search's winner."""
        return JsonFiles(self / "refit")

    @property
    def search(self) -> Folder:
        """Ray Tune's own state and the trials' checkpoints, while the search is on."""
        return self / "search"

    def keep_report(self, report: "HtmlReport", run: Run) -> None:
        """Write `report.html` and its pictures, and log them in MLflow. The report ends with what MLflow lacks."""
        run.log_kept()
        if lost := lost_entries(self):
            report.heading("What MLflow lacks of this run")
            report.table(["entry, and the reason"], [[line] for line in lost])
        run.keep(report.files())

    def keep_comparison(self, markdown: str, results: Mapping[str, Any], run: Run) -> None:
        """Write the results of a comparison, and log them in MLflow."""
        run.keep({"comparison.md": markdown, "comparison.json": json_text(results) + "\n"})

    def keep_search(
        self, results: Mapping[str, Any], best: Experiment | None, comparison: Experiment | None, run: Run
    ) -> None:
        """Write the results of a search, the latter two as experiment files, and log them in MLflow."""
        files = {"tuning.json": json_text(results) + "\n"}
        for name, experiment in {"best.yaml": best, "compare.yaml": comparison}.items():
            if experiment:
                tree = experiment.model_dump(mode="json", exclude_unset=True)
                files[name] = _yaml({section: found for section, found in tree.items() if found is not None})
        run.keep(files)

    @property
    def has_joined(self) -> bool:
        """True if this is the folder of a search whose trials have been joined into an ensemble."""
        return self.exists(JOINED)

    def write_joined(self, joined: Mapping[str, Any]) -> None:
        """Write `ensemble.json`: the ensemble of a search's trials."""
        self.write_atomic(JOINED, json_text(joined) + "\n")

    def read_joined(self) -> dict[str, Any]:
        """Return the ensemble of a search's trials."""
        found = self.read_json(JOINED)
        return found | {key: without_null(found[key]) for key in ("metrics", "first")}

    def write_task_selection(self, results: Mapping[str, Any], figure: bytes, suggested: Mapping[str, Any]) -> None:
        """Write the results of a task selection: numbers, a figure (PNG) and the suggested experiment file.

        Raises:
            InputError: what is suggested is no valid experiment.
        """
        self.write_bytes("affinity.png", figure)
        self.write_bytes("affinity.json", (json_text(results) + "\n").encode())
        parse(dict(suggested), "suggested.yaml")
        self.write_bytes("suggested.yaml", _yaml(suggested).encode())


def without_null(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out metrics that were not finite."""
    return {name: value for name, value in metrics.items() if value is not None}


def _yaml(tree: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(tree), sort_keys=False)
