"""An ensemble of trials, chosen greedily by validation rows (Caruana et al. 2004), as one checkpoint."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtl_ray.config import Experiment, override
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import Batch, read_directly, to_batch
from mtl_ray.evaluation.evaluate import segment_metrics
from mtl_ray.inference.drift import write_reference
from mtl_ray.inference.evaluate import evaluate_checkpoint
from mtl_ray.models import MultiTaskModel
from mtl_ray.models.checkpoint import load, save_ensemble
from mtl_ray.runs.members import complete
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.schema import ITEM_SUPPORT, USER_KEY, USER_SUPPORT, label_column
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.storage import local_copy
from mtl_ray.tasks.base import TaskHead
from mtl_ray.tracking.registry import example_of, register, signature_of
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.tuning.results import Tuning
from mtl_ray.tuning.space import candidate_name, tune_of, untuned
from mtl_ray.tuning.trial_store import Trial

CANDIDATES = 20
"""Most trials, the best ones, that may become members."""
ROWS = 200_000
"""Most validation rows that choose the members; of more, every second, third and so on is taken."""


@dataclass(frozen=True)
class Selection:
    """The members of an ensemble, and its value on the rows that chose them."""

    counts: dict[int, int]
    """How often each candidate is a member, by its place."""
    value: float


def select_greedily(
    outputs: Sequence[Tensor], value: Callable[[Tensor], float], most: int, *, higher: bool
) -> Selection:
    """Choose members one by one, each time the one with which the mean output is best; a candidate may come again.

    Of the ensembles on the way the best is returned, the smaller one of equals.

    Args:
        outputs: by candidate, (N, outputs) on the scale of the logits.
        value: of a mean output.
        most: most members, repeated ones counted each time.
        higher: whether a larger value is better.
    """
    sign = 1 if higher else -1
    total, members = torch.zeros_like(outputs[0]), []
    best: Selection | None = None
    while len(members) < most:
        values = [value((total + output) / (len(members) + 1)) for output in outputs]
        place = max(range(len(outputs)), key=lambda place: (sign * values[place], -place))
        members.append(place)
        total = total + outputs[place]
        if best is None or sign * values[place] > sign * best.value:
            best = Selection({each: members.count(each) for each in sorted(set(members))}, values[place])
    assert best is not None
    return best


class ValidationRows:
    """The rows of a data set's validation split, by which models are joined."""

    def __init__(self, prepared: Prepared, batch_size: int) -> None:
        folder, every = prepared.folder / "valid", -(-prepared.schema.num_rows["valid"] // ROWS)
        tables = (
            table.take(np.arange(0, len(table), every)) for table in read_directly(folder, folder.files(".parquet"))
        )
        self.batches = [
            to_batch(table.slice(first, batch_size)) for table in tables for first in range(0, len(table), batch_size)
        ]

    def column(self, name: str) -> Tensor:
        """Return a column of all rows."""
        return torch.cat([batch[name] for batch in self.batches])

    @torch.no_grad()
    def outputs(self, model: MultiTaskModel, task: str) -> Tensor:
        """Return (N, outputs) of a task on all rows."""
        return torch.cat([model.evaluation_logits(batch, [task])[task] for batch in self.batches])

    def value_of(self, experiment: Experiment, head: TaskHead, key: str) -> Callable[[Tensor], float]:
        """Return the value of a metric as a function of (N, outputs) of its task.

        Args:
            experiment: evaluation settings.
            head: of the task.
            key: `valid/TASK/METRIC[/SEGMENT]`.
        """
        _, task, metric, *_ = key.split("/")
        names = (label_column(task), USER_KEY, USER_SUPPORT, ITEM_SUPPORT)
        rows: Batch = {name: self.column(name) for name in names}
        label = rows[label_column(task)]
        mask = head.labelled(label)

        def value(logits: Tensor) -> float:
            if metric == "loss":
                loss, count = head.loss(logits.double(), label.double() if label.is_floating_point() else label, mask)
                return float(loss / count)
            buckets = experiment.evaluation.support_buckets
            return segment_metrics({task: head}, rows | {task: head.predict(logits)}, "valid", buckets)[key]

        return value


@dataclass(frozen=True)
class Joined:
    """The ensemble of a search, and how it compares with single trials."""

    members: dict[str, int]
    """How often each trial is a member, by its name."""
    objective: str
    value: float
    """Value of the objective on the validation rows, which chose the members."""
    best: float
    """Value of the best single trial on the same rows."""
    metrics: dict[str, float]
    """Metrics of the test rows, if there are any."""
    first: dict[str, float]
    """Test metrics of the first trial, whose settings are those without a search; empty if it has no model."""
    model_uri: str | None

    def lines(self) -> Iterator[str]:
        """Yield what was joined, and what it brings, for the terminal and the report."""
        told = ", ".join(f"{name} {count} times" if count > 1 else name for name, count in self.members.items())
        yield f"ensemble of {sum(self.members.values())}: {told}"
        yield (
            f"{self.objective}: {self.value:z.4f} of the ensemble, {self.best:z.4f} of the best trial, on the "
            "validation rows that chose them"
        )
        for key, value in self.metrics.items():
            if key.count("/") == 2 and not key.endswith(("/count", "/loss")):
                before = f" ({self.first[key]:z.4f} of the first trial, without a search)" if key in self.first else ""
                yield f"{key}: {value:z.4f}{before}"


def join_trials(tuning: Tuning, prepared: Prepared, folder: RunFolder, run: Run) -> Joined:
    """Join the best trials into one model, evaluate it on the test rows, and register it as a candidate.

    It is registered as `tracking.register_as`, or under the experiment's name. The run's folder receives it as
    `checkpoint/`, and the models of the trials go.

    Args:
        tuning: the search; at least one trial is a candidate.
        prepared: its data set.
        folder: its folder.
        run: its MLflow run.
    """
    experiment, (key, higher) = tuning.experiment, next(iter(tuning.objectives.items()))
    trials = sorted(tuning.candidates, key=lambda trial: trial.best_metrics[key] * (-1 if higher else 1))[:CANDIDATES]
    with tempfile.TemporaryDirectory(prefix="mtl_ray-") as place:
        models = [_loaded(_model_of(trial, folder, Path(place))) for trial in trials]
        rows, task = ValidationRows(prepared, experiment.evaluation.batch_size), key.split("/")[1]
        outputs = [rows.outputs(model, task) for _, model in models]
        value = rows.value_of(experiment, models[0][1].tasks[task], key)
        chosen = select_greedily(outputs, value, tune_of(experiment).ensemble, higher=higher)
        joined = Path(place) / "checkpoint"
        parts = [(*models[number], count) for number, count in chosen.counts.items()]
        settings = override(untuned(experiment), {"tracking.register_as": candidate_name(experiment)}, "tune:")
        save_ensemble(joined, settings, prepared.schema, parts)
        write_reference(joined, prepared, trust=True)
        complete(joined, prepared, folder.joined_trials)
        metrics = evaluate_checkpoint(joined, prepared, "test", trust=True).metrics
        first = next((trial for trial in tuning.candidates if trial.number == 0), None)
        before = {}
        if first:
            before = evaluate_checkpoint(_model_of(first, folder, Path(place)), prepared, "test", trust=True).metrics
        scorer = Scorer(joined, trust=True)
        signature, example = signature_of(scorer), example_of(scorer, prepared)
        uri = register(settings, run, joined, prepared, signature, example, metrics)
    run.log_metrics(metrics, 0)
    members = {trials[number].name: count for number, count in chosen.counts.items()}
    found = Joined(members, key, chosen.value, trials[0].best_metrics[key], metrics, before, uri)
    folder.write_joined(asdict(found))
    folder.trial_models.delete()
    return found


def _loaded(folder: Path) -> tuple[Experiment, MultiTaskModel]:
    loaded = load(folder, trust=True)
    assert isinstance(loaded.model, MultiTaskModel)
    return loaded.experiment, loaded.model


def _model_of(trial: Trial, folder: RunFolder, place: Path) -> Path:
    """Return the checkpoint folder of a trial's best epoch, or a copy of a remote one below `place`."""
    kept = folder.trial_models / trial.id / str(trial.best_epoch)
    return local_copy(kept, place / trial.id) if not (place / trial.id).exists() else place / trial.id / kept.name
