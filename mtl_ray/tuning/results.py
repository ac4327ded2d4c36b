"""The results of a search: constraints, the Pareto front and its knee, the gain over single-task training."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.table import Table

from mtl_ray.config import Experiment, override
from mtl_ray.config.comparison import Changes
from mtl_ray.config.tuning import ConstraintConfig
from mtl_ray.models.checkpoint import SCORE
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.tuning.pareto import delta_m, knee, pareto_front
from mtl_ray.tuning.space import parameters_of, trial_experiment, tune_of, untuned
from mtl_ray.tuning.trial import BEST_EPOCH, BEST_METRICS, searched_metrics
from mtl_ray.tuning.trial_store import Trial

INCUMBENT, ALONE = "incumbent", "alone_"
"""Names of the references: the file as it stands, and (as a prefix) each objective's task trained alone."""

TUNED = "tuned"
"""Name of the best trial when it is compared with the file as it stands."""

Metrics = Mapping[str, float]


def reference_experiments(experiment: Experiment) -> dict[str, Experiment]:
    """Return the trainings that trials are measured by: the file as it stands, and each objective's task alone.

    As the trials, they train single models.
    """
    base = override(untuned(experiment), {"training.num_workers": 1, "training.ensemble": 1})
    found = {INCUMBENT: base}
    for key in tune_of(experiment).objectives if len(base.tasks) > 1 else ():
        task, stopping = key.split("/")[1], base.stopping_metric
        others = [name for name in base.tasks if name != task]
        changes: Changes = {f"tasks.{name}": None for name in others}
        changes |= {f"tasks.{task}.weight": 1.0, f"tasks.{task}.after": None, "balancing": {"kind": "static"}}
        changes["main"] = task
        if stopping and stopping.split("/")[1] in others:
            changes["training.early_stopping.metric"] = key
        found[ALONE + task] = override(base, changes, f"tune: {task} alone:")
    return found


def read_references(experiment: Experiment, folder: RunFolder) -> dict[str, dict[str, float]]:
    """Return the metrics of the references that a search has trained, by name."""
    files = folder.references
    names = [name for name in reference_experiments(experiment) if files.exists(name)]
    return {name: files.read(name)["metrics"] for name in names}


def best_epoch_of_file(folder: RunFolder) -> int:
    """Return the epoch of the best score of the file as it stands."""
    history = folder.references.read(INCUMBENT)["history"]
    return max(history, key=lambda metrics: (metrics[SCORE], metrics["epoch"]))["epoch"]


def limit_of(constraint: ConstraintConfig, incumbent: Metrics, *, higher: bool) -> tuple[float, bool]:
    """Return the bound of a constraint, and whether it is a lower bound."""
    if constraint.worse_by is None:
        least = constraint.at_least is not None
        return (constraint.at_least if least else constraint.at_most), least  # pyright: ignore[reportReturnType]
    value = incumbent[constraint.metric]
    return value + (-1 if higher else 1) * constraint.worse_by * abs(value), higher


class _Incumbent(Trial):
    @property
    def name(self) -> str:
        return INCUMBENT


@dataclass(frozen=True)
class Tuning:
    """The trials of a search, finished or not, and the references that they are measured by."""

    experiment: Experiment
    trials: list[Trial]
    references: Mapping[str, Metrics]
    """Metrics of the validation rows by name (see `reference_experiments`)."""

    @cached_property
    def objectives(self) -> dict[str, bool]:
        """The keys of the objectives, and whether higher is better."""
        return {key: direction == "max" for key, direction in tune_of(self.experiment).objectives.items()}

    @cached_property
    def limits(self) -> list[tuple[str, float, bool]]:
        """The metric and the bound of each constraint, and whether it is a lower bound."""
        higher = searched_metrics(tune_of(self.experiment))
        constraints = tune_of(self.experiment).constraints
        incumbent = self.references.get(INCUMBENT, {})
        return [(c.metric, *limit_of(c, incumbent, higher=higher[c.metric])) for c in constraints]

    def violations(self, metrics: Metrics) -> list[float]:
        """Return by how much searched metrics break each constraint; at most 0 where they do not."""
        return [limit - metrics[key] if least else metrics[key] - limit for key, limit, least in self.limits]

    def values(self, metrics: Metrics) -> list[float]:
        """Return the values of the objectives."""
        return [metrics[key] for key in self.objectives]

    @cached_property
    def candidates(self) -> list[Trial]:
        """The trials that trained to the end and break no constraint; those that the time ended count, too."""
        limited = tune_of(self.experiment).minutes is not None
        done = [t for t in self.trials if t.state == "finished" or (limited and t.best_metrics and not t.failure)]
        return [trial for trial in done if all(v <= 0 for v in self.violations(trial.best_metrics))]

    @cached_property
    def incumbent(self) -> Trial | None:
        """The file as it stands as a trial without changes; None if a searched metric is not defined on it."""
        found = self.references.get(INCUMBENT, {})
        metrics = {key: found.get(key, math.nan) for key in searched_metrics(tune_of(self.experiment))}
        if not all(map(math.isfinite, metrics.values())) or any(v > 0 for v in self.violations(metrics)):
            return None
        return _Incumbent(INCUMBENT, -1, {}, "finished", best_metrics=metrics)

    @cached_property
    def front(self) -> list[Trial]:
        """The candidates, the file as it stands among them, that no other one beats in every objective."""
        if not self.candidates:
            return []
        competing = [*([self.incumbent] if self.incumbent else []), *self.candidates]
        values = [self.values(trial.best_metrics) for trial in competing]
        return [competing[i] for i in pareto_front(values, [*self.objectives.values()])]

    @cached_property
    def best(self) -> Trial | None:
        """The best of the front (with several objectives its knee), or None without any candidate."""
        if not self.front:
            return None
        values = [self.values(trial.best_metrics) for trial in self.front]
        return self.front[knee(values, [*self.objectives.values()])]

    @property
    def keeps_file(self) -> bool:
        """Whether no trial is better than the file as it stands."""
        return self.best is not None and self.best is self.incumbent

    def best_experiment(self) -> Experiment | None:
        """Return the experiment of the best trial."""
        return trial_experiment(self.experiment, self.best.changes) if self.best else None

    def comparison(self) -> Experiment | None:
        """Return an experiment that compares the best trial with the file as it stands, on test rows over 5 seeds."""
        if not self.best or self.keeps_file:
            return None
        keys = [key.split("/") for key in searched_metrics(tune_of(self.experiment))]
        metrics = {f"{task}/{metric}": None for _, task, metric, *_ in keys if metric != "loss"}
        segments = {segment: None for _, _, _, *named in keys for segment in named or ["all"]}
        compare = {
            "baseline": INCUMBENT,
            "seeds": [self.experiment.seed + number for number in range(5)],
            "metrics": list(metrics),
            "segments": list(segments),
            "variants": {INCUMBENT: {}, TUNED: self.best.changes},
        }
        changes: Changes = {"compare": compare, "data.seed": self.experiment.data_seed}
        return override(untuned(self.experiment), changes, "tune:")

    def delta_m(self, metrics: Metrics) -> float | None:
        """Return the mean relative gain over training each objective's task alone, or None if it is undefined."""
        incumbent = self.references.get(INCUMBENT, {})
        alone = {key: self.references.get(ALONE + key.split("/")[1], incumbent).get(key) for key in self.objectives}
        references = [value for value in alone.values() if value]
        if len(references) < len(alone) or any(not math.isfinite(metrics.get(key, math.inf)) for key in alone):
            return None
        return delta_m(self.values(metrics), references, [*self.objectives.values()])

    def header(self) -> list[str]:
        """Return the column titles of `rows`."""
        constrained = [key for key, _, _ in self.limits if key not in self.objectives]
        return ["trial", "state", "epochs", *self.objectives, *constrained, "delta-m", "settings"]

    def rows(self, trials: Sequence[Trial] | None = None) -> Iterator[list[str]]:
        """Yield the references, then trials (by default all), sorted by the first objective, best first."""
        for name, metrics in self.references.items():
            state = "best" if name == INCUMBENT and self.keeps_file else "reference"
            yield self._row(name.replace("_", " "), state, "", metrics, "")
        first, higher = next(iter(self.objectives.items()))
        shown = self.trials if trials is None else trials
        for trial in sorted(
            shown, key=lambda t: (t.failure is not None, _order(t.best_metrics.get(first), higher=higher))
        ):
            state = "best" if trial is self.best else "front" if trial in self.front else trial.state
            if trial.state == "finished" and trial not in self.candidates:
                state = "breaks a constraint"
            described = trial.failure or ", ".join(_described(trial))
            epochs = str(max(trial.history, default=0))
            yield self._row(trial.name, state, epochs, {} if trial.failure else trial.best_metrics, described)

    def _row(self, name: str, state: str, epochs: str, metrics: Metrics, settings: str) -> list[str]:
        keys = self.header()[3:-2]
        gain = self.delta_m(metrics) if metrics else None
        values = (f"{metrics[key]:z.4f}" if key in metrics else "-" for key in keys)
        return [name, state, epochs, *values, "-" if gain is None else f"{100 * gain:+z.2f}%", settings]

    def table(self, most: int | None = None) -> Table:
        """Return a table for the terminal, of all trials or of at most `most` running and best ones."""
        trials = self.trials
        if most is not None:
            running = [trial for trial in trials if trial.state == "running"][-most:]
            key, higher = next(iter(self.objectives.items()))
            others = sorted(
                (t for t in trials if t.state != "running"),
                key=lambda t: _order(t.best_metrics.get(key), higher=higher),
            )
            trials = running + others[: max(0, most - len(running))]
        result = Table(title=f"{self.experiment.name}: {self.progress()}")
        for title in self.header():
            result.add_column(title, justify="left" if title in ("trial", "state", "settings") else "right")
        for row in self.rows(trials):
            result.add_row(*row)
        return result

    def progress(self) -> str:
        """Return the progress of the search, as a line."""
        states = [trial.state for trial in self.trials]
        told = [f"{states.count(s)} {s}" for s in ("finished", "stopped", "failed", "running") if s in states]
        return f"{tune_of(self.experiment).size}: {', '.join(told) or 'no trial begun'}"

    def to_dict(self) -> dict[str, Any]:
        """Return the results in a form for JSON."""
        return {
            "objectives": dict(tune_of(self.experiment).objectives),
            "references": {name: dict(metrics) for name, metrics in self.references.items()},
            "limits": [{"metric": key, "limit": limit, "at_least": least} for key, limit, least in self.limits],
            "best": self.best.name if self.best else None,
            "front": [trial.name for trial in self.front],
            "metrics": dict(self.best.best_metrics) if self.best else {},
            "delta_m": self.delta_m(self.best.best_metrics) if self.best else None,
            "parameters": list(parameters_of(self.experiment)),
            "trials": [
                {
                    "name": t.name,
                    "state": t.state,
                    "params": t.params,
                    "changes": t.changes,
                    BEST_METRICS: t.best_metrics,
                    BEST_EPOCH: t.best_epoch,
                    "epochs": max(t.history, default=0),
                    "failure": t.failure,
                    "delta_m": self.delta_m(t.best_metrics) if t.best_metrics else None,
                    "run_id": t.run_id,
                }
                for t in self.trials
            ],
        }


def _order(value: float | None, *, higher: bool) -> float:
    return math.inf if value is None else -value if higher else value


def _described(trial: Trial) -> Iterator[str]:
    """Yield the changes of a trial; for a member of a population, whose changes are schedules, its present values."""
    changes = trial.params if "balancing" in trial.changes else trial.changes
    for path, value in changes.items():
        if value is None:
            yield f"without {path.removeprefix('tasks.')}"
        else:
            yield f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}"
