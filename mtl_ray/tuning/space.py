"""Turn the parameters of a trial into its experiment, and check a search before any work."""

import difflib
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from mtl_ray.config.comparison import Changes
from mtl_ray.config.experiment import Experiment
from mtl_ray.config.loading import override
from mtl_ray.config.tasks import directed_metrics
from mtl_ray.config.training import ElasticConfig
from mtl_ray.config.tuning import (
    ChoiceConfig,
    EntryConfig,
    LogUniformConfig,
    RandIntConfig,
    SimplexConfig,
    SubsetConfig,
    TuneConfig,
    UniformConfig,
)
from mtl_ray.errors import InputError
from mtl_ray.schema import segments

Domain = UniformConfig | LogUniformConfig | RandIntConfig | ChoiceConfig
Draw = Callable[[str, Domain], Any]
"""Takes the name and the domain of a parameter; returns its value, for a `ChoiceConfig` the label."""

UNIT, BOTH = UniformConfig(low=0, high=1), ChoiceConfig(values={"true": True, "false": False})

TUNABLE = re.compile(
    r"(model|balancing)(\..+)?|tasks|tasks\.\*\.weight|features\.[^.]+\.(dim|(encoder|cold_start|compression)(\..+)?)"
    r"|tasks\.[^.]+\.(weight|loss|gamma|label_smoothing|masked_input|temperature|dim)"
    r"|training\.(?!num_workers|use_gpu|cpus_per_worker|threads_per_worker|max_failures|cache_memory|output).+"
)
"""Paths whose change affects neither the data set, which all trials share, nor the use of machines."""

MIN_PROBES, MAX_PROBES = 50, 2000


def tune_of(experiment: Experiment) -> TuneConfig:
    """Return the section `tune`. Raises InputError if there is none."""
    if experiment.tune is None:
        raise InputError("tune: expected a section `tune` with `space` and `objectives` in the experiment file")
    return experiment.tune


def untuned(experiment: Experiment) -> Experiment:
    """Return the experiment of a single training, without `tune` and `compare`."""
    return experiment.model_copy(update={"tune": None, "compare": None})


def candidate_name(experiment: Experiment) -> str:
    """Return the name under which a search registers its model: `tracking.register_as`, or the experiment's."""
    return experiment.tracking.register_as or experiment.name


def changes_of(experiment: Experiment, draw: Draw) -> Changes:
    """Return the changes of a trial by dotted path, with parameters from `draw`.

    Parameters whose `when` does not hold or whose task is left out are not drawn.
    """
    changes: Changes = {}
    base = untuned(experiment)
    space = tune_of(experiment).space
    for path in sorted(space, key=lambda path: isinstance(space[path], SimplexConfig)):
        entry = space[path]
        if entry.when and not _holds(entry.when, override(base, changes, "tune.space:").model_dump(mode="json")):
            continue
        match entry:
            case SubsetConfig():
                for name in entry.of or _auxiliary(experiment):
                    if not BOTH.values[draw(f"tasks.{name}", BOTH)]:
                        changes[f"tasks.{name}"] = None
            case SimplexConfig():
                present = [n for n in entry.of or experiment.tasks if changes.get(f"tasks.{n}", n) is not None]
                units = [draw(f"tasks.{name}.weight", UNIT) for name in present]
                for name, weight in zip(present, dirichlet(units, entry.concentration), strict=True):
                    changes[f"tasks.{name}.weight"] = weight
            case ChoiceConfig():
                changes[path] = entry.values[draw(path, entry)]
            case _:
                section, _, rest = path.partition(".")
                owner = f"{section}.{rest.partition('.')[0]}"
                if owner not in changes or changes[owner] is not None:
                    changes[path] = draw(path, entry)
    return changes


def trial_experiment(experiment: Experiment, changes: Changes) -> Experiment:
    """Return the experiment of a trial. Raises InputError if the changes are invalid together."""
    return override(untuned(experiment), changes, "tune.space:")


def dirichlet(units: list[float], concentration: float) -> list[float]:
    """Return (T,) weights that sum to one, for (T,) numbers in [0, 1].

    The quantiles g_t of the gamma distribution at independent uniform numbers, over their sum, have the symmetric
    Dirichlet distribution. Any part of them, over its own sum, has it too (Devroye 1986, XI.4).
    """
    import numpy as np  # noqa: PLC0415 - slow to load, and the experiment file must be checked at once
    from scipy.special import gammaincinv  # noqa: PLC0415

    inner = np.clip(units, 1e-9, 1 - 1e-9)  # 1 is at infinity
    gamma = np.maximum(gammaincinv(concentration, inner), 1e-300)
    return (gamma / gamma.sum()).tolist()


def drawn_from(params: Mapping[str, Any]) -> Draw:
    """Return a `Draw` that gives known parameters."""
    return lambda name, _: params[name]


def parameters_of(experiment: Experiment) -> dict[str, Domain]:
    """Return every parameter that a trial can have. Raises InputError for an invalid search (see `check_tune`)."""
    space = tune_of(experiment).space
    found: dict[str, Domain] = {}
    for name in _names_of(experiment, space.get("tasks.*.weight")):
        found[f"tasks.{name}.weight"] = UNIT
    for name in _names_of(experiment, space.get("tasks")):
        found[f"tasks.{name}"] = BOTH
    for path, entry in space.items():
        if not isinstance(entry, SimplexConfig | SubsetConfig):
            if path in found:
                raise InputError(f"tune.space.{path}: already part of the `simplex`; remove one of them")
            found[path] = entry
    return found


def check_tune(experiment: Experiment) -> None:
    """Check that the search can be done.

    Raises:
        InputError: no section `tune`, an unknown path, a value that its field does not take, settings that do not go
            together, a metric that no task produces, or a parameter that is never searched.
    """
    tune = tune_of(experiment)
    for path in tune.space:
        if path.partition(".")[0] in Experiment.model_fields and not TUNABLE.fullmatch(path):
            raise InputError(
                f"tune.space.{path}: expected a path that leaves alone the data set, which trials share, and the "
                "machine: model, balancing, training, tasks.NAME.weight (loss, masked_input, ...), features.NAME.dim "
                "(encoder, cold_start, compression)"
            )
        section, _, rest = path.partition(".")
        names = {"tasks": experiment.tasks, "features": experiment.features}.get(section)
        if names and path not in ("tasks", "tasks.*.weight") and rest.partition(".")[0] not in names:
            raise InputError(f"tune.space.{path}: no such entry; {section} are {', '.join(names)}")
    for setting in ("warm_start", "distill"):
        if getattr(experiment.training, setting) is not None or f"training.{setting}" in tune.space:
            raise InputError(f"training.{setting}: the trials of a search know no earlier model; leave it out")
    if "training.ensemble" in tune.space:
        raise InputError(
            "tune.space.training.ensemble: each trial trains a single model; set training.ensemble for what is trained "
            "after the search, and compare sizes with `mtl-ray compare`"
        )
    grace = tune.scheduler.first_epochs
    if grace > experiment.training.epochs:
        raise InputError(
            f"tune.scheduler.grace: expected at most training.epochs, {experiment.training.epochs}; found {grace}"
        )
    if tune.algorithm.is_population and not experiment.balancing.uses_declared_weights:
        raise InputError(
            f"tune.algorithm: `{tune.algorithm.kind}` changes static task weights; expected balancing.kind `static`, "
            f"found `{experiment.balancing.kind}`"
        )
    if isinstance(experiment.training.num_workers, ElasticConfig):
        raise InputError(
            "training.num_workers: a search grows and shrinks by its trials; expected a number of workers of each, "
            "found min and max"
        )
    halting = {"algorithm": tune.algorithm} if tune.algorithm.is_population else {}
    halting |= {"scheduler": tune.scheduler} if tune.scheduler.pauses_trials else {}
    for place, section in halting.items():
        if experiment.training.most_workers > 1:
            raise InputError(
                f"tune.{place}: `{section.kind}` halts trials on the way, which those of several workers cannot; "
                f"expected training.num_workers 1, found {experiment.training.num_workers}"
            )
    left_out = set(_names_of(experiment, tune.space.get("tasks")))
    for place, key in [("objectives", key) for key in tune.objectives] + [
        (f"constraints.{n}.metric", c.metric) for n, c in enumerate(tune.constraints)
    ]:
        check_metric(experiment, key, f"tune.{place}")
        if key.split("/")[1] in left_out:
            raise InputError(f"tune.space.tasks: tasks.{key.split('/')[1]} cannot be left out, `{key}` is its metric")
    _probe(experiment, parameters_of(experiment))


def check_metric(experiment: Experiment, key: str, where: str) -> None:
    """Raise InputError if trials have no such metric, or if it does not tell better from worse."""
    named = ["", *(f"/{segment.name}" for segment in segments(experiment.evaluation.support_buckets))]
    known = []
    for name, task in experiment.tasks.items():
        known += [f"valid/{name}/loss"] if not task.compares_rows else []  # it has none on validation rows
        known += [f"valid/{name}/{metric}{segment}" for metric in directed_metrics(task) for segment in named]
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"tasks are {', '.join(experiment.tasks)}"
        raise InputError(f"{where}: expected a key valid/TASK/METRIC[/SEGMENT] of this file; found `{key}`; {hint}")


def _auxiliary(experiment: Experiment) -> list[str]:
    named = {key.split("/")[1] for key in tune_of(experiment).objectives}
    return [name for name in experiment.tasks if name not in named]


def _names_of(experiment: Experiment, entry: EntryConfig | None) -> list[str]:
    """Return the tasks of a `simplex` or a `subset`."""
    if not isinstance(entry, SimplexConfig | SubsetConfig):
        return []
    names = list(entry.of) or (list(experiment.tasks) if isinstance(entry, SimplexConfig) else _auxiliary(experiment))
    for name in names:
        if name not in experiment.tasks:
            raise InputError(
                f"tune.space.tasks: expected tasks of this file ({', '.join(experiment.tasks)}); found `{name}`"
            )
    if not names:
        raise InputError("tune.space.tasks: expected auxiliary tasks, which no objective names; found none")
    return names


def _holds(when: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    for path, wanted in when.items():
        node: Any = settings
        for key in path.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        if node not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


def _probe(experiment: Experiment, parameters: Mapping[str, Domain]) -> None:
    """Make experiments of trials until every end, one value between and every choice has occurred."""
    generator = random.Random(0)  # noqa: S311 - no secret
    probes = {name: _probes(domain) for name, domain in parameters.items()}
    missing = {(name, probe) for name, own in probes.items() for probe in own}

    def draw(name: str, _: Domain) -> Any:
        own = [probe for probe in probes[name] if (name, probe) in missing] or probes[name]
        probe = generator.choice(own)
        missing.discard((name, probe))
        return probe

    for count in range(MAX_PROBES):
        if count >= MIN_PROBES and not missing:
            return
        trial_experiment(experiment, changes_of(experiment, draw))
    name = min(name for name, _ in missing)
    raise InputError(f"tune.space.{name}: never searched, since its `when` never holds: see its paths and values")


def _probes(domain: Domain) -> list[Any]:
    match domain:
        case ChoiceConfig():
            return list(domain.values)
        case RandIntConfig():
            return [domain.low, domain.high]
        case _:
            return [domain.low, domain.high, domain.low + 0.618 * (domain.high - domain.low)]
