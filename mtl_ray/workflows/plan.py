"""The plan that `mtl-ray check` prints: what will be read, learned and computed, before anything runs."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mtl_ray
from mtl_ray.cluster.machine import physical_memory
from mtl_ray.config import Experiment
from mtl_ray.config.cost import Complexity
from mtl_ray.config.data import RandomSplitConfig
from mtl_ray.config.visibility import hidden_by
from mtl_ray.data.preparation.events import first_rows
from mtl_ray.data.preparation.findings import findings, refuse_lost_join
from mtl_ray.data.preparation.fit import fit_partition, fitted_features, fitted_tasks, vocabularies
from mtl_ray.data.preparation.lost_cells import added, refuse_lost_cells
from mtl_ray.data.preparation.partition import partition_of
from mtl_ray.data.preparation.quality_report import quality_report
from mtl_ray.data.preparation.side_tables import raw_columns, side_tables
from mtl_ray.data.preparation.split import Cuts
from mtl_ray.data.preparation.stage import Stage
from mtl_ray.data.prepare import example_keys, find_prepared
from mtl_ray.data.sources import Raw, open_source
from mtl_ray.errors import InputError
from mtl_ray.features.base import feature_kinds
from mtl_ray.schema import Schema, num_steps
from mtl_ray.storage import Folder
from mtl_ray.training.kept_epoch import describe_kept, stopping_metric
from mtl_ray.training.recipe import Choice, choices, with_choices

SAMPLE_ROWS = 100_000
"""Rows of the log's beginning that are read, at least, for an estimate while the data set is not prepared."""


@dataclass(frozen=True)
class Plan:
    """The plan of a run: everything that it would do."""

    experiment: Experiment
    schema: Schema
    exact: bool
    """True if the numbers come from the prepared data set, not from the first rows of the log."""
    complexity: Complexity
    """Cost of the model."""
    findings: list[str]
    """What may spoil a model, see `findings`."""
    choices: Sequence[Choice] = ()
    """Settings that the file leaves out, as they were chosen for these data."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        steps = num_steps(self.schema, self.experiment.training.batch_size)
        return {
            "exact": self.exact,
            "findings": self.findings,
            "recipe": [asdict(choice) for choice in self.choices],
            "parameters": sum(self.complexity.parameters.values()),
            "parameters_by_part": self.complexity.parameters,
            "multiply_adds_per_row": self.complexity.multiply_adds,
            "memory_bytes": self.complexity.memory_bytes,
            "memory_bytes_by_part": self.memory(),
            "is_too_large_for_this_machine": self.is_too_large,
            "exchanged_bytes": {"summed": self.complexity.summed_bytes, "rows": self.complexity.row_bytes},
            "rows": self.schema.num_rows,
            "steps_per_epoch": steps,
            "steps": steps * self.experiment.training.epochs,
            "trainings": self.experiment.training.ensemble,
            "inputs": {name: self.inputs(name) for name in self.experiment.tasks},
        }

    def memory(self) -> dict[str, int]:
        """Bytes of a worker, by what takes them."""
        cost = self.complexity
        return {
            "parameters": cost.parameter_bytes,
            "gradients": cost.summed_bytes + cost.row_bytes,
            "optimizer": cost.optimizer_bytes,
            "activations": cost.activation_bytes,
        }

    @property
    def is_too_large(self) -> bool:
        """True if a worker needs more memory than this machine has."""
        return self.complexity.memory_bytes > physical_memory()

    def inputs(self, task: str) -> list[str]:
        """Features that the task may see."""
        hidden = hidden_by(self.experiment.features, task, self.experiment.tasks[task])
        return [name for name in self.experiment.features if name not in hidden]

    def lines(self) -> Iterator[str]:
        """For a person."""
        experiment, numbers = self.experiment, self.to_dict()
        yield f"experiment {experiment.name}: valid"
        source = "the prepared data set" if self.exact else "the first rows of the log (an estimate, not prepared yet)"
        yield f"numbers below are from {source}"
        yield "features:"
        for name, kind in feature_kinds(experiment).items():
            yield f"  {name}: {kind.describe(self.schema.features[name])}"
        yield "tasks:"
        for name, task in experiment.tasks.items():
            hidden = hidden_by(experiment.features, name, task)
            sees = f"every input but {', '.join(sorted(hidden))}" if hidden else "every input"
            yield f"  {name}: {task.kind}, weight {experiment.weights()[name]:g}, sees {sees}"
        yield "parameters:"
        for part, count in self.complexity.parameters.items():
            yield f"  {part}: {count:,}"
        yield f"  total: {numbers['parameters']:,}"
        yield f"forward multiply-adds per row: {self.complexity.multiply_adds:,.0f}"
        memory = " + ".join(f"{size / 2**20:,.1f} of {part}" for part, size in self.memory().items())
        yield f"estimated training memory of a worker: {self.complexity.memory_bytes / 2**20:,.1f} MiB = {memory}"
        if self.is_too_large:
            part, count = max(self.complexity.parameters.items(), key=lambda each: each[1])
            largest, size = max(self.memory().items(), key=lambda each: each[1])
            yield (
                f"too large for this machine, which has {physical_memory() / 2**30:,.0f} GiB: {size / 2**30:,.0f} GiB "
                f"of {largest} alone; the largest part of the model is {part}, with {count:,} numbers"
            )
        training = experiment.training
        summed, rows = self.complexity.summed_bytes / 2**20, self.complexity.row_bytes / 2**20
        yield (
            f"exchanged in a step: {summed:,.1f} MiB of dense gradients, which the workers sum, and at most "
            f"{rows:,.1f} MiB of rows of large tables, which each worker sends to all others"
        )
        fewest, most = training.fewest_workers, training.most_workers
        workers = f"{fewest} to {most}" if fewest < most else f"{most}"
        yield (
            f"steps: {numbers['steps']:,} = {training.epochs} epochs x {numbers['steps_per_epoch']:,} global batches "
            f"of {training.batch_size:,} rows on {workers} worker(s)"
        )
        if (members := training.ensemble) > 1:
            size = members * self.complexity.memory_bytes / 2**20
            yield (
                f"ensemble: {members} members, so {members} such trainings, {members * numbers['parameters']:,} "
                f"parameters, and {size:,.1f} MiB of memory on as many workers if all are trained at once; a "
                f"prediction takes {members} forward passes"
            )
        if self.choices:
            yield "chosen for these data, as the file leaves them out (`defaults: fixed` does not):"
            yield from (f"  {choice}" for choice in self.choices)
        if self.exact:
            yield f"epochs: {describe_kept(experiment, self.schema)}"
        yield "found, the gravest first:" if self.findings else "found nothing amiss"
        yield from (f"  {line}" for line in self.findings)


def plan(experiment: Experiment) -> Plan:
    """Look at the data and build the model without memory for its weights.

    Raises:
        InputError: the data cannot be read, lack a column, or find too little in the tables.
    """
    raw = open_source(experiment)
    raw_columns(experiment, raw)
    prepared = find_prepared(experiment, raw)
    schema, quality = (prepared.schema, prepared.quality) if prepared else _estimate(experiment, raw)
    found = findings(quality, whole=prepared is not None)
    if prepared:
        refuse_lost_join(experiment, quality)
        stopping_metric(experiment, schema)
    chosen = choices(experiment, schema)
    experiment = with_choices(experiment, chosen)
    return Plan(experiment, schema, prepared is not None, _cost(experiment, schema), found, chosen)


def _cost(experiment: Experiment, schema: Schema) -> Complexity:
    """Return the cost of the model, kept under `data.cache`: torch takes longer to load than all else of a plan.

    It is kept by a digest of all that decides it, this package's own files included.
    """
    digest = hashlib.sha256(version("torch").encode())
    for file in sorted(Path(mtl_ray.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    digest.update(experiment.model_dump_json(exclude={"name", "tracking", "compare", "promotion", "tune"}).encode())
    digest.update(schema.model_dump_json(include={"features", "tasks"}).encode())
    kept = Folder(experiment.data.cache) / "costs"
    name = f"{digest.hexdigest()}.json"
    if kept.exists(name):
        try:
            return kept.read_model(name, Complexity)
        except InputError:
            warnings.warn(
                f"{kept}/{name}: expected a model's cost, found a damaged file; it is made again", stacklevel=2
            )
    from mtl_ray.models.complexity import complexity_of  # noqa: PLC0415 - torch is slow to load

    found = complexity_of(experiment, schema)
    with suppress(OSError):  # where nothing can be kept, it is found anew each time
        kept.write_atomic(name, found.model_dump_json())
    return found


def _estimate(experiment: Experiment, raw: Raw) -> tuple[Schema, dict[str, Any]]:
    """A schema fitted to the first rows of the log, all taken as training rows, and what `quality.json` would say."""
    columns = raw_columns(experiment, raw)
    stage = Stage(experiment, columns.log, 1, Folder(experiment.data.output), columns.joined)
    users, items, mended, lost = side_tables(experiment, raw, columns)
    events, all_events = None, True
    if raw.events is not None:
        raw, events, all_events = first_rows(experiment, raw, columns, SAMPLE_ROWS)
    first = stage.first(raw.chunks, SAMPLE_ROWS)
    lost = added([lost, first.lost])
    refuse_lost_cells(lost)
    if first.staged is None:
        raise InputError("the log has no usable row among its first; run `mtl-ray prepare` to see why")
    everything = experiment.model_copy(
        update={"data": experiment.data.model_copy(update={"split": RandomSplitConfig(valid=0, test=0)})}
    )
    sample = partition_of(everything, first.staged, users, items, Cuts())
    total = fit_partition(everything, sample)
    staged = {"rows": first.num_rows, "reasons": first.reasons, "examples": [], "lost": lost, "events": events}
    quality = quality_report(everything, staged, total, mended)
    if first.is_whole and all_events:
        refuse_lost_join(experiment, quality, *example_keys(experiment, total, users, items))
    schema = Schema(
        features=fitted_features(experiment, total, vocabularies(experiment, total)),
        tasks=fitted_tasks(experiment, total),
        num_rows={"train": raw.num_rows, "valid": 0, "test": 0},
        train_offsets=(0, raw.num_rows),
        num_lanes=experiment.data.lanes,
        fingerprint="",
        content_hash="",
    )
    return schema, quality
