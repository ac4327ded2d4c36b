"""`make quality`: the default recipe on data sets that nobody tuned it on, beside references on the same rows.

    python -m tests.quality.run [--quick] [--only TEXT] [--folds N]

Each training is written to `build/quality/` when it is done, so that a command that was stopped goes on. The table is
`docs/results/quality.md`.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtl_ray.config import Experiment, override, parse
from mtl_ray.config.tasks import is_higher_better
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.evaluation.evaluate import segment_metrics
from mtl_ray.runs.choose_epochs import training_of
from mtl_ray.tasks.base import build_task
from mtl_ray.training.single_process import Training, run_single_process
from tests.quality.data_sets import DataSet, data_sets
from tests.quality.references import biases, factorisation_machine, rows_of, trees

ROOT = Path(__file__).parents[2]
BUILD, RESULT = ROOT / "build/quality", ROOT / "docs/results/quality.md"
MODEL, ENSEMBLE, ALONE, REFERENCES = (
    "model",
    "ensemble of 5",
    "one task",
    ("constant", "bias", "lightgbm", "factorisation machine"),
)
Metrics = dict[str, float]


def trained(experiment: Experiment) -> Metrics:
    """Train with the default recipe; return the metrics of the test rows."""
    training = training_of(experiment, prepare)
    trees = [plain(each) for each in (training, training.on_holdout) if each]
    result = run_single_process(*trees[0], "test", None, 1, trees[1] if len(trees) > 1 else None)
    return result["metrics"] | {"epochs": len(result["history"])}


def plain(training: Training) -> tuple[dict[str, Any], str]:
    """Return a training as `run_single_process` takes it."""
    return training.experiment.model_dump(mode="json", exclude_unset=True), training.prepared.folder.location


def ensemble(experiment: Experiment) -> Metrics:
    """Train five members with the default recipe; return the metrics of the test rows."""
    return trained(override(experiment, {"training.ensemble": 5}))


def one_task(experiment: Experiment) -> Metrics:
    """Train each task by itself; return the metrics of all."""
    found: Metrics = {}
    for name in experiment.tasks:
        others = {f"tasks.{other}": None for other in experiment.tasks if other != name}
        found |= {key: v for key, v in trained(override(experiment, others)).items() if f"/{name}/" in key}
    return found


def references(experiment: Experiment, method: str) -> Metrics:
    """Return the metrics of the test rows of a method that is no model of ours, for the tasks that it goes with."""
    training = training_of(experiment, prepare)
    experiment, schema = training.experiment, training.prepared.schema
    train, test = rows_of(training, "train"), rows_of(training, "test")
    found: Metrics = {}
    for name, spec in experiment.tasks.items():
        ids = all(experiment.features[key].is_input for key in (experiment.user, experiment.item))
        by_ids = method in ("bias", "factorisation machine")
        if not spec.predicts_number or (by_ids and (not ids or spec.masked_input)):
            continue
        if method == "factorisation machine" and spec.kind != "regression":
            continue
        made: dict[str, Callable[[], np.ndarray]] = {
            "constant": lambda name=name: np.full(len(test["row"]), schema.tasks[name].mean),
            "bias": lambda name=name: biases(experiment, name, train, test),
            "lightgbm": lambda name=name: trees(experiment, name, train, test, experiment.seed),
            "factorisation machine": lambda name=name: factorisation_machine(
                experiment, name, train, test, experiment.seed
            ),
        }
        prediction = torch.from_numpy(np.asarray(made[method](), float))
        if spec.kind == "binary":
            prediction = prediction.clamp(1e-4, 1 - 1e-4)
        elif (limits := getattr(spec, "range", None)) is not None:
            prediction = prediction.clamp(*limits)
        heads = {name: build_task(spec, schema.tasks[name])}
        found |= segment_metrics(heads, test | {name: prediction}, "test", experiment.evaluation.support_buckets)
    return found


def cell(name: str, tree: dict[str, Any], method: str, file: str) -> str:
    """Do one training, or one reference, in a process of its own; returns a line."""
    torch.set_num_threads(1)
    began, experiment = time.monotonic(), parse(tree, name)
    work = {MODEL: trained, ENSEMBLE: ensemble, ALONE: one_task}.get(method, lambda own: references(own, method))
    try:
        metrics = work(experiment)
    except ImportError as error:
        return f"{name}, {method}: left out, {error}"
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(json.dumps({"metrics": metrics, "seconds": time.monotonic() - began}))
    return f"{name}, {method}: {time.monotonic() - began:.0f} s"


def cells(data_set: DataSet, num_folds: int) -> Iterator[tuple[str, dict[str, Any], str, Path]]:
    """Yield the title, the settings, the method and the file of everything that is measured on a data set."""
    methods = [MODEL, *REFERENCES, *([ALONE] if len(data_set.tree["tasks"]) > 1 else [])]
    methods += [ENSEMBLE] if data_set.with_ensemble else []
    for fold, changes in list(data_set.folds.items())[:num_folds]:
        tree = {"name": "quality", **data_set.tree}
        experiment = override(parse(tree, data_set.name), {**changes, "data.output": str(BUILD / "datasets")})
        for method in methods:
            file = BUILD / data_set.name.replace(" ", "_") / f"{fold or 'all'}-{method.replace(' ', '_')}.json"
            yield f"{data_set.name} {fold}", experiment.model_dump(mode="json", exclude_unset=True), method, file


def table(sets: Mapping[str, DataSet]) -> str:
    """Return the results that are there, as Markdown: a row for each data set and metric."""
    lines = [
        f"| data | metric | {MODEL} | {ENSEMBLE} | {ALONE} | {' | '.join(REFERENCES)} | folds or seeds |",
        f"|---|---|{'---|' * (4 + len(REFERENCES))}",
    ]
    for name, data_set in sets.items():
        found: dict[str, dict[str, Metrics]] = {}
        for title, _, method, file in cells(data_set, 99):
            if file.exists():
                found.setdefault(method, {})[title] = json.loads(file.read_text())["metrics"]
        for metric in data_set.metrics:
            columns = [_value(found.get(method, {}), metric) for method in (MODEL, ENSEMBLE, ALONE, *REFERENCES)]
            if columns[0] != "-":
                better = "higher" if is_higher_better(f"test/{metric}") else "lower"
                row = [name, f"{metric}, {better} is better", *columns, str(len(found[MODEL]))]
                lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _value(of_folds: Mapping[str, Metrics], metric: str) -> str:
    values = [metrics[f"test/{metric}"] for metrics in of_folds.values() if f"test/{metric}" in metrics]
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def main() -> None:
    """Measure what is not measured yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="only what takes some minutes")
    parser.add_argument("--only", default="", help="data sets whose name has this text")
    parser.add_argument("--folds", type=int, default=5, help="folds or seeds of each data set")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    root = os.environ.get("MTL_RAY_TEST_DATA")
    if not root:
        raise InputError("make quality: MTL_RAY_TEST_DATA does not name the folder of the real data sets")
    BUILD.mkdir(parents=True, exist_ok=True)
    makers = data_sets(Path(root), BUILD, quick=options.quick)
    sets = {name: make() for name, make in makers.items() if options.only in name}
    folds = 1 if options.quick else options.folds
    todo = [each for data_set in sets.values() for each in cells(data_set, folds) if not each[3].exists()]
    # A data set is prepared once, by the first of its cells, not by two at a time.
    for _, tree, method, _ in todo:
        if method == MODEL:
            training_of(parse(tree, "quality"), prepare)
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(cell, *each[:3], str(each[3])) for each in todo]):
            print(done.result(), flush=True)
    text = table(sets)
    print(text)
    if not options.only:
        RESULT.write_text(HEAD + (QUICK if options.quick else "") + text + "\n")


HEAD = """# The default recipe on many data sets

A file with a log, its features and its tasks, and not a word about the model and training: what comes out, beside
references on the same rows. Means and deviations over the folds of a protocol or over seeds. `one task` is the same
recipe for each task by itself. `bias` has shrunken biases of user and item; `lightgbm` attributes, target statistics
and words by tf-idf; the `factorisation machine` is Bayesian, over ids, implicit sets and attributes (myfm).

Command: `make quality` (some hours), `make quality QUICK=1` (a part of it). The data sets are in
`tests/quality/data_sets.py`.

"""

QUICK = """These are the numbers of `make quality QUICK=1`: one fold or seed each, so differences of some
thousandths may be chance.

"""

if __name__ == "__main__":
    main()
